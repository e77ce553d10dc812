//! A load generator's connection: HTTP/1.1 with as little work as an exchange takes.
//!
//! On one machine, what the load costs is missing where it is to be served. So this is no client for everybody: it keeps
//! one connection, asks one thing at a time, and takes the answers a raft-node gives: a status, a length, so many bytes.
//! What else HTTP has (chunks, bodies that end with the connection) is refused by name rather than misread.

use std::io::{self, Write};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

use super::client::ClientError;
use super::socket::{host_header, prepare};
use crate::defaults::{CLIENT_STALL, CONNECT_TIMEOUT, MAX_ANSWER_BYTES, MAX_HEADER_BYTES};
use crate::net::tcp;

/// One connection to a node.
#[derive(Debug)]
pub struct Connection {
    addr: String,
    server: &'static str,
    wire: Wire,
    timeout: Duration,
    /// Rings at a deadline, or earlier: wound up at most once a time-out, not once an exchange.
    alarm: Pin<Box<Sleep>>,
}

/// An answer; its body lies in the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Its status code.
    pub status: u16,
    /// Its body.
    pub body: &'a [u8],
}

#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    host: String,
    request: Vec<u8>,
    answer: BytesMut,
}

/// What the head of an answer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    /// Bytes of the head itself, and of the body behind it.
    len: usize,
    body: usize,
}

/// Why an exchange failed; the connection adds to whom.
enum Trouble {
    Lost(io::Error),
    Protocol(String),
}

impl Connection {
    /// Connects to `addr`, a `host:port`, where a `server` such as `raft-node` is expected, which has `timeout` for each answer.
    ///
    /// # Errors
    /// [`ClientError::Connect`], also when it takes too long.
    pub async fn open(addr: &str, server: &'static str, timeout: Duration) -> Result<Self, ClientError> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, tcp::dial(addr)).await;
        let stream = stream.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|source| ClientError::Connect { addr: addr.to_owned(), source })?;
        prepare(&stream, CLIENT_STALL);
        let host = host_header(&stream, addr);
        let wire = Wire { stream, host, request: Vec::new(), answer: BytesMut::with_capacity(4 << 10) };
        Ok(Self { addr: addr.to_owned(), server, wire, timeout, alarm: Box::pin(tokio::time::sleep(timeout)) })
    }

    /// Asks for `path` with GET, as begun at `now`.
    ///
    /// # Errors
    /// When there is no whole answer in time. The connection cannot be used after that.
    pub async fn get(&mut self, path: &str, now: Instant) -> Result<Response<'_>, ClientError> {
        let Wire { request, host, .. } = &mut self.wire;
        request.clear();
        put(request, format_args!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        self.exchange(now).await
    }

    /// Asks with POST to `path`, whose body is this JSON, as begun at `now`.
    ///
    /// # Errors
    /// When there is no whole answer in time. The connection cannot be used after that.
    pub async fn post(&mut self, path: &str, body: &[u8], now: Instant) -> Result<Response<'_>, ClientError> {
        let Wire { request, host, .. } = &mut self.wire;
        request.clear();
        let len = body.len();
        put(
            request,
            format_args!(
                "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {len}\r\n\r\n"
            ),
        );
        request.extend_from_slice(body);
        self.exchange(now).await
    }

    async fn exchange(&mut self, now: Instant) -> Result<Response<'_>, ClientError> {
        let (wire, alarm, deadline) = (&mut self.wire, &mut self.alarm, now + self.timeout);
        let exchanged = {
            let mut exchange = pin!(wire.exchange());
            loop {
                tokio::select! {
                    biased;
                    exchanged = &mut exchange => break Some(exchanged),
                    () = alarm.as_mut() => {
                        if Instant::now() >= deadline {
                            break None;
                        }
                        alarm.as_mut().reset(deadline); // it was wound up for an earlier exchange
                    }
                }
            }
        };
        let addr = || self.addr.clone();
        match exchanged {
            Some(Ok(Head { status, len, body })) => Ok(Response { status, body: &self.wire.answer[len..len + body] }),
            Some(Err(Trouble::Lost(source))) => Err(ClientError::Lost { addr: addr(), source }),
            Some(Err(Trouble::Protocol(why))) => Err(ClientError::Protocol { addr: addr(), server: self.server, why }),
            None => Err(ClientError::TimedOut { addr: addr(), after: self.timeout }),
        }
    }
}

