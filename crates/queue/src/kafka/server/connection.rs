//! One connection: who it is, and its requests in order.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::{ApiKey, SaslAuthenticateResponse, SaslHandshakeResponse};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use runtime::{Shutdown, Token};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Server;
use super::about::versions;
use crate::kafka::frame::{self, Held, NoFrame, TRANSFER};
use crate::kafka::metrics::Closed;
use crate::kafka::request::{Head, Request};
use crate::kafka::wire::Reader;
use crate::kafka::{FRAME_BYTES_MAX, MECHANISM, USER};

/// Time without a request after which a connection is closed; a client opens another one.
const IDLE: Duration = Duration::from_secs(600);
/// Time for a client to say who it is.
const AUTHENTICATION: Duration = Duration::from_secs(10);
/// Largest frame before a client has said who it is, so that strangers take little memory: far more than a token and names.
const STRANGER_BYTES_MAX: usize = 16 << 10;

/// What is known of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Known,
    Stranger,
    /// Has named the mechanism; `bare` if its token comes without a request around it, as in the first version of the protocol.
    Naming {
        bare: bool,
    },
}

/// What is sent back.
#[derive(Debug)]
pub(super) enum Answer {
    Frame(Bytes, Option<Held>),
    /// Nothing: the client does not want one.
    Silence,
    /// An answer and the end.
    Last(Bytes, Closed),
    End(Closed),
}

pub(super) struct Connection<'a> {
    server: &'a Server,
    peer: Peer,
    /// Where clients are told to connect.
    address: (String, u16),
}

impl<'a> Connection<'a> {
    pub(super) fn new(server: &'a Server, stream: &TcpStream) -> Self {
        let arrived = || stream.local_addr().map(|a| (a.ip().to_string(), a.port())).unwrap_or_default();
        let address = server.advertised.clone().unwrap_or_else(arrived);
        let peer = if server.token.is_some() { Peer::Stranger } else { Peer::Known };
        Connection { server, peer, address }
    }

    /// Answers requests until the peer goes away or the shutdown is asked for; an error if this side ends it.
    pub(super) async fn run(mut self, stream: &mut TcpStream, mut shutdown: Shutdown) -> Result<(), Closed> {
        loop {
            let (bytes_max, idle) = match self.peer {
                Peer::Known => (FRAME_BYTES_MAX, IDLE),
                _ => (STRANGER_BYTES_MAX, AUTHENTICATION),
            };
            let read = tokio::select! {
                () = shutdown.asked() => return Ok(()),
                read = frame::read(stream, bytes_max, idle, &self.server.requests) => read,
            };
            let (bytes, held) = match read {
                Ok(read) => read,
                Err(NoFrame::Gone) => return Ok(()),
                Err(NoFrame::Close(why)) => return Err(why),
            };
            let (frame, held_answer, end) = match self.answer(bytes, &mut shutdown).await {
                Answer::Silence => continue,
                Answer::End(why) => return Err(why),
                Answer::Frame(frame, held) => (frame, held, None),
                Answer::Last(frame, why) => (frame, None, Some(why)),
            };
            // The answer has none of the request's bytes.
            drop(held);
            match timeout(TRANSFER, stream.write_all(&frame)).await {
                Err(_) => return Err(Closed::Slow),
                Ok(Err(_)) => return Ok(()),
                Ok(Ok(())) => drop(held_answer),
            }
            if let Some(why) = end {
                return Err(why);
            }
        }
    }

    async fn answer(&mut self, frame: Bytes, shutdown: &mut Shutdown) -> Answer {
        if self.peer == (Peer::Naming { bare: true }) {
            return self.bare_token(&frame);
        }
        let mut reader = Reader::new(frame);
        let Ok((head, api)) = Head::read(&mut reader) else { return Answer::End(Closed::Malformed) };
        let Some(api) = api else { return unserved(head) };
        self.server.metrics.request(api.key);
        let for_strangers = matches!(api.key, ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate);
        if self.peer != Peer::Known && !for_strangers {
            return Answer::End(Closed::Unauthenticated);
        }
        let request = match Request::read(api.key, head.version, reader) {
            Ok(request) => request,
            Err(error) => {
                tracing::debug!(api = ?api.key, version = head.version, %error, "a request cannot be read");
                return Answer::End(Closed::Malformed);
            }
        };
        let server = self.server;
        match request {
            Request::ApiVersions => frame_of(head, &versions(0)),
            Request::SaslHandshake { mechanism } => self.handshake(head, &mechanism),
            Request::SaslAuthenticate { token } => self.authenticate(head, &token),
            Request::Metadata { topics } => frame_of(head, &server.metadata(&self.address, topics)),
            Request::InitProducerId { transactional } => frame_of(head, &server.init_producer_id(transactional).await),
            Request::Produce(produce) => server.produce(head, produce).await,
            Request::Fetch(fetch) => server.fetch(head, fetch, shutdown).await,
            Request::ListOffsets { topics } => frame_of(head, &server.list_offsets(topics).await),
            Request::FindCoordinator { key_type } => frame_of(head, &server.coordinator(&self.address, key_type)),
            Request::OffsetCommit { group, generation, topics } => {
                frame_of(head, &server.commit(&group, generation, topics))
            }
            Request::OffsetFetch { group, topics } => frame_of(head, &server.committed(&group, topics)),
        }
    }

