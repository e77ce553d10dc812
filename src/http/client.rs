//! The other side: one connection, one request at a time.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;

use super::socket::{host_header, prepare};
use crate::defaults::{CLIENT_STALL, CONNECT_TIMEOUT, MAX_ANSWER_BYTES};
use crate::net::tcp;

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    addr: String,
    server: &'static str,
    host: HeaderValue,
    ends: Option<(SocketAddr, SocketAddr)>,
    sender: SendRequest<Full<Bytes>>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: StatusCode,
    /// Its body.
    pub body: Bytes,
}

/// An answer that comes in parts.
#[derive(Debug)]
pub struct Stream {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    addr: String,
    server: &'static str,
    body: Incoming,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No connection: nothing was asked.
    #[error("cannot connect to {addr}: {source}")]
    Connect {
        /// Where to.
        addr: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection failed after the request was sent: it may have been carried out.
    #[error("lost the connection to {addr}: {source}")]
    Lost {
        /// To whom.
        addr: String,
        /// What went wrong.
        source: io::Error,
    },
    /// No answer in time: the request may have been carried out.
    #[error("{addr} did not answer within {after:.1?}")]
    TimedOut {
        /// Who.
        addr: String,
        /// The time it had.
        after: Duration,
    },
    /// The answer is not what this protocol has.
    #[error("{addr} did not answer as a {server}: {why}")]
    Protocol {
        /// Who.
        addr: String,
        /// What was looked for there.
        server: &'static str,
        /// What is wrong.
        why: String,
    },
}

impl Client {
    /// Connects to `addr`, a `host:port`, where a `server` such as `raft-node` is expected.
    ///
    /// # Errors
    /// [`ClientError::Connect`], also when it takes too long.
    pub async fn connect(addr: &str, server: &'static str) -> Result<Self, ClientError> {
        let failed = |source| ClientError::Connect { addr: addr.to_owned(), source };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, tcp::dial(addr)).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(failed)?;
        let host = host_header(&stream, addr);
        let host = HeaderValue::try_from(host).map_err(|_| failed(io::ErrorKind::InvalidInput.into()))?;
        prepare(&stream, CLIENT_STALL);
        let ends = stream.local_addr().ok().zip(stream.peer_addr().ok());
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| failed(io::Error::other(error)))?;
        tokio::spawn(connection);
        Ok(Self { addr: addr.to_owned(), server, host, ends, sender })
    }

    /// The two ends of the connection, this one first; nothing, when it broke at once.
    pub const fn ends(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.ends
    }

    /// Asks, with these headers beside the usual ones, and waits up to `timeout` for the whole answer.
    ///
    /// # Errors
    /// When there is no whole answer in time. The connection cannot be used after that.
    pub async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        headers: &[(&str, String)],
        timeout: Duration,
    ) -> Result<Response, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.host.clone());
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(body)).map_err(|error| protocol(&self.addr, self.server, &error))?;
        let exchange = async {
            let response = self.send(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            Ok(Response { status, body: body.map_err(|error| broken_off(&self.addr, self.server, error))?.to_bytes() })
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::TimedOut { addr: self.addr.clone(), after: timeout }),
        }
    }

    /// Asks for an answer that comes in parts, which must begin within `timeout`. The connection is of no other use.
    ///
    /// # Errors
    /// When no answer begins in time.
    pub async fn open(
        mut self,
        path: &str,
        headers: &[(&str, String)],
        timeout: Duration,
    ) -> Result<Stream, ClientError> {
        let mut request = Request::get(path).header(HOST, self.host.clone());
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::default()).map_err(|error| protocol(&self.addr, self.server, &error))?;
        match tokio::time::timeout(timeout, self.send(request)).await {
            Ok(response) => {
                let (head, body) = response?.into_parts();
                Ok(Stream { status: head.status, headers: head.headers, addr: self.addr, server: self.server, body })
            }
            Err(_) => Err(ClientError::TimedOut { addr: self.addr, after: timeout }),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<hyper::Response<Incoming>, ClientError> {
        let server = self.server;
        let failed = |addr: &str, source: hyper::Error| {
            if source.is_parse() {
                protocol(addr, server, &source)
            } else {
                ClientError::Lost { addr: addr.to_owned(), source: io::Error::other(source) }
            }
        };
        let ready = self.sender.ready().await;
        ready.map_err(|source| failed(&self.addr, source))?;
        self.sender.send_request(request).await.map_err(|source| failed(&self.addr, source))
    }
}

impl Stream {
    /// The next part; None at the end.
    ///
    /// # Errors
    /// When the connection is lost, or nothing comes for the time `silence`.
    pub async fn next(&mut self, silence: Duration) -> Result<Option<Bytes>, ClientError> {
        loop {
            let frame = tokio::time::timeout(silence, self.body.frame()).await;
            let frame = frame.map_err(|_| ClientError::TimedOut { addr: self.addr.clone(), after: silence })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame
                .map_err(|source| ClientError::Lost { addr: self.addr.clone(), source: io::Error::other(source) })?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data)); // no trailers
            }
        }
    }

    /// The rest, as a whole answer.
    ///
    /// # Errors
    /// When it is too large, or does not come within `timeout`.
    pub async fn whole(self, timeout: Duration) -> Result<Response, ClientError> {
        let body = Limited::new(self.body, MAX_ANSWER_BYTES).collect();
        match tokio::time::timeout(timeout, body).await {
            Ok(body) => {
                let body = body.map_err(|error| broken_off(&self.addr, self.server, error))?;
                Ok(Response { status: self.status, body: body.to_bytes() })
            }
            Err(_) => Err(ClientError::TimedOut { addr: self.addr, after: timeout }),
        }
    }
}

/// An answer that began and did not end.
fn broken_off(addr: &str, server: &'static str, error: Box<dyn Error + Send + Sync>) -> ClientError {
    match error.downcast_ref() {
        Some(LengthLimitError { .. }) => protocol(addr, server, &error),
        None => ClientError::Lost { addr: addr.to_owned(), source: io::Error::other(error) },
    }
}

fn protocol(addr: &str, server: &'static str, why: &dyn std::fmt::Display) -> ClientError {
    ClientError::Protocol { addr: addr.to_owned(), server, why: why.to_string() }
}
