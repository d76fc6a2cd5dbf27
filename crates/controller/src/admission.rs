//! Answers the API server's question whether a resource may be stored.
//!
//! Refused is what can never work, such as an expression that does not parse. What may work later is a warning: a channel that is not
//! there yet, since Helm and `kubectl apply -f folder/` create rules first, and a selector that matches nothing now.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use kube::api::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use rules::handover::{self, HandedRule};

use crate::args::Args;
use crate::metrics::Metrics;
use crate::watch;
use crate::world::{Bad, World};

/// Bytes of a review: two versions of an object, of which the API server takes 3 MiB at most.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Selectors of one rule that are looked for.
const SELECTORS_MAX: usize = 8;
/// How long query may take over all of them; `kubectl apply` waits for it.
const QUERY_PATIENCE: Duration = Duration::from_millis(800);
/// How far back a series counts as being there, in seconds.
const NOW_SECONDS: i64 = 3600;

pub(crate) struct Admission {
    pub(crate) args: Args,
    pub(crate) world: Arc<World>,
    pub(crate) http: reqwest::Client,
    pub(crate) metrics: Metrics,
}

pub(crate) fn routes(admission: Arc<Admission>) -> Router {
    Router::new().route("/validate", post(answer)).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).with_state(admission)
}

async fn answer(
    State(admission): State<Arc<Admission>>,
    body: axum::body::Bytes,
) -> Result<axum::Json<AdmissionReview<DynamicObject>>, (StatusCode, String)> {
    let bad = |reason: String| (StatusCode::BAD_REQUEST, reason);
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(&body).map_err(|e| bad(format!("not an AdmissionReview: {e}\n")))?;
    let request: AdmissionRequest<DynamicObject> =
        review.try_into().map_err(|_| bad("an AdmissionReview without a request\n".to_owned()))?;
    Ok(axum::Json(admission.review(&request).await.into_review()))
}

impl Admission {
    async fn review(&self, request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
        let response = AdmissionResponse::from(request);
        let kind = match request.kind.kind.as_str() {
            "AlertRule" => "AlertRule",
            "NotificationChannel" => "NotificationChannel",
            _ => return response,
        };
        let Some(object) = &request.object else { return response };
        let verdict = match kind {
            "AlertRule" => self.rule(object, request).await,
            _ => channel(object),
        };
        let outcome = match &verdict {
            Ok(warnings) if warnings.is_empty() => "allowed",
            Ok(_) => "warned",
            Err(_) => "refused",
        };
        self.metrics.admissions.with_label_values(&[kind, outcome]).inc();
        match verdict {
            Ok(warnings) => {
                let mut response = response;
                response.warnings = (!warnings.is_empty()).then_some(warnings);
                response
            }
            Err(bad) => response.deny(bad.message),
        }
    }

    /// The warnings, or why it is refused.
    async fn rule(
        &self,
        object: &DynamicObject,
        request: &AdmissionRequest<DynamicObject>,
    ) -> Result<Vec<String>, Bad> {
        let mut object = object.clone();
        // Not given yet when an object is created, and needed to hand it over.
        object.metadata.uid.get_or_insert_with(|| request.uid.clone());
        object.metadata.namespace = object.metadata.namespace.or_else(|| request.namespace.clone());
        // With generateName the API server gives the name later.
        object.metadata.name.get_or_insert_with(|| "generated".to_owned());
        let handed = watch::read_rule(&object, &self.args).verdict?;
        let mut warnings = Vec::new();
        let namespace = object.metadata.namespace.unwrap_or_default();
        if let Some(channel) = handed.document.spec.channel.as_deref() {
            let id = handover::channel_id(&namespace, Some(channel));
            let inner = self.world.lock();
            if inner.channels_listed && !inner.channels.contains_key(&id) {
                warnings.push(format!("there is no NotificationChannel {id} yet; notifications wait for it"));
            }
        }
        warnings.extend(self.empty_selectors(&handed).await);
        Ok(warnings)
    }

    /// A warning for each selector that matches nothing now; none where that cannot be found out in time.
    async fn empty_selectors(&self, handed: &HandedRule) -> Vec<String> {
        let Some(url) = &self.args.query_url else { return Vec::new() };
        let Ok(rule) = handover::rule(handed, "kubernetes", &self.args.features) else { return Vec::new() };
        let now = runtime::clock::now_ms() / 1000;
        let ask = async |selector: &str| {
            let start = (now - NOW_SECONDS).to_string();
            let end = now.to_string();
            let query = [("match[]", selector), ("start", &start), ("end", &end), ("limit", "1")];
            let url = format!("{}/api/v1/series", url.trim_end_matches('/'));
            let url = reqwest::Url::parse_with_params(&url, query).ok()?;
            let answer: serde_json::Value =
                self.http.get(url).send().await.ok()?.error_for_status().ok()?.json().await.ok()?;
            Some(answer["data"].as_array()?.is_empty())
        };
        let asking = async {
            let mut warnings = Vec::new();
            for selector in handover::selectors(&rule).into_iter().take(SELECTORS_MAX) {
                if ask(&selector).await == Some(true) {
                    warnings.push(format!("no series of the last hour matches {selector}"));
                }
            }
            warnings
        };
        tokio::time::timeout(QUERY_PATIENCE, asking).await.unwrap_or_default()
    }
}

fn channel(object: &DynamicObject) -> Result<Vec<String>, Bad> {
    let document = watch::read_channel(object).verdict?;
    // Values of secrets are not known here; a placeholder that is valid in every place stands for them.
    let references = document.spec.webhook.iter().flat_map(|webhook| webhook.references());
    let secrets = references.map(|(_, key)| (key.to_string(), "http://placeholder".to_owned())).collect();
    let mut document = document.clone();
    document.metadata.name =
        if document.metadata.name.is_empty() { "generated".to_owned() } else { document.metadata.name };
    match handover::channel(&handover::HandedChannel { document, secrets }, "kubernetes") {
        Ok(_) => Ok(Vec::new()),
        Err(faults) => Err(Bad { reason: "InvalidSpec", message: crate::world::lines(&faults) }),
    }
}
