//! Webhooks: Alertmanager's payload, version 4, and what an answer means.

mod resolver;

use std::sync::Arc;
use std::time::Duration;

use model::Labels;
use rules::Webhook;
use serde_json::{Value, json};

use crate::store::{Lane, Owed};
use crate::text;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a refusal is kept for the ledger.
const REASON_BYTES_MAX: usize = 512;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The receiver has it.
    Delivered(u16),
    /// It may succeed later; not before the pause, if the receiver asked for one.
    Later { status: Option<u16>, reason: String, pause: Option<Duration> },
    /// The receiver will never take it.
    Refused { status: Option<u16>, reason: String },
}

/// The client for all webhooks. It does not follow redirects: a notification goes where it was sent or nowhere.
pub(crate) fn client() -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(resolver::Guarded))
        .user_agent(concat!("weir/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// Sends one payload.
pub(crate) async fn send(client: &reqwest::Client, webhook: &Webhook, payload: &Value, now_ms: i64) -> Answer {
    let timeout = Duration::from_millis(webhook.timeout_ms.unsigned_abs());
    let mut request = client.post(&webhook.url).timeout(timeout).json(payload);
    for (name, value) in &webhook.headers {
        request = request.header(name, value);
    }
    match request.send().await {
        Ok(response) => answer(response, now_ms).await,
        // What cannot even be made into a request will not become better.
        Err(e) if e.is_builder() => Answer::Refused { status: None, reason: reason(e) },
        Err(e) => Answer::Later { status: None, reason: reason(e), pause: None },
    }
}

async fn answer(mut response: reqwest::Response, now_ms: i64) -> Answer {
    let status = response.status();
    let code = status.as_u16();
    if status.is_success() {
        return Answer::Delivered(code);
    }
    let header = response.headers().get("retry-after").and_then(|v| v.to_str().ok());
    let pause = header.and_then(|text| retry_after(text, now_ms));
    let body = response.chunk().await.ok().flatten().unwrap_or_default();
    let body = String::from_utf8_lossy(&body[..body.len().min(REASON_BYTES_MAX)]).trim().to_owned();
    let reason = if body.is_empty() { format!("status {status}") } else { format!("status {status}: {body}") };
    if status.is_server_error() || matches!(code, 408 | 425 | 429) {
        Answer::Later { status: Some(code), reason, pause }
    } else {
        Answer::Refused { status: Some(code), reason }
    }
}

/// The error and its causes, without the URL, which may be secret.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(e) = cause {
        text = format!("{text}: {e}");
        cause = e.source();
    }
    text.chars().take(REASON_BYTES_MAX).collect()
}

/// `Retry-After`: seconds, or a date such as `Sun, 06 Nov 1994 08:49:37 GMT`.
fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse::<u32>() {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let parts: Vec<&str> = text.split([' ', ':']).collect();
    let [_, day, month, year, hour, minute, second, "GMT"] = parts.as_slice() else { return None };
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = MONTHS.iter().position(|m| m == month)? as i64;
    let number = |text: &str| text.parse::<i64>().ok().filter(|n| (0..10_000).contains(n));
    let (day, year) = (number(day)?, number(year)?);
    // Days of the year by its civil calendar: the guess is at most two days early.
    let guess = (year - 1970) * 365 + (year - 1969) / 4 - 25 + month * 30 + day;
    let wanted = (year, month as u32 + 1, day as u32);
    let days = (guess..guess + 60).find(|d| rules::rule::civil(*d) == wanted)?;
    let at_ms = (days * 86_400 + number(hour)? * 3600 + number(minute)? * 60 + number(second)?) * 1000;
    Some(Duration::from_millis((at_ms - now_ms).max(0).unsigned_abs()))
}