impl Wire {
    /// Sends the request and takes its whole answer, and no byte more.
    async fn exchange(&mut self) -> Result<Head, Trouble> {
        self.answer.clear();
        self.stream.write_all(&self.request).await.map_err(Trouble::Lost)?;
        let mut head = None;
        loop {
            self.answer.reserve(head.map_or(1 << 10, |Head { len, body, .. }| len + body - self.answer.len()));
            if self.stream.read_buf(&mut self.answer).await.map_err(Trouble::Lost)? == 0 {
                return Err(Trouble::Lost(io::ErrorKind::UnexpectedEof.into()));
            }
            if head.is_none() {
                head = parse(&self.answer).map_err(Trouble::Protocol)?;
            }
            let Some(whole @ Head { len, body, .. }) = head else { continue };
            match self.answer.len().cmp(&(len + body)) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => return Ok(whole),
                std::cmp::Ordering::Greater => {
                    return Err(Trouble::Protocol("more bytes than the answer has".to_owned()));
                }
            }
        }
    }
}

/// Reads the head of an answer; nothing yet, when it is not all there.
fn parse(bytes: &[u8]) -> Result<Option<Head>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(len) = response.parse(bytes).map_err(|error| error.to_string())? else {
        if bytes.len() > MAX_HEADER_BYTES {
            return Err(format!("a head of more than {MAX_HEADER_BYTES} bytes"));
        }
        return Ok(None);
    };
    let mut body = None;
    for header in &*response.headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(header.value).ok().and_then(|text| text.parse::<usize>().ok());
            if body.is_some() || length.is_none() {
                return Err("a content-length that is no number".to_owned());
            }
            body = length;
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("a body in chunks".to_owned());
        }
    }
    let status = response.code.expect("a whole head has a status");
    match body {
        Some(body) if body <= MAX_ANSWER_BYTES => Ok(Some(Head { status, len, body })),
        Some(body) => Err(format!("a body of {body} bytes, more than {MAX_ANSWER_BYTES}")),
        None => Err(format!("status {status} without a content-length")),
    }
}

fn put(request: &mut Vec<u8>, head: std::fmt::Arguments<'_>) {
    request.write_fmt(head).expect("memory takes whatever is written");
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A connection to a server that answers the first request with these parts, each written by itself, and hangs up
    /// when the client does.
    async fn answered_with(parts: &'static [&'static str], timeout: Duration) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut request = [0; 1024];
            while let Ok(1..) = stream.read(&mut request).await {
                for part in parts {
                    let _ = stream.write_all(part.as_bytes()).await;
                    tokio::task::yield_now().await;
                }
            }
        });
        Connection::open(&addr, "raft-node", timeout).await.unwrap()
    }

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn an_answer_arrives_whole_however_it_is_split_and_another_follows_it() {
        let parts = &["HTTP/1.1 200 OK\r\nConte", "nt-Length: 5\r\n", "etag: \"7\"\r\n\r\nhe", "llo"];
        let mut connection = answered_with(parts, PATIENCE).await;
        for _ in 0..3 {
            let answer = connection.get("/kv/a", Instant::now()).await.unwrap();
            assert_eq!(answer, Response { status: 200, body: b"hello" });
        }
        let answer = connection.post("/kv", b"{}", Instant::now()).await.unwrap();
        assert_eq!(answer, Response { status: 200, body: b"hello" });
    }

    #[tokio::test]
    async fn what_is_no_answer_of_a_raft_node_is_refused_by_name() {
        for (answer, why) in [
            (&["220 mail.example ESMTP\r\n"], "version"),
            (&["HTTP/1.1 200 OK\r\n\r\n"], "without a content-length"),
            (&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"], "chunks"),
            (&["HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"], "no number"),
            (&["HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"], "no number"),
            (&["HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n"], "more than"),
            (&["HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nxx"], "more bytes"),
        ] {
            let error = answered_with(answer, PATIENCE).await.get("/", Instant::now()).await.unwrap_err();
            assert!(matches!(&error, ClientError::Protocol { .. }) && error.to_string().contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_given_up_in_time() {
        let started = Instant::now();
        let timeout = Duration::from_millis(50);
        let mut connection = answered_with(&["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf"], timeout).await;
        let error = connection.get("/", Instant::now()).await.unwrap_err();
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
        assert!(started.elapsed() >= timeout && started.elapsed() < PATIENCE);
    }

    #[test]
    fn an_endless_head_is_given_up() {
        let head = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(MAX_HEADER_BYTES));
        assert!(parse(head.as_bytes()).unwrap_err().contains("head of more than"));
        assert_eq!(parse(&head.as_bytes()[..100]), Ok(None));
    }
}
