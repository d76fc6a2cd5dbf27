//! The arguments of the ingest component.

use std::time::Duration;

/// How much is taken in, and of which time.
#[derive(Debug, Clone, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Largest body of a write request, before and after decompression; a larger one is refused with status 413
    #[arg(long, env = "WEIR_INGEST_BODY_BYTES_MAX", value_name = "BYTES", default_value_t = 32 << 20,
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1024..=1 << 30))]
    pub ingest_body_bytes_max: usize,
    /// Memory for the bodies of all requests that are not yet durable; a request that does not fit is told to come again later.
    /// Without it their share of --memory-limit, at most 256 MiB
    #[arg(long, env = "WEIR_INGEST_INFLIGHT_BYTES_MAX", value_name = "BYTES",
          value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1 << 16..))]
    pub ingest_inflight_bytes_max: Option<usize>,
    /// A sample further ahead of this machine's clock is refused; with `--retention off` none is
    #[arg(long, env = "WEIR_INGEST_FUTURE_MAX", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub ingest_future_max: Duration,
    /// A request whose body has not come after this time is ended with status 408
    #[arg(long, env = "WEIR_INGEST_BODY_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub ingest_body_timeout: Duration,
    /// Memory of all requests together; without a bound unless the program that starts it gives one.
    #[arg(skip)]
    pub memory: model::Budget,
    /// Age in milliseconds above which a sample is refused, which is the retention; `None`, when nothing expires, refuses
    /// none, neither too old nor too new.
    #[arg(skip)]
    pub sample_age_max_ms: Option<i64>,
}

fn duration(text: &str) -> Result<Duration, String> {
    match model::time::parse_duration_ms(text) {
        Ok(0) => Err("must be longer than zero".to_owned()),
        Ok(ms) => Ok(Duration::from_millis(ms.unsigned_abs())),
        Err(e) => Err(e.to_string()),
    }
}

/// The times that samples may have, in Unix milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) oldest_ms: i64,
    pub(crate) newest_ms: i64,
}

impl Window {
    /// Every time.
    pub(crate) const ALL: Window = Window { oldest_ms: i64::MIN, newest_ms: i64::MAX };
}

/// More than a second of what a disk takes is of no use in flight.
const INFLIGHT_BYTES_MAX: usize = 256 << 20;

impl Args {
    /// Bytes of requests in flight.
    pub(crate) fn inflight_bytes_max(&self) -> usize {
        self.ingest_inflight_bytes_max.unwrap_or_else(|| self.memory.bytes_max().min(INFLIGHT_BYTES_MAX))
    }

    /// The times that are taken at this one.
    pub(crate) fn window(&self, now_ms: i64) -> Window {
        let Some(age_ms) = self.sample_age_max_ms else { return Window::ALL };
        let future_ms = i64::try_from(self.ingest_future_max.as_millis()).unwrap_or(i64::MAX);
        Window { oldest_ms: now_ms.saturating_sub(age_ms), newest_ms: now_ms.saturating_add(future_ms) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    pub(crate) fn parse(words: &[&str]) -> Result<Args, clap::Error> {
        <Command as clap::Parser>::try_parse_from([&["x"], words].concat()).map(|c| c.args)
    }

    #[test]
    fn every_argument_has_a_default_and_nonsense_is_refused() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.ingest_body_bytes_max, args.ingest_future_max), (32 << 20, Duration::from_secs(600)));
        assert_eq!(args.sample_age_max_ms, None);
        for bad in [["--ingest-future-max", "0"], ["--ingest-body-bytes-max", "1"], ["--ingest-body-timeout", "5"]] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn window_is_open_when_nothing_expires() {
        let mut args = parse(&[]).unwrap();
        assert_eq!(args.window(5).oldest_ms, i64::MIN);
        assert_eq!(args.window(5).newest_ms, i64::MAX);
        args.sample_age_max_ms = Some(1000);
        assert_eq!((args.window(5000).oldest_ms, args.window(5000).newest_ms), (4000, 605_000));
    }
}
