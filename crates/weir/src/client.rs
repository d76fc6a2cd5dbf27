//! The client of Weir's HTTP API that the commands share.

use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

/// Longer than the longest query by default, so that the server's own limit is what is reported.
const TIMEOUT: Duration = Duration::from_secs(150);

/// A client of one Weir.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    base: String,
    http: reqwest::Client,
    token: Option<runtime::Token>,
}

/// The answer to a request, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.text).ok()
    }

    /// The whole answer, where it says that it succeeded.
    fn success(&self) -> anyhow::Result<Value> {
        match self.json() {
            Some(json) if json["status"] == "success" => Ok(json),
            _ => bail!(self.reason()),
        }
    }

    /// The reason of a failure, in the words of the server.
    fn reason(&self) -> String {
        let json = self.json().unwrap_or_default();
        match (json["errorType"].as_str(), json["error"].as_str()) {
            (Some(kind), Some(error)) => format!("{kind}: {error}"),
            (None, Some(error)) => error.to_owned(),
            _ => format!("status {}: {}", self.status, self.text.trim()),
        }
    }
}

impl Client {
    pub(crate) fn new(url: &str) -> anyhow::Result<Self> {
        let base = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        let http =
            reqwest::Client::builder().timeout(TIMEOUT).pool_idle_timeout(runtime::listener::CLIENT_IDLE).build()?;
        Ok(Client { base: base.trim_end_matches('/').to_owned(), http, token: None })
    }

    /// Shows a token with every request.
    pub(crate) fn with_token(self, token: Option<runtime::Token>) -> Self {
        Client { token, ..self }
    }

    /// Where it talks to.
    pub(crate) fn url(&self) -> &str {
        &self.base
    }

    /// A GET, whatever is answered.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.http.get(format!("{}{path}", self.base))).await
    }

    /// A POST, whatever is answered.
    pub(crate) async fn post(&self, path: &str, content_type: &str, body: Vec<u8>) -> anyhow::Result<Answer> {
        let request = self.http.post(format!("{}{path}", self.base));
        self.send(request.header("content-type", content_type).body(body)).await
    }

    /// A call of Prometheus' API with its parameters as a form; its whole answer, which says that it succeeded.
    pub(crate) async fn call(&self, path: &str, form: &[(&str, &str)]) -> anyhow::Result<Value> {
        let body = form.iter().map(|(n, v)| format!("{}={}", percent(n), percent(v))).collect::<Vec<_>>().join("&");
        let answer = if form.is_empty() {
            self.get(path).await?
        } else {
            self.post(path, "application/x-www-form-urlencoded", body.into_bytes()).await?
        };
        answer.success()
    }

    /// A DELETE of Prometheus' API; its whole answer, which says that it succeeded.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.http.delete(format!("{}{path}", self.base))).await?.success()
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Answer> {
        let hint = || format!("no answer from {} (start one with `weir run`, or name another with --url)", self.base);
        let request = match &self.token {
            Some(token) => request.header("authorization", token.header()),
            None => request,
        };
        let answer = request.send().await.map_err(without_url).with_context(hint)?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(without_url).with_context(hint)?;
        Ok(Answer { status, text })
    }
}

/// The message names the address already.
fn without_url(error: reqwest::Error) -> reqwest::Error {
    error.without_url()
}

/// As it stands in a form or in a path.
pub(crate) fn percent(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_values_are_encoded() {
        assert_eq!(percent("up{job=\"é\"} + 1"), "up%7Bjob%3D%22%C3%A9%22%7D%20%2B%201");
    }

    #[test]
    fn the_reason_of_a_failure_is_that_of_the_server() {
        let reason = |status, text: &str| Answer { status, text: text.to_owned() }.reason();
        let json = r#"{"status":"error","errorType":"bad_data","error":"1:3: parse error: x"}"#;
        assert_eq!(reason(400, json), "bad_data: 1:3: parse error: x");
        assert_eq!(reason(503, "not ready\n"), "status 503: not ready");
    }
}
