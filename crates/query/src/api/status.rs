//! `/api/v1/status/…` and the endpoints for what Weir has none of.
//!
//! Only what is true is said. A field of Prometheus that has no counterpart is empty or left out, and so is an endpoint whose answer would be
//! made up; it is then a 404, with which the tools that ask for it cope.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::timestamp::format_rfc3339;
use tokio::runtime::Handle;

use crate::api::Api;
use crate::asked::Asked;
use crate::error::Error;
use crate::number::write_string;
use crate::respond::{Answer, data};
use crate::time::parse_integer;

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

/// `/api/v1/status/runtimeinfo`. What is Go's in Prometheus is here what stands for it: tasks for goroutines, threads that evaluate, the memory of the process; the two
/// variables of Go's environment are not read, so they are empty. The configuration is the arguments, which were read at the start; a log that is damaged stops the
/// process, so one that answers has met no damage. Rules that are read again have metrics of their own.
pub(crate) fn runtime_info(api: &Api) -> Bytes {
    let started = format_rfc3339(api.started_ms);
    let directory = std::env::current_dir().unwrap_or_default();
    let mut answer = Answer::new();
    let out = &mut answer.out;
    let text = |out: &mut Vec<u8>, name: &str, value: &str| {
        out.extend_from_slice(format!("{}\"{name}\":", if name == "startTime" { '{' } else { ',' }).as_bytes());
        write_string(out, value);
    };
    let number = |out: &mut Vec<u8>, name: &str, value: u64| {
        out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
    };
    text(out, "startTime", &started);
    text(out, "CWD", &directory.to_string_lossy());
    text(out, "hostname", &runtime::process::hostname());
    text(out, "serverTime", &format_rfc3339((api.now_ms)()));
    out.extend_from_slice(b",\"reloadConfigSuccess\":true");
    text(out, "lastConfigTime", &started);
    number(out, "corruptionCount", 0);
    number(out, "goroutineCount", Handle::current().metrics().num_alive_tasks() as u64);
    number(out, "GOMAXPROCS", api.executor.threads() as u64);
    // The largest number that Go has stands for no limit.
    number(out, "GOMEMLIMIT", api.about.memory_bytes_max.min(i64::MAX.unsigned_abs()));
    text(out, "GOGC", "");
    text(out, "GODEBUG", "");
    text(out, "storageRetention", &api.about.retention);
    out.push(b'}');
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

/// `/api/v1/targets/metadata`: nothing is scraped, and of no target is anything known. What clients said is under `/api/v1/metadata`.
pub(crate) async fn targets_metadata(api: Arc<Api>, form: Asked) -> Result<Bytes, Error> {
    if !form.get("limit").is_empty() {
        parse_integer(form.get("limit")).map_err(|_| Error::Request("limit must be a number".to_owned()))?;
    }
    if !form.get("match_target").is_empty() {
        promql::parse_selector(form.get("match_target"), &api.args.features)
            .map_err(|e| Error::parameter("match_target", e))?;
    }
    Ok(data("[]"))
}

/// `/api/v1/scrape_pools/config`: there is no pool.
pub(crate) async fn scrape_pool_config(_: Arc<Api>, form: Asked) -> Result<Bytes, Error> {
    Err(no_pool(form.get("scrapePool")))
}

/// `/api/v1/targets/relabel_steps`: there is no pool.
pub(crate) async fn relabel_steps(_: Arc<Api>, form: Asked) -> Result<Bytes, Error> {
    let (pool, labels) = (form.get("scrapePool"), form.get("labels"));
    if !pool.is_empty() {
        if labels.is_empty() {
            return Err(Error::Request("no labels parameter provided".to_owned()));
        }
        let read = serde_json::from_str::<BTreeMap<String, String>>(labels);
        read.map_err(|e| Error::Request(format!("error parsing labels: {e}")))?;
    }
    Err(no_pool(pool))
}

fn no_pool(name: &str) -> Error {
    Error::Request(match name {
        "" => "no scrapePool parameter provided".to_owned(),
        name => format!("error retrieving scrape config: scrape pool {name:?} not found"),
    })
}

/// `/api/v1/status/walreplay`: the log has been read when this answers; before, everything is a 503.
pub(crate) fn wal_replay() -> Bytes {
    data("{\"min\":0,\"max\":0,\"current\":0}")
}

/// `/api/v1/alertmanagers`: Weir sends notifications itself.
pub(crate) fn alertmanagers() -> Bytes {
    data("{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}")
}
