//! What every answer has that people and pages get: a coding that the client takes, and leave for pages of other origins to read it.
//!
//! It is around query's own routes, and around those of alerting that are asked at the same address, in one process or through the front door. What components
//! say to each other, writes and a reload get neither.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::http::{HeaderValue, Request, Response, header};
use axum::middleware::{self, Next};

use crate::api::Api;
use crate::front_door::SHOWN;

/// Gives the answers of other components what query's own have.
#[derive(Clone)]
pub struct Presentation(Arc<Api>);

impl std::fmt::Debug for Presentation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presentation")
    }
}

impl Presentation {
    pub(crate) fn new(api: Arc<Api>) -> Self {
        Presentation(api)
    }

    /// Routes of which those are presented that people ask: rules, alerts and notifications.
    pub fn of(&self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.0.clone(), present_shown))
    }
}

async fn present_shown(State(api): State<Arc<Api>>, request: Request<Body>, next: Next) -> Response<Body> {
    let path = request.extensions().get::<MatchedPath>();
    match path.is_some_and(|path| SHOWN.contains(&path.as_str())) {
        true => present(api, request, next).await,
        false => next.run(request).await,
    }
}

/// Lets pages of other origins read the answer, as Prometheus does by default: no cookie is looked at, and nothing that they are let do changes anything. What
/// does, which is to cancel a query, is none of the methods that are named here, and refuses them by itself.
pub(crate) async fn present(api: Arc<Api>, request: Request<Body>, next: Next) -> Response<Body> {
    let foreign = request.headers().contains_key(header::ORIGIN);
    let mut response = api.compressor.answer(request, next).await;
    if foreign {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
        let names = HeaderValue::from_static("Accept, Authorization, Content-Type, Origin");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    response
}