/// Alertmanager's payload for notifications of one lane.
pub(crate) fn payload(lane: &Lane, owed: &[Owed], external_url: &str) -> Value {
    let firing = owed.iter().any(|o| o.firing);
    let name = owed.first().map_or("", |o| o.alertname.as_str());
    let alerts: Vec<Value> = owed.iter().map(alert).collect();
    json!({
        "version": "4",
        "groupKey": format!("{{rule={:?}}}:{{alertname={name:?}}}", lane.rule),
        "truncatedAlerts": 0,
        "status": if firing { "firing" } else { "resolved" },
        "receiver": lane.channel,
        "groupLabels": { "alertname": name },
        "commonLabels": common(owed.iter().map(|o| &o.labels)),
        "commonAnnotations": common(owed.iter().map(|o| &o.annotations)),
        "externalURL": external_url,
        "alerts": alerts,
    })
}

fn alert(owed: &Owed) -> Value {
    json!({
        "status": if owed.firing { "firing" } else { "resolved" },
        "labels": text::labels(&owed.labels),
        "annotations": text::labels(&owed.annotations),
        "startsAt": text::time(owed.starts_at_ms),
        "endsAt": if owed.firing { text::TIME_ZERO.to_owned() } else { text::time(owed.ends_at_ms) },
        "generatorURL": owed.generator_url,
        "fingerprint": format!("{:016x}", owed.labels.as_ref().hash64()),
    })
}

/// The pairs that all sets have.
fn common<'a>(mut sets: impl Iterator<Item = &'a Labels>) -> Value {
    let first = sets.next().cloned().unwrap_or_else(Labels::empty);
    let common = sets.fold(first, |common, set| common.retain(|name| set.get(name) == common.get(name)));
    text::labels(&common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(id: i64, firing: bool, instance: &str) -> Owed {
        Owed {
            id,
            alertname: "Down".to_owned(),
            generator_url: "http://w/graph".to_owned(),
            firing,
            labels: Labels::new(&[("alertname", "Down"), ("instance", instance)]).expect("valid"),
            annotations: Labels::new(&[("summary", "down")]).expect("valid"),
            starts_at_ms: 1000,
            ends_at_ms: if firing { 0 } else { 2500 },
            created_at_ms: 0,
            attempts: 0,
        }
    }

    #[test]
    fn the_payload_is_that_of_alertmanager() {
        let lane = Lane { channel: "pager".to_owned(), rule: "f;g;Down".to_owned() };
        let payload = payload(&lane, &[owed(1, true, "a"), owed(2, false, "b")], "http://w");
        let expect = json!({
            "version": "4",
            "groupKey": "{rule=\"f;g;Down\"}:{alertname=\"Down\"}",
            "truncatedAlerts": 0,
            "status": "firing",
            "receiver": "pager",
            "groupLabels": {"alertname": "Down"},
            "commonLabels": {"alertname": "Down"},
            "commonAnnotations": {"summary": "down"},
            "externalURL": "http://w",
            "alerts": [
                {"status": "firing", "labels": {"alertname": "Down", "instance": "a"}, "annotations": {"summary": "down"},
                 "startsAt": "1970-01-01T00:00:01Z", "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://w/graph",
                 "fingerprint": payload["alerts"][0]["fingerprint"]},
                {"status": "resolved", "labels": {"alertname": "Down", "instance": "b"}, "annotations": {"summary": "down"},
                 "startsAt": "1970-01-01T00:00:01Z", "endsAt": "1970-01-01T00:00:02.5Z", "generatorURL": "http://w/graph",
                 "fingerprint": payload["alerts"][1]["fingerprint"]},
            ],
        });
        assert_eq!(payload, expect);
        assert_eq!(payload["alerts"][0]["fingerprint"].as_str().map(str::len), Some(16));
        assert_eq!(super::payload(&lane, &[owed(2, false, "b")], "")["status"], "resolved");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let at_ms = 784_111_777_000;
        for (text, seconds) in [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800 - 784_111_777)),
            ("Fri, 30 Feb 2024 00:00:00 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            assert_eq!(retry_after(text, at_ms), seconds.map(Duration::from_secs), "{text}");
        }
    }
}
