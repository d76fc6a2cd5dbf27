//! The arguments of the alerting component.

use std::path::PathBuf;
use std::time::Duration;

use model::Budget;

/// How alerts are found and told.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// A rule file or a folder of them: AlertRule and NotificationChannel documents, and rule files in Prometheus' format. Reloaded
    /// when it changes.
    #[arg(long, env = "WEIR_RULES", value_name = "PATH")]
    pub rules: Option<PathBuf>,
    /// Address under which people reach Weir; links in notifications begin with it.
    #[arg(long, env = "WEIR_ALERTING_EXTERNAL_URL", value_name = "URL", default_value = "http://localhost:9360")]
    pub alerting_external_url: String,
    /// How often a rule is evaluated when no sample arrives, unless the rule says otherwise.
    #[arg(long, env = "WEIR_ALERTING_INTERVAL", value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub alerting_interval: Duration,
    /// A rule that looks back further than this is evaluated over storage, on its interval, and not on every sample.
    #[arg(long, env = "WEIR_ALERTING_WINDOW_MAX", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub alerting_window_max: Duration,
    /// Memory for the samples that rules look at; beyond it, rules are evaluated over storage. Without it half of alerting's share of --memory-limit, at
    /// most 512 MiB
    #[arg(long, env = "WEIR_ALERTING_WINDOW_BYTES", value_name = "BYTES",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1 << 20..))]
    pub alerting_window_bytes: Option<usize>,
    /// How many notifications are sent at the same time.
    #[arg(long, env = "WEIR_ALERTING_DELIVERIES_MAX", value_name = "N", default_value_t = 16,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1024))]
    pub alerting_deliveries_max: usize,
    /// Memory of the windows and of evaluations; without a bound unless the program that starts it gives one.
    #[arg(skip)]
    pub memory: Budget,
    /// Folder of the component's database.
    #[arg(skip)]
    pub dir: PathBuf,
    /// The experimental parts of the language that are switched on.
    #[arg(skip)]
    pub features: promql::Features,
    /// Seed of the pauses between attempts; whatever differs between processes.
    #[arg(skip)]
    pub seed: u64,
}

/// A hundred thousand series with an hour of samples each.
const WINDOW_BYTES_MAX: usize = 512 << 20;

impl Args {
    /// Bytes of the windows. What is not theirs is for evaluations.
    pub(crate) fn window_bytes_max(&self) -> usize {
        self.alerting_window_bytes.unwrap_or_else(|| (self.memory.bytes_max() / 2).min(WINDOW_BYTES_MAX))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match model::time::parse_duration_ms(text) {
        Ok(0) => Err("must be longer than zero".to_owned()),
        Ok(ms) => Ok(Duration::from_millis(ms.unsigned_abs())),
        Err(e) => Err(e.to_string()),
    }
}