    fn handshake(&mut self, head: Head, mechanism: &str) -> Answer {
        let answer = SaslHandshakeResponse::default();
        if self.peer == Peer::Known {
            return frame_of(head, &answer.with_error_code(ResponseError::IllegalSaslState.code()));
        }
        let answer = answer.with_mechanisms(vec![StrBytes::from_static_str(MECHANISM)]);
        if mechanism != MECHANISM {
            return frame_of(head, &answer.with_error_code(ResponseError::UnsupportedSaslMechanism.code()));
        }
        self.peer = Peer::Naming { bare: head.version == 0 };
        frame_of(head, &answer)
    }

    fn authenticate(&mut self, head: Head, given: &[u8]) -> Answer {
        let answer = SaslAuthenticateResponse::default();
        let refuse = |code: ResponseError, text: &'static str| {
            let text = Some(StrBytes::from_static_str(text));
            match frame_of(head, &answer.clone().with_error_code(code.code()).with_error_message(text)) {
                Answer::Frame(frame, _) => Answer::Last(frame, Closed::Denied),
                other => other,
            }
        };
        if self.peer != (Peer::Naming { bare: false }) {
            return refuse(ResponseError::IllegalSaslState, "no SASL handshake, or authenticated already");
        }
        if !self.is_right(given) {
            return refuse(ResponseError::SaslAuthenticationFailed, "wrong user or token");
        }
        self.peer = Peer::Known;
        frame_of(head, &answer)
    }

    /// A token in a frame of its own, which is answered by an empty one.
    fn bare_token(&mut self, given: &[u8]) -> Answer {
        if !self.is_right(given) {
            return Answer::End(Closed::Denied);
        }
        self.peer = Peer::Known;
        Answer::Frame(Bytes::from_static(&[0; 4]), None)
    }

    fn is_right(&self, given: &[u8]) -> bool {
        self.server.token.as_ref().is_some_and(|token| is_right(given, token))
    }
}

/// Whether it is the message of SASL PLAIN (RFC 4616) for the user and the token: whom to act for, user and password, with
/// zeros between. Compares the token in constant time.
fn is_right(given: &[u8], token: &Token) -> bool {
    let mut parts = given.split(|byte| *byte == 0).map(std::str::from_utf8);
    let (Some(Ok(acting)), Some(Ok(user)), Some(Ok(password)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    token.accepts(password) && user == USER && (acting.is_empty() || acting == USER)
}

/// The answer to a request, in a frame.
pub(super) fn frame_of<R: Encodable + HeaderVersion>(head: Head, response: &R) -> Answer {
    match frame::answer(head.correlation_id, head.version, response) {
        Some(frame) => Answer::Frame(frame, None),
        None => {
            tracing::error!(?head, "an answer cannot be written in this version");
            Answer::End(Closed::Malformed)
        }
    }
}

/// A request or version that is not served. A client that asks for the versions in one that is too new is told which there are, in
/// the first version, which it can read without knowing; anything else has no answer that its sender could read.
fn unserved(head: Head) -> Answer {
    if head.key != ApiKey::ApiVersions as i16 {
        tracing::debug!(?head, "a request that is not served");
        return Answer::End(Closed::Malformed);
    }
    frame_of(Head { version: 0, ..head }, &versions(ResponseError::UnsupportedVersion.code()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_user_with_the_token_is_known() {
        let token = Token::fixed("s3cret").expect("valid");
        let check = |given: &[u8], expect| assert_eq!(is_right(given, &token), expect, "{given:?}");
        check(b"\0weir\0s3cret", true);
        check(b"weir\0weir\0s3cret", true);
        check(b"root\0weir\0s3cret", false);
        check(b"\0weir\0s3cre", false);
        check(b"\0weir\0s3cret\0", false);
        check(b"\0root\0s3cret", false);
        check(b"\0weir\0", false);
        check(b"\0weir", false);
        check(b"", false);
        check(b"\0weir\0\xff", false);
    }
}
