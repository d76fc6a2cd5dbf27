//! The arguments of the query component.

use std::time::Duration;

use model::Budget;

/// How queries are answered.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// A query that takes longer is stopped; a request may ask for less with `timeout=`.
    #[arg(long, env = "WEIR_QUERY_TIMEOUT", value_name = "DURATION", default_value = "2m", value_parser = duration)]
    pub query_timeout: Duration,
    /// How many queries are evaluated at the same time; others wait.
    #[arg(long, env = "WEIR_QUERY_CONCURRENCY_MAX", value_name = "N", default_value_t = 20,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    pub query_concurrency_max: usize,
    /// How many queries wait before further ones are refused with status 429.
    #[arg(long, env = "WEIR_QUERY_WAITING_MAX", value_name = "N", default_value_t = 200,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=100_000))]
    pub query_waiting_max: usize,
    /// Threads that evaluate queries; 0 takes one a core.
    #[arg(long, env = "WEIR_QUERY_THREADS", value_name = "N", default_value_t = 0,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(0..=1024))]
    pub query_threads: usize,
    /// A query that would hold more samples in memory fails.
    #[arg(long, env = "WEIR_QUERY_SAMPLES_MAX", value_name = "N", default_value_t = 50_000_000,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub query_samples_max: usize,
    /// A selector that finds more series fails.
    #[arg(long, env = "WEIR_QUERY_SERIES_MAX", value_name = "N", default_value_t = 10_000_000,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub query_series_max: usize,
    /// For how long a sample counts as the current value when no newer one came; a request may say otherwise with
    /// `lookback_delta=`.
    #[arg(long, env = "WEIR_QUERY_LOOKBACK", value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub query_lookback: Duration,
    /// Memory for answers to range queries that are kept, so that a panel which is drawn anew evaluates only new steps; at most an eighth of the memory of
    /// queries. 0 keeps none; a request has `nocache=1`.
    #[arg(long, env = "WEIR_QUERY_CACHE_BYTES", value_name = "BYTES", default_value_t = 64 << 20)]
    pub query_cache_bytes: usize,
    /// The memory of all queries together, and of their answers until they are sent; without a bound unless the program that starts it gives one.
    #[arg(skip)]
    pub memory: Budget,
    /// The experimental parts of the language that are switched on, as `--enable-feature` says.
    #[arg(skip)]
    pub features: promql::Features,
}

fn duration(text: &str) -> Result<Duration, String> {
    match model::time::parse_duration_ms(text) {
        Ok(0) => Err("must be longer than zero".to_owned()),
        Ok(ms) => Ok(Duration::from_millis(ms.unsigned_abs())),
        Err(e) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn defaults_are_those_of_prometheus_and_durations_are_in_its_notation() {
        let parse =
            |words: &[&str]| <Command as clap::Parser>::try_parse_from([&["x"], words].concat()).map(|c| c.args);
        let args = parse(&[]).expect("every argument has a default");
        assert_eq!((args.query_timeout, args.query_lookback), (Duration::from_secs(120), Duration::from_secs(300)));
        assert_eq!((args.query_concurrency_max, args.query_samples_max), (20, 50_000_000));
        let args = parse(&["--query-timeout", "1m30s"]).expect("a duration");
        assert_eq!(args.query_timeout, Duration::from_secs(90));
        for bad in ["0", "5", "-1s"] {
            assert!(parse(&["--query-lookback", bad]).is_err(), "{bad}");
        }
        assert!(parse(&["--query-concurrency-max", "0"]).is_err());
    }
}
