//! One connection to a server: who this is, then one request after the other.
//!
//! A call that is given up, by a timeout or since its future was dropped, leaves a connection on which the next answer is that of an
//! earlier request. So whoever calls takes the connection out of its place, and puts it back only after an answer.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader, SaslAuthenticateRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use runtime::Token;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::Error;
use crate::kafka::{MECHANISM, USER};

/// Time to connect and to be let in.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// Time for an answer, beside what the request itself waits for.
pub(in crate::kafka) const REQUEST: Duration = Duration::from_secs(10);
/// Largest answer that is read: a fetch of the largest batch of another server, with room.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The name that a server sees.
const CLIENT: &str = "weir";

#[derive(Debug)]
pub(in crate::kafka) struct Connection {
    address: String,
    stream: TcpStream,
    correlation_id: i32,
}

impl Connection {
    pub(in crate::kafka) async fn open(address: &str, token: Option<&Token>) -> Result<Connection, Error> {
        let opened = async {
            let stream = TcpStream::connect(address).await.and_then(|s| s.set_nodelay(true).map(|()| s));
            let stream = stream.map_err(|e| remote(address, &e))?;
            let mut connection = Connection { address: address.to_owned(), stream, correlation_id: 0 };
            if let Some(token) = token {
                connection.authenticate(&token.secret()).await?;
            }
            Ok(connection)
        };
        timeout(CONNECT, opened).await.unwrap_or_else(|_| Err(remote(address, &"cannot be reached in time")))
    }

    async fn authenticate(&mut self, secret: &str) -> Result<(), Error> {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(MECHANISM));
        let answer = self.call(1, &request, CONNECT).await?;
        if answer.error_code != 0 {
            return Err(self.failed("refuses SASL PLAIN", answer.error_code));
        }
        let message = Bytes::from(format!("\0{USER}\0{secret}"));
        let answer = self.call(1, &SaslAuthenticateRequest::default().with_auth_bytes(message), CONNECT).await?;
        if answer.error_code != 0 {
            let reason = answer.error_message.unwrap_or_default();
            return Err(self.failed(&format!("refuses the token: {reason}"), answer.error_code));
        }
        Ok(())
    }

    /// Sends a request and reads its answer. After an error the connection is of no use.
    pub(in crate::kafka) async fn call<Q: Request>(
        &mut self,
        version: i16,
        request: &Q,
        limit: Duration,
    ) -> Result<Q::Response, Error> {
        let called = timeout(limit, self.exchange(version, request)).await;
        called.unwrap_or_else(|_| Err(remote(&self.address, &"no answer in time")))
    }

    async fn exchange<Q: Request>(&mut self, version: i16, request: &Q) -> Result<Q::Response, Error> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let address = self.address.clone();
        let frame = frame(self.correlation_id, version, request).map_err(|e| remote(&address, &e))?;
        let mut answer = self.round(&frame).await.map_err(|e| remote(&address, &e))?;
        let malformed = |e| remote(&address, &format!("answer cannot be read: {e}"));
        let header = ResponseHeader::decode(&mut answer, Q::Response::header_version(version)).map_err(malformed)?;
        if header.correlation_id != self.correlation_id {
            return Err(remote(&address, &"answers another request"));
        }
        Q::Response::decode(&mut answer, version).map_err(malformed)
    }

    async fn round(&mut self, frame: &[u8]) -> io::Result<Bytes> {
        self.stream.write_all(frame).await?;
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length).ok().filter(|n| *n <= ANSWER_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("length of the answer does not make sense"))?;
        let mut answer = BytesMut::zeroed(length);
        self.stream.read_exact(&mut answer).await?;
        Ok(answer.freeze())
    }

    /// An error of the server.
    pub(super) fn failed(&self, what: &str, code: i16) -> Error {
        let text = match kafka_protocol::error::ResponseError::try_from_code(code) {
            Some(error) => format!("{what}: error {code}, {error}"),
            None => what.to_owned(),
        };
        remote(&self.address, &text)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

fn frame<Q: Request>(correlation_id: i32, version: i16, request: &Q) -> Result<BytesMut, String> {
    let mut out = BytesMut::zeroed(4);
    let header = RequestHeader::default()
        .with_request_api_key(Q::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str(CLIENT)));
    header.encode(&mut out, Q::header_version(version)).map_err(|e| e.to_string())?;
    request.encode(&mut out, version).map_err(|e| e.to_string())?;
    let length = i32::try_from(out.len() - 4).map_err(|e| e.to_string())?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

pub(super) fn remote(address: &str, what: &dyn std::fmt::Display) -> Error {
    Error::Remote(format!("{address}: {what}"))
}
