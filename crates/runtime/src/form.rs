//! The parameters of a request: of the URL, and of a form in the body.
//!
//! As in Prometheus a value in the body comes before one in the URL, and a body of any other type than
//! `application/x-www-form-urlencoded` is not looked at. A pair that cannot be decoded is refused, where Prometheus
//! drops it: a filter that silently vanishes gives a wrong answer.

use axum::body::Body;
use axum::http::{Method, Request, header};

/// Parameters that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing form values: {0}")]
pub struct InvalidForm(String);

/// Names and values in the order of the request.
#[derive(Debug, Default)]
pub struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    /// Reads the parameters of a request, whose body has at most so many bytes if it is a form.
    pub async fn read(request: Request<Body>, body_bytes_max: usize) -> Result<Form, InvalidForm> {
        let mut form = Form::default();
        let (parts, body) = request.into_parts();
        let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
        let kind = kind.split(';').next().unwrap_or("").trim();
        let has_form = [Method::POST, Method::PUT].contains(&parts.method);
        if has_form && kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            let body = axum::body::to_bytes(body, body_bytes_max)
                .await
                .map_err(|e| InvalidForm(format!("a body has at most {body_bytes_max} bytes ({e})")))?;
            form.parse(&body)?;
        }
        form.parse(parts.uri.query().unwrap_or("").as_bytes())?;
        Ok(form)
    }

    /// The first value of a parameter, or the empty string.
    pub fn get(&self, name: &str) -> &str {
        self.pairs.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    /// All values of a parameter.
    pub fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The parameters whose names begin with a prefix, without it.
    pub fn prefixed(&self, prefix: &'static str) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().filter_map(move |(n, v)| Some((n.strip_prefix(prefix)?, v.as_str())))
    }

    fn parse(&mut self, text: &[u8]) -> Result<(), InvalidForm> {
        for pair in text.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
            let cut = pair.iter().position(|b| *b == b'=');
            let (name, value) = cut.map_or((pair, &b""[..]), |at| (&pair[..at], &pair[at + 1..]));
            let decoded = decode(name, true)
                .zip(decode(value, true))
                .and_then(|(name, value)| Some((String::from_utf8(name).ok()?, String::from_utf8(value).ok()?)));
            let bad = || InvalidForm(format!("cannot decode {:?}", pair.escape_ascii().to_string()));
            self.pairs.push(decoded.ok_or_else(bad)?);
        }
        Ok(())
    }
}

/// Decodes `%41`, and `+` as a space where it is a form. `None` where a `%` is not followed by two digits.
pub fn decode(text: &[u8], plus_is_space: bool) -> Option<Vec<u8>> {
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

    fn form(url: &str, body: Option<(&str, &str)>) -> Result<Form, InvalidForm> {
        let mut request = Request::builder().uri(url);
        if let Some((method, _)) = body {
            request = request.method(method).header("Content-Type", "Application/x-www-form-urlencoded; charset=utf-8");
        }
        let request = request.body(Body::from(body.map_or("", |(_, body)| body).to_owned())).expect("a request");
        futures_util::FutureExt::now_or_never(Form::read(request, 40)).expect("the body is there")
    }

    #[test]
    fn the_body_comes_before_the_url() {
        let form = form("/x?a=url&match%5B%5D=1", Some(("POST", "a=b%2B1+%c3%a9&match[]=2&c&d=e=f&"))).expect("a form");
        assert_eq!(form.get("a"), "b+1 é");
        assert_eq!(form.all("match[]").collect::<Vec<_>>(), ["2", "1"]);
        assert_eq!((form.get("c"), form.get("d"), form.get("nothing")), ("", "e=f", ""));
    }

    #[test]
    fn a_body_has_a_bound() {
        assert_eq!(form("/x", Some(("PUT", &"a=1&".repeat(10)))).expect("a form").all("a").count(), 10);
        assert!(
            form("/x", Some(("PUT", &"a=1&".repeat(11)))).is_err_and(|e| e.to_string().contains("at most 40 bytes"))
        );
    }

    #[test]
    fn a_get_has_no_body_and_what_cannot_be_decoded_is_refused() {
        assert_eq!(form("/x?label.a=1&label.b=2", None).expect("a form").prefixed("label.").count(), 2);
        for bad in ["/x?a=%4", "/x?a=%zz", "/x?a=%ff"] {
            assert!(form(bad, None).is_err_and(|e| e.to_string().contains("cannot decode")), "{bad}");
        }
    }
}
