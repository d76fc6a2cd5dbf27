//! The token that components show each other: read from a file, read again when the file changes, compared in constant time.
//!
//! It says that a caller belongs to this Weir, not who it is: there are no users and no rights here. The file may hold several tokens, one
//! a line: the first is sent, each is accepted. So one is exchanged without a refused call: add the new one below, wait until every component has
//! read the file, then remove the old one above. The price of reading again on an interval instead of being told is that a change takes
//! some seconds, next to the minute that a kubelet takes for the file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use prometheus::{IntCounter, Registry};

use crate::{Ended, Error, Shutdown};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The largest file that is read; a token has some tens of bytes.
const FILE_BYTES_MAX: u64 = 16 << 10;
/// Tokens of one file: the one in use, and the one before or after it, twice.
const TOKENS_MAX: usize = 4;

/// The token between components; clones share it.
#[derive(Clone)]
pub struct Token(Arc<Shared>);

struct Shared {
    /// `None` for a token that does not come from a file.
    file: Option<PathBuf>,
    tokens: RwLock<Vec<String>>,
}

/// Without the token.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("file", &self.0.file).finish_non_exhaustive()
    }
}

impl Token {
    /// Reads the file of `--token-file`. Refuses one that is empty, too large, or holds what no header can.
    pub fn read(file: &Path) -> Result<Token, Error> {
        let tokens = read(file).map_err(|reason| Error::Argument {
            flag: "token-file",
            value: file.display().to_string(),
            reason,
        })?;
        Ok(Token(Arc::new(Shared { file: Some(file.to_owned()), tokens: RwLock::new(tokens) })))
    }

    /// A token that is known already and does not change.
    pub fn fixed(text: &str) -> Result<Token, Error> {
        let refused = |reason| Error::Argument { flag: "token", value: "…".to_owned(), reason };
        Ok(Token(Arc::new(Shared { file: None, tokens: RwLock::new(parse(text).map_err(refused)?) })))
    }

    /// Whether it is one of the tokens. The time that this takes says nothing of how much of it is right.
    pub fn accepts(&self, offered: &str) -> bool {
        // Every token is compared, whichever matched.
        self.current(|tokens| tokens.iter().fold(false, |any, token| any | equal(token, offered)))
    }

    /// The token to send where there is no header, such as the password of SASL.
    pub fn secret(&self) -> String {
        self.current(|tokens| tokens.first().cloned()).unwrap_or_default()
    }

    /// `Bearer …`, the value of the header Authorization that clients send. Asked for with every call, since the token may have changed.
    pub fn header(&self) -> HeaderValue {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.secret()))
            .expect("a token was read only if a header can hold it");
        value.set_sensitive(true);
        value
    }

    /// Reads the file again when it changes, until it is asked to stop. While it cannot be used, the tokens before it hold.
    pub async fn follow(self, registry: Registry, shutdown: Shutdown) -> Ended {
        self.follow_every(LOOK_EVERY, registry, shutdown).await
    }

    async fn follow_every(self, every: Duration, registry: Registry, mut shutdown: Shutdown) -> Ended {
        let failures = IntCounter::new(
            "weir_token_reload_failures_total",
            "Times that the file of the token could not be used; the one before it holds.",
        )?;
        registry.register(Box::new(failures.clone()))?;
        let mut said = String::new();
        loop {
            tokio::select! {
                () = shutdown.asked() => return Ok(()),
                () = tokio::time::sleep(every) => {}
            }
            let token = self.clone();
            match tokio::task::spawn_blocking(move || token.reload()).await? {
                Ok(true) => tracing::info!("the token between components changed"),
                Ok(false) => said.clear(),
                Err(reason) => {
                    failures.inc();
                    // Said once, not every two seconds.
                    if said != reason {
                        tracing::error!(reason, "the file of the token cannot be used; the token before it holds");
                        said = reason;
                    }
                }
            }
        }
    }

    /// Whether there are other tokens now.
    fn reload(&self) -> Result<bool, String> {
        let Some(file) = &self.0.file else { return Ok(false) };
        let tokens = read(file)?;
        if self.current(|before| *before == tokens) {
            return Ok(false);
        }
        *self.0.tokens.write().unwrap_or_else(PoisonError::into_inner) = tokens;
        Ok(true)
    }

    fn current<T>(&self, look: impl FnOnce(&Vec<String>) -> T) -> T {
        look(&self.0.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The routes, which answer 401 without the token; as they are where there is none. There must be a route.
pub fn require(token: Option<Token>, routes: Router) -> Router {
    match token {
        Some(token) => routes.route_layer(middleware::from_fn_with_state(token, check)),
        None => routes,
    }
}

async fn check(State(token): State<Token>, request: Request, next: Next) -> Response {
    let reason = match bearer(request.headers()) {
        Some(offered) if token.accepts(offered) => return next.run(request).await,
        Some(_) => "the token is not the one of this Weir\n",
        None => "this is for Weir's own components: it needs the header Authorization: Bearer TOKEN\n",
    };
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))], reason).into_response()
}

/// What follows `Bearer`, whose case does not matter.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| rest.trim())
}

