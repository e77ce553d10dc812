//! Connections: how many, how long, how large.
//!
//! Clients may take all places but those of the doorstep: whoever comes when they are taken is let in there, and says at once
//! what he wants. A peer, and whoever asks how the node is, is served, everybody else is told that there is no place. The
//! doorstep has room for the latest few that came, so that nobody can take it by standing still.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hangup::{EventStream, HangupAware, StreamSlot};
use super::reply::Reply;
use super::socket::prepare;
use super::upgrade;
use crate::defaults::{
    ACCEPT_PAUSE, CLIENT_STALL, DOORSTEP, DOORSTEP_TIMEOUT, HEADER_TIMEOUT, MAX_CONNECTIONS, MAX_HEADER_BYTES,
};
use crate::net::tcp::{Acceptor, most_connections};

/// Serves connections with `handle` until `stop`; then takes no more and returns once those in hand have got their
/// answer.
pub async fn serve<H>(listener: TcpListener, handle: H, stop: CancellationToken)
where
    H: AsyncHandler,
{
    let connections = TaskTracker::new();
    let most = most_connections(MAX_CONNECTIONS + DOORSTEP);
    let mut doorstep = Doorstep { size: DOORSTEP.min(most / 4), latest: VecDeque::new() };
    let slots = Arc::new(Semaphore::new(most - doorstep.size));
    let mut acceptor = Acceptor::new(listener);
    loop {
        let (stream, _) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = acceptor.next() => accepted,
        };
        let (handle, stop) = (handle.clone(), stop.clone());
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            connections.spawn(async move {
                serve_connection(stream, handle, Terms::FOR_CLIENTS, stop).await;
                drop(slot);
            });
        } else {
            doorstep.make_room().await;
            doorstep.latest.push_back(connections.spawn(serve_at_the_door(stream, handle, stop)));
        }
    }
    connections.close();
    connections.wait().await;
}

/// The latest connections that found no place.
struct Doorstep {
    size: usize,
    latest: VecDeque<JoinHandle<()>>,
}

impl Doorstep {
    /// Hangs up on whoever has been there for longest, when it is full: then his file is free, too.
    async fn make_room(&mut self) {
        self.latest.retain(|visitor| !visitor.is_finished());
        while self.latest.len() >= self.size
            && let Some(longest) = self.latest.pop_front()
        {
            longest.abort();
            let _ = longest.await;
        }
    }
}

/// Who must always get through: peers, and whoever asks how the node is.
const ALWAYS: [&str; 5] = [upgrade::PATH, "/health", "/livez", "/readyz", "/metrics"];

/// There is no place: serves what must get through, says so to everybody else.
async fn serve_at_the_door<H: AsyncHandler>(stream: TcpStream, handle: H, stop: CancellationToken) {
    let mut head = [0; 32];
    let came = tokio::select! {
        () = stop.cancelled() => return,
        came = tokio::time::timeout(DOORSTEP_TIMEOUT, stream.peek(&mut head)) => came,
    };
    let len = came.ok().and_then(Result::ok).unwrap_or_default();
    if must_get_through(&head[..len]) {
        serve_connection(stream, handle, Terms::AT_THE_DOOR, stop).await;
    } else {
        refuse(stream).await;
    }
}

/// Looks at the beginning of a request, which comes in one piece.
fn must_get_through(head: &[u8]) -> bool {
    let target = head.strip_prefix(b"GET ").or_else(|| head.strip_prefix(b"HEAD "));
    let end = target.and_then(|target| target.iter().position(|byte| matches!(byte, b' ' | b'?')));
    target.zip(end).is_some_and(|(target, end)| ALWAYS.iter().any(|path| path.as_bytes() == &target[..end]))
}

/// How a connection is served.
#[derive(Clone, Copy, Debug)]
struct Terms {
    /// Time for a request's head to arrive.
    head: Duration,
    /// Whether it may ask more than once.
    keep_alive: bool,
}

impl Terms {
    const FOR_CLIENTS: Self = Self { head: HEADER_TIMEOUT, keep_alive: true };
    const AT_THE_DOOR: Self = Self { head: DOORSTEP_TIMEOUT, keep_alive: false };
}

/// Answers requests. Cloned for each connection.
pub trait AsyncHandler: Clone + Send + 'static {
    /// Answers one request; it came over loopback, or it did not.
    fn answer(&self, request: Request<Incoming>, on_loopback: bool) -> impl Future<Output = Reply> + Send;
}

async fn serve_connection<H: AsyncHandler>(stream: TcpStream, handle: H, terms: Terms, stop: CancellationToken) {
    prepare(&stream, CLIENT_STALL);
    let on_loopback = stream.local_addr().is_ok_and(|addr| addr.ip().to_canonical().is_loopback());
    let events = EventStream::default();
    let stream = HangupAware::new(stream, events.clone());
    let begun = events.clone();
    let service = service_fn(move |request| {
        let (handle, events) = (handle.clone(), begun.clone());
        async move {
            let mut reply = handle.answer(request, on_loopback).await;
            if let Some(slot) = reply.extensions_mut().remove::<Arc<StreamSlot>>() {
                events.begin(slot);
            }
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(terms.head)
        .keep_alive(terms.keep_alive)
        .max_buf_size(MAX_HEADER_BYTES)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = events.run(connection.as_mut()) => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            events.run(connection.as_mut()).await
        }
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!("a connection ended: {error}"),
        None => tracing::debug!("broke off a connection on which nothing was taken"),
    }
}

/// All places are taken: says so and hangs up.
async fn refuse(mut stream: TcpStream) {
    const BODY: &str = r#"{"error":"too many connections"}"#;
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n{BODY}",
        BODY.len()
    );
    let _ = tokio::time::timeout(ACCEPT_PAUSE, async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // To close with a request unread would take the answer back.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    })
    .await;
}
