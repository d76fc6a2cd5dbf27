//! A notification channel that was checked.

/// Where notifications go. Only webhooks for now; other kinds are refused by name when they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    /// What rules call it: `name`, or `namespace/name` where it has a namespace.
    pub id: String,
    /// The file it came from.
    pub file: String,
    /// How it is reached.
    pub webhook: Webhook,
}

/// A receiver of HTTP requests with Alertmanager's payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `http://…` or `https://…`.
    pub url: String,
    /// Sent with every request; may hold secrets.
    pub headers: Vec<(String, String)>,
    /// Whether the end of an alert is told.
    pub send_resolved: bool,
    /// How long one request may take, in milliseconds.
    pub timeout_ms: i64,
    /// How many alerts one request carries at most; more go in further requests.
    pub alerts_max: usize,
}

/// Without the values of the headers and without what follows the host in the URL, both of which may be secret.
impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host: String = self.url.split('/').take(3).collect::<Vec<_>>().join("/");
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Webhook").field("host", &host).field("headers", &names).finish_non_exhaustive()
    }
}