fn read(file: &Path) -> Result<Vec<String>, String> {
    let size = std::fs::metadata(file).map_err(|e| e.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{size} bytes; a file of tokens has at most {FILE_BYTES_MAX}"));
    }
    parse(&std::fs::read_to_string(file).map_err(|e| e.to_string())?)
}

fn parse(text: &str) -> Result<Vec<String>, String> {
    let tokens: Vec<String> = text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    let odd = |token: &&String| !token.bytes().all(|b| b.is_ascii_graphic());
    match tokens.len() {
        0 => Err("is empty; it must hold the token".to_owned()),
        n if n > TOKENS_MAX => Err(format!("{n} lines; at most {TOKENS_MAX} tokens are accepted")),
        _ if tokens.iter().any(|t| odd(&t)) => Err("a token is printable ASCII without spaces".to_owned()),
        _ => Ok(tokens),
    }
}

/// Looks at every byte of what was offered, wherever they differ.
fn equal(token: &str, offered: &str) -> bool {
    let (token, offered) = (token.as_bytes(), offered.as_bytes());
    let mut differ = u8::from(token.len() != offered.len());
    for (n, byte) in offered.iter().enumerate() {
        // Hidden from the optimiser, which might leave early.
        differ |= std::hint::black_box(byte ^ token[n % token.len()]);
    }
    differ == 0
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    #[test]
    fn the_first_token_is_sent_and_each_is_accepted() {
        let token = Token::fixed("  new-1 \n\nold-1\n").expect("read");
        assert_eq!(token.secret(), "new-1");
        assert_eq!(token.header().to_str().expect("ASCII"), "Bearer new-1");
        for (offered, expect) in [
            ("new-1", true),
            ("old-1", true),
            ("new-2", false),
            ("", false),
            ("new-", false),
            ("new-1new-1", false),
            ("NEW-1", false),
        ] {
            assert_eq!(token.accepts(offered), expect, "{offered:?}");
        }
    }

    #[test]
    fn a_file_that_holds_no_token_is_refused_with_its_name() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        let many = "a\n".repeat(TOKENS_MAX + 1);
        for (text, reason) in [
            ("", "is empty; it must hold the token"),
            (" \n\t\n", "is empty; it must hold the token"),
            ("two words", "a token is printable ASCII without spaces"),
            (many.as_str(), "5 lines; at most 4 tokens are accepted"),
        ] {
            std::fs::write(&file, text).expect("written");
            let error = Token::read(&file).expect_err("refused").to_string();
            assert_eq!(error, format!("--token-file {}: {reason}", file.display()));
        }
        std::fs::remove_file(&file).expect("removed");
        assert!(Token::read(&file).expect_err("absent").to_string().contains("No such file"));
    }

    #[tokio::test]
    async fn a_file_that_changes_is_read_again_and_a_bad_one_keeps_the_token() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        std::fs::write(&file, "one\n").expect("written");
        let token = Token::read(&file).expect("read");
        assert!(!token.reload().expect("read"), "nothing changed");
        std::fs::write(&file, "").expect("written");
        assert_eq!(token.reload().expect_err("refused"), "is empty; it must hold the token");
        assert!(token.accepts("one"));

        let registry = Registry::new();
        let (trigger, shutdown) = Shutdown::new();
        std::fs::write(&file, "two\n").expect("written");
        let following = tokio::spawn(token.clone().follow_every(Duration::from_millis(1), registry, shutdown));
        while !token.accepts("two") {
            tokio::task::yield_now().await;
        }
        assert!(!token.accepts("one"));
        trigger.ask();
        following.await.expect("ended").expect("well");
    }

    async fn asked(router: &Router, authorization: Option<&str>) -> (u16, String) {
        let mut request = Request::get("/inner");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let answer = router.clone().oneshot(request.body(Body::empty()).expect("a request")).await.expect("answered");
        let challenge = answer.headers().get(header::WWW_AUTHENTICATE).map(|v| v.to_str().expect("ASCII").to_owned());
        (answer.status().as_u16(), challenge.unwrap_or_default())
    }

    #[tokio::test]
    async fn a_route_that_requires_the_token_answers_401_without_it() {
        let inner = Router::new().route("/inner", get(|| async { "inner" }));
        let token = Token::fixed("s3cret").expect("read");
        let open = Router::new().route("/open", get(|| async { "open" }));
        let router = require(Some(token), inner.clone()).merge(open);
        for refused in [None, Some("Bearer s3cre"), Some("Basic s3cret"), Some("Bearer"), Some("s3cret")] {
            assert_eq!(asked(&router, refused).await, (401, "Bearer".to_owned()), "{refused:?}");
        }
        for accepted in ["Bearer s3cret", "bearer  s3cret"] {
            assert_eq!(asked(&router, Some(accepted)).await, (200, String::new()), "{accepted:?}");
        }
        let request = Request::get("/open").body(Body::empty()).expect("a request");
        assert_eq!(router.oneshot(request).await.expect("answered").status(), 200, "others stay open");
        assert_eq!(asked(&require(None, inner), None).await.0, 200, "without a token nothing is refused");
    }
}
