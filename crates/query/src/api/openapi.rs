//! `/api/v1/openapi.yaml`: what there is to be asked, as OpenAPI says it.
//!
//! The document is a file of this folder, of all components, since query is the address for all. It says the same in versions 3.1 and 3.2 of OpenAPI, so the
//! version that is asked for is only what its first line names. A test holds it against the routes.

use axum::body::Body;
use axum::http::{HeaderValue, Response, header};
use runtime::Form;

const DOCUMENT: &str = include_str!("openapi.yaml");

/// The document in the version that is asked for; 3.1, which more tools read, where it is none that there is.
pub(crate) fn document(form: &Form) -> Response<Body> {
    let text = match form.get("openapi_version") {
        "3.2" | "3.2.0" => DOCUMENT.replacen("openapi: 3.1.0\n", "openapi: 3.2.0\n", 1),
        _ => DOCUMENT.to_owned(),
    };
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/yaml; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    response
}
