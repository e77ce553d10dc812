//! Connections: how many, how long, how large.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attentive::{Attention, Attentive};
use super::reply::{Body, Reply};
use crate::defaults::{ACCEPT_PAUSE, CLIENT_STALL, HEADER_TIMEOUT, MAX_CONNECTIONS, MAX_HEADER_BYTES};
use crate::net::link::KEEP_ALIVE;
use crate::net::tcp::{Acceptor, most_connections};

/// Serves connections with `handle` until `stop`; then takes no more and returns once those in hand have got their
/// answer.
pub async fn serve<H>(listener: TcpListener, handle: H, stop: CancellationToken)
where
    H: AsyncHandler,
{
    let connections = TaskTracker::new();
    let slots = Arc::new(Semaphore::new(most_connections(MAX_CONNECTIONS)));
    let mut acceptor = Acceptor::new(listener);
    loop {
        let (stream, _) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = acceptor.next() => accepted,
        };
        let Ok(slot) = slots.clone().try_acquire_owned() else {
            connections.spawn(refuse(stream));
            continue;
        };
        let handle = handle.clone();
        let stop = stop.clone();
        connections.spawn(async move {
            serve_connection(stream, handle, stop).await;
            drop(slot);
        });
    }
    connections.close();
    connections.wait().await;
}

/// Answers requests. Cloned for each connection.
pub trait AsyncHandler: Clone + Send + 'static {
    /// Answers one request; it came over loopback, or it did not.
    fn answer(&self, request: Request<Incoming>, on_loopback: bool) -> impl Future<Output = Reply> + Send;
}

async fn serve_connection<H: AsyncHandler>(stream: TcpStream, handle: H, stop: CancellationToken) {
    prepare(&stream, CLIENT_STALL);
    let on_loopback = stream.local_addr().is_ok_and(|addr| addr.ip().to_canonical().is_loopback());
    let attention = Attention::default();
    let stream = Attentive::new(stream, attention.clone());
    let service = service_fn(move |request| {
        let (handle, attention) = (handle.clone(), attention.clone());
        async move {
            attention.set(false);
            let reply = handle.answer(request, on_loopback).await;
            attention.set(matches!(reply.body(), Body::Events(_)));
            Ok::<_, Infallible>(reply)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEADER_BYTES)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}

/// Small answers leave at once, a peer that vanished is noticed, and so is one that has taken nothing of what it was
/// sent for the time `stall` (TCP_USER_TIMEOUT).
pub(super) fn prepare(stream: &TcpStream, stall: Duration) {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 5).with_retries(3);
    let socket = SockRef::from(stream);
    let prepared = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keep_alive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(stall)));
    if let Err(error) = prepared {
        tracing::debug!("cannot set the options of a connection: {error}");
    }
}

/// All slots are taken: says so and hangs up.
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
