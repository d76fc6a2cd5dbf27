//! `/api/v1/status/…` and the endpoints for what Weir has none of.
//!
//! Only what is true is said. A field of Prometheus that has no counterpart is left out, and so is an endpoint whose answer would be
//! made up; it is then a 404, with which the tools that ask for it cope.

use bytes::Bytes;
use model::timestamp::format_rfc3339;

use crate::api::Api;
use crate::number::{write_integer, write_string};
use crate::respond::{Answer, data};

/// The version of Prometheus whose API this is. Grafana compares it with the versions in which endpoints and parameters came, so
/// it is not Weir's own version, which is in `revision`. There is no `features` and no `application`: Grafana takes their presence for Mimir.
const API_VERSION: &str = "3.16.0";

/// `/api/v1/status/buildinfo`.
pub(crate) fn build_info() -> Bytes {
    data(&format!(
        "{{\"version\":\"{API_VERSION}\",\"revision\":\"weir-{}\",\"branch\":\"\",\"buildUser\":\"\",\"buildDate\":\"\",\"goVersion\":\"\"}}",
        env!("CARGO_PKG_VERSION")
    ))
}

/// `/api/v1/status/runtimeinfo`.
pub(crate) fn runtime_info(api: &Api) -> Bytes {
    let mut answer = Answer::new();
    answer.out.extend_from_slice(b"{\"startTime\":");
    write_string(&mut answer.out, &format_rfc3339(api.started_ms));
    if let Ok(directory) = std::env::current_dir() {
        answer.out.extend_from_slice(b",\"CWD\":");
        write_string(&mut answer.out, &directory.to_string_lossy());
    }
    answer.out.extend_from_slice(b",\"serverTime\":");
    write_string(&mut answer.out, &format_rfc3339((api.now_ms)()));
    answer.out.extend_from_slice(b",\"GOMAXPROCS\":");
    write_integer(&mut answer.out, api.executor.threads() as u64);
    answer.out.push(b'}');
    answer.finish()
}

/// `/api/v1/status/flags`: the flags of Prometheus that have a counterpart here, by its names, since tools look for those.
pub(crate) fn flags(api: &Api) -> Bytes {
    let duration = |d: std::time::Duration| model::time::format_duration_ms(d.as_millis() as i64);
    let args = &api.args;
    data(&format!(
        "{{\"query.lookback-delta\":\"{}\",\"query.max-concurrency\":\"{}\",\"query.max-samples\":\"{}\",\"query.timeout\":\"{}\"}}",
        duration(args.query_lookback),
        args.query_concurrency_max,
        args.query_samples_max,
        duration(args.query_timeout)
    ))
}

/// `/api/v1/status/config`: there is no configuration file in Prometheus' format, which is what this would show.
pub(crate) fn config() -> Bytes {
    data("{\"yaml\":\"{}\\n\"}")
}

/// `/api/v1/targets`: nothing is scraped.
pub(crate) fn targets() -> Bytes {
    data("{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}")
}

/// `/api/v1/scrape_pools`: nothing is scraped.
pub(crate) fn scrape_pools() -> Bytes {
    data("{\"scrapePools\":[]}")
}

/// `/api/v1/alertmanagers`: Weir sends notifications itself.
pub(crate) fn alertmanagers() -> Bytes {
    data("{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}")
}
