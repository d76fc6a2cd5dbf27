//! `/api/v1/status/active_queries` and `/api/v1/status/top_queries`: the queries that are there, the end of one of them, and the queries of late. The orders and
//! names of the latter are those of VictoriaMetrics; its frame is that of Prometheus, as everywhere.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Response, StatusCode, Uri, header};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::active::Shown;
use crate::api::Api;
use crate::asked::Asked;
use crate::error::Error;
use crate::respond::{Answer, data, error_response, response};
use crate::time::{parse_duration_ms, parse_integer};
use crate::top;

/// Active queries that are shown, those that are there longest: an answer of some megabytes with the longest texts.
const SHOWN_MAX: usize = 1000;
/// Queries in each list where nothing else is asked for, and at most.
const TOP_DEFAULT: usize = 20;
const TOP_MAX: i64 = 1000;
/// How long ago a query may have ended where nothing else is asked for.
const AGE_MAX_MS: i64 = 600_000;

/// `GET /api/v1/status/active_queries`.
pub(crate) fn active(api: &Api) -> Bytes {
    let (first, all) = api.executor.active().shown(SHOWN_MAX);
    let mut answer = Answer::new();
    let list = Value::from(first.iter().map(shown).collect::<Vec<_>>());
    answer.out.extend_from_slice(list.to_string().as_bytes());
    if all > first.len() {
        answer.warnings.push(format!("{} more active queries are not shown", all - first.len()));
    }
    answer.finish()
}

/// `DELETE /api/v1/status/active_queries/<id>`. Not for pages of other origins: a browser does not let them send this method, and what says that it comes from
/// one is refused.
pub(crate) async fn cancel(State(api): State<Arc<Api>>, Path(id): Path<String>, request: Request) -> Response<Body> {
    if is_of_other_origin(request.headers(), request.uri()) {
        let message = "a page of another origin may not cancel queries";
        return error_response(StatusCode::FORBIDDEN, "forbidden", message);
    }
    response(match api.executor.active().stop(&id) {
        Some(one) => Ok(data(&shown(&one).to_string())),
        None => Err(Error::NotFound(format!("there is no active query {id:?}"))),
    })
}

/// Whether a browser says that a page made the request which is not of this address. HTTP/2 has the address in its URI, and no header for it.
fn is_of_other_origin(headers: &HeaderMap, uri: &Uri) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let authority = |text: &str| text.parse::<Authority>().ok();
    let origin = origin.to_str().ok().and_then(|text| authority(text.split_once("://")?.1));
    let host = match headers.get(header::HOST) {
        Some(host) => host.to_str().ok().and_then(authority),
        None => uri.authority().cloned(),
    };
    origin.is_none() || origin != host
}

fn shown(one: &Shown) -> Value {
    let seconds = |ms: i64| ms as f64 / 1000.0;
    let mut out = json!({
        "id": one.id,
        "kind": one.subject.kind,
        "query": &*one.subject.text,
        "stage": one.stage,
        "duration_seconds": one.age.as_secs_f64(),
        "samples_read": one.samples_read,
        "memory_bytes": one.memory_bytes,
    });
    if let Some(times) = one.subject.times {
        out["start"] = json!(seconds(times.start_ms));
        out["end"] = json!(seconds(times.end_ms));
        out["step"] = json!(seconds(times.step_ms));
    }
    if let Some(peer) = one.subject.peer {
        out["remote_addr"] = json!(peer.to_string());
    }
    out
}

/// `/api/v1/status/top_queries`.
pub(crate) async fn top(api: Arc<Api>, form: Asked) -> Result<Bytes, Error> {
    let n = match form.get("topN") {
        "" => TOP_DEFAULT,
        text => match parse_integer(text).map_err(|e| Error::parameter("topN", e))? {
            n @ 1..=TOP_MAX => n as usize,
            _ => return Err(Error::parameter("topN", format_args!("must be from 1 to {TOP_MAX}"))),
        },
    };
    let age_max_ms = match form.get("maxLifetime") {
        "" => AGE_MAX_MS,
        text => match parse_duration_ms(text).map_err(|e| Error::parameter("maxLifetime", e))? {
            ms if ms > 0 => ms,
            _ => return Err(Error::parameter("maxLifetime", "must be longer than zero")),
        },
    };
    let lists = api.executor.top().lists(n, age_max_ms);
    let question = |asked: &top::Asked| {
        let top::Question { kind, text, range_seconds } = &*asked.question;
        json!({"kind": kind, "query": &**text, "timeRangeSeconds": range_seconds, "count": asked.count})
    };
    let timed = |asked: &top::Asked, name: &str, seconds: f64| {
        let mut out = question(asked);
        out[name] = json!(seconds);
        out
    };
    let average = |asked: &top::Asked| timed(asked, "avgDurationSeconds", asked.average().as_secs_f64());
    let sum = |asked: &top::Asked| timed(asked, "sumDurationSeconds", asked.took.as_secs_f64());
    let out = json!({
        "topN": n,
        "maxLifetime": model::time::format_duration_ms(age_max_ms),
        "topByCount": lists.by_count.iter().map(question).collect::<Vec<_>>(),
        "topByAvgDuration": lists.by_average.iter().map(average).collect::<Vec<_>>(),
        "topBySumDuration": lists.by_sum.iter().map(sum).collect::<Vec<_>>(),
    });
    Ok(data(&out.to_string()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_page_is_of_another_origin_unless_it_came_from_this_address() {
        let is = |origin: &'static str, host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            headers.insert(header::HOST, HeaderValue::from_static(host));
            is_of_other_origin(&headers, &Uri::from_static("/x"))
        };
        assert!(!is("http://weir.example:9360", "weir.example:9360"));
        assert!(!is("https://Weir.example", "weir.example"));
        assert!(is("http://weir.example:9361", "weir.example:9360"));
        assert!(is("http://elsewhere.example", "weir.example"));
        assert!(is("null", "weir.example"));
        assert!(is("null", ""));
        assert!(!is_of_other_origin(&HeaderMap::new(), &Uri::from_static("/x")));
        let by_http2 = |origin: &'static str, uri: &'static str| {
            let headers = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))]);
            is_of_other_origin(&headers, &Uri::from_static(uri))
        };
        assert!(!by_http2("https://weir.example:9360", "https://weir.example:9360/x"));
        assert!(by_http2("https://elsewhere.example", "https://weir.example:9360/x"));
        assert!(by_http2("https://weir.example", "/x"));
    }
}
