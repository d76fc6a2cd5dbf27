//! The front door: one address for Grafana, the status page and the command line. What query does not answer itself it forwards to the
//! component that does.
//!
//! Exactly the routes are forwarded that people call there; what components say to each other has no way through here. In one process the
//! same routes are merged instead, and nothing is forwarded. The price is one more hop for a write that comes this way, which is why
//! senders of many samples are given ingest's own address.

mod upstream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::http::uri::Authority;
use axum::response::Response;
use axum::routing::{get, post};
use prometheus::Registry;
use runtime::Token;

use crate::Error;
use crate::compress::OnItsWay;
use upstream::{Metrics, Upstream};

/// How long a component may take to begin its answer: longer than ingest gives a body to come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// What alerting shows to people.
pub(crate) const SHOWN: [&str; 3] = ["/api/v1/rules", "/api/v1/alerts", "/api/v1/notifications"];

/// Where the components are.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(skip)]
pub struct Args {
    /// Where alerting is, for rules, alerts and notifications; without it they are not found here
    #[arg(long, env = "WEIR_ALERTING_URL", value_name = "http://HOST:PORT", value_parser = address)]
    pub alerting_url: Option<Authority>,
    /// Where ingest is, for writes; without it they are not found here
    #[arg(long, env = "WEIR_INGEST_URL", value_name = "http://HOST:PORT", value_parser = address)]
    pub ingest_url: Option<Authority>,
}

/// What the front door needs. The default forwards nothing.
#[derive(Debug, Clone, Default)]
pub struct FrontDoor {
    /// Where the components are.
    pub args: Args,
    /// What they want to be shown.
    pub token: Option<Token>,
}

impl FrontDoor {
    pub(crate) fn router(self, registry: &Registry) -> Result<Router, Error> {
        self.router_within(registry, ANSWER_TIMEOUT)
    }

    fn router_within(self, registry: &Registry, answer_timeout: Duration) -> Result<Router, Error> {
        let mut router = Router::new();
        let FrontDoor { args, token } = self;
        if args.alerting_url.is_none() && args.ingest_url.is_none() {
            return Ok(router);
        }
        let metrics =
            Metrics::register(registry).map_err(|e| Error::Internal(format!("a metric cannot be registered: {e}")))?;
        let to = |name: &'static str, authority: Authority| {
            Arc::new(Upstream::new(name, authority, token.clone(), answer_timeout, &metrics))
        };
        if let Some(authority) = args.alerting_url {
            let mut routes = Router::new().route("/-/reload", post(forward).put(forward));
            for path in SHOWN {
                routes = routes.route(path, get(forward).options(runtime::options));
            }
            router = router.merge(routes.with_state(to("alerting", authority)));
        }
        if let Some(authority) = args.ingest_url {
            let routes = Router::new()
                .route("/api/v1/write", post(forward).options(runtime::options))
                .route("/api/v1/import/prometheus", post(forward).options(runtime::options))
                .route("/metrics", post(forward));
            router = router.merge(routes.with_state(to("ingest", authority)));
        }
        Ok(router)
    }
}

async fn forward(State(upstream): State<Arc<Upstream>>, request: Request) -> Response {
    let mut response = upstream.forward(request).await;
    response.extensions_mut().insert(OnItsWay);
    response
}

/// `http://HOST:PORT`, without a path: the routes are the same there.
fn address(text: &str) -> Result<Authority, String> {
    let wrong = || format!("{text:?} is not http://HOST:PORT");
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    if uri.scheme_str() != Some("http") || !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong());
    }
    uri.into_parts().authority.ok_or_else(wrong)
}

#[cfg(test)]
mod tests;
