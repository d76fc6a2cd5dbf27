//! The parameters of a request: of the URL, and of a form in the body.
//!
//! As in Prometheus a value in the body comes before one in the URL, and a body of any other type than
//! `application/x-www-form-urlencoded` is not looked at. A pair that cannot be decoded is refused, where Prometheus
//! drops it: a filter that silently vanishes gives a wrong answer.

use axum::body::Body;
use axum::http::{Method, Request, header};

use crate::Error;

/// Bytes of a body; the same bound as Prometheus'.
const BODY_BYTES_MAX: usize = 10 << 20;

/// Names and values in the order of the request.
#[derive(Debug, Default)]
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Reads the parameters of a request.
    pub(crate) async fn read(request: Request<Body>) -> Result<Form, Error> {
        let mut form = Form::default();
        let (parts, body) = request.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim();
        if parts.method == Method::POST && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(|e| {
                Error::Request(format!("error parsing form values: a body has at most {BODY_BYTES_MAX} bytes ({e})"))
            })?;
            form.parse(&body)?;
        }
        form.parse(parts.uri.query().unwrap_or("").as_bytes())?;
        Ok(form)
    }

    /// The first value of a parameter, or the empty string.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// All values of a parameter.
    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The parameters whose names begin with a prefix, without it.
    pub(crate) fn prefixed(&self, prefix: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().filter_map(move |(n, v)| Some((n.strip_prefix(prefix)?, v.as_str())))
    }

    fn parse(&mut self, text: &[u8]) -> Result<(), Error> {
        for pair in text.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let cut = pair.iter().position(|b| *b == b'=');
            let (name, value) = cut.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
            let decoded = decode(name, true)
                .zip(decode(value, true))
                .and_then(|(name, value)| Some((String::from_utf8(name).ok()?, String::from_utf8(value).ok()?)));
            let bad = || {
                Error::Request(format!(
                    "error parsing form values: cannot decode {:?}",
                    pair.escape_ascii().to_string()
                ))
            };
            self.pairs.push(decoded.ok_or_else(bad)?);
        }
        Ok(())
    }
}

/// Decodes `%41`, and `+` as a space where it is a form. `None` where a `%` is not followed by two digits.
pub(crate) fn decode(text: &[u8], plus_is_space: bool) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&b) = rest.next() {
        out.push(match b {
            b'+' if plus_is_space => b' ',
            b'%' => {
                let mut digit = || char::from(*rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            b => b,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(url: &str, body: Option<&str>) -> Result<Form, Error> {
        let mut request = Request::builder().uri(url);
        if body.is_some() {
            request = request.method("POST").header("Content-Type", "Application/x-www-form-urlencoded; charset=utf-8");
        }
        let request = request.body(Body::from(body.unwrap_or("").to_owned())).expect("a request");
        futures_util::FutureExt::now_or_never(Form::read(request)).expect("the body is there")
    }

    #[test]
    fn the_body_comes_before_the_url() {
        let form = form("/x?a=url&match%5B%5D=1", Some("a=b%2B1+%c3%a9&match[]=2&c&d=e=f&")).expect("a form");
        assert_eq!(form.get("a"), "b+1 é");
        assert_eq!(form.all("match[]").collect::<Vec<_>>(), ["2", "1"]);
        assert_eq!((form.get("c"), form.get("d"), form.get("nothing")), ("", "e=f", ""));
    }

    #[test]
    fn a_get_has_no_body_and_what_cannot_be_decoded_is_refused() {
        assert_eq!(form("/x?label.a=1&label.b=2", None).expect("a form").prefixed("label.").count(), 2);
        for bad in ["/x?a=%4", "/x?a=%zz", "/x?a=%ff"] {
            assert!(form(bad, None).is_err_and(|e| e.to_string().contains("cannot decode")), "{bad}");
        }
    }
}
