//! The server: takes connections, deals them to one single-threaded runtime a core, and drains them when it stops.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::NOTICE;
use super::connection::{self, Broken, Done, Echo, Held};
use super::registry::{Registry, Watched};
use super::workers::Workers;
use crate::defaults::{BACKLOG, DRAIN, LINGER, MAX_REFUSALS};
use crate::net::tcp::Acceptor;
use crate::wire::frame::Framing;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is echoed at once: bytes, lines, or frames with a length.
    pub framing: Framing,
    /// Most bytes of a frame's payload.
    pub max_frame: usize,
    /// Most connections at a time; further ones are told so and closed.
    pub max_connections: usize,
    /// Connections on which no byte has moved for so long are closed.
    pub idle_timeout: Duration,
    /// What each client gets first, as a frame of its own.
    pub greeting: Option<Bytes>,
    /// Close after the greeting, in place of echoing.
    pub hang_up: bool,
}

/// What happens to connections. They are numbered from 1.
#[derive(Debug)]
pub enum Event {
    /// A client is served.
    Connected {
        /// Its connection's number.
        connection: u64,
        /// Its address.
        peer: SocketAddr,
    },
    /// A connection has ended.
    Disconnected {
        /// Its number.
        connection: u64,
        /// The client's address.
        peer: SocketAddr,
        /// Bytes sent to it.
        bytes: u64,
        /// Frames echoed.
        frames: u64,
        /// How long it was open.
        open: Duration,
        /// Why it ended.
        why: End,
    },
    /// A client was turned away: all connections are taken.
    Rejected {
        /// Its address.
        peer: SocketAddr,
        /// How many there may be.
        max_connections: usize,
    },
}

/// Why a connection ended.
#[derive(Debug)]
pub enum End {
    /// The client closed, and has got all it is to get.
    Closed,
    /// The server greeted and closed, as told.
    HungUp,
    /// The server stopped; what had arrived was echoed.
    Stopped,
    /// Nothing moved for too long.
    Idle,
    /// The client broke the protocol, and was told so.
    Protocol(String),
    /// The server stopped, and what was on its way did not get there in time.
    Cut,
    /// The connection broke.
    Broken(io::Error),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed"),
            Self::HungUp => f.write_str("hung up"),
            Self::Stopped => f.write_str("the server stopped"),
            Self::Idle => f.write_str("idle for too long"),
            Self::Protocol(why) => f.write_str(why),
            Self::Cut => f.write_str("cut off by the end of the server"),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

/// What a server has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Clients served.
    pub connections: u64,
    /// Clients turned away.
    pub rejected: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Connections that are open.
    pub open: usize,
}

/// An echo server.
pub struct Server {
    options: Options,
    on_event: Box<dyn Fn(Event) + Send + Sync>,
    registry: Registry,
    held: Held,
    refusals: Semaphore,
    connections: AtomicU64,
    rejected: AtomicU64,
    bytes: AtomicU64,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.options).field("totals", &self.totals()).finish_non_exhaustive()
    }
}

impl Server {
    /// A server that tells `on_event`, on whichever thread it happens, what happens.
    pub fn new(options: Options, on_event: impl Fn(Event) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            options,
            on_event: Box::new(on_event),
            registry: Registry::default(),
            held: Held::default(),
            refusals: Semaphore::new(MAX_REFUSALS),
            connections: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    /// What it has done so far.
    pub fn totals(&self) -> Totals {
        Totals {
            connections: self.connections.load(Ordering::Relaxed),
            rejected: self.rejected.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed) + self.registry.written(),
            open: self.registry.len(),
        }
    }

    /// Serves on `workers` until `stop`; then takes no more, echoes what has arrived, and returns when all connections have ended or
    /// [`DRAIN`] is over. Gives the number of connections that were cut off then.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, workers: Workers, stop: CancellationToken) -> usize {
        let mut acceptor = Acceptor::new(listener);
        let accept = async {
            loop {
                let (stream, peer) = acceptor.next().await;
                self.deal(&workers, stream, peer);
            }
        };
        let drained = async {
            stop.cancelled().await;
            self.registry.stop();
        };
        tokio::select! {
            () = drained => {}
            () = accept => {}
            () = self.registry.sweep(self.options.idle_timeout) => {}
        }
        // Whoever has connected before the stop, and may have sent something, is served, too.
        for _ in 0..BACKLOG {
            tokio::task::yield_now().await; // the runtime hears who is there
            let Ok((stream, peer)) = tokio::time::timeout(Duration::ZERO, acceptor.next()).await else { break };
            self.deal(&workers, stream, peer);
        }
        drop(acceptor);
        let dealt = self.connections.load(Ordering::Relaxed);
        let _ = tokio::time::timeout(DRAIN, self.registry.wait_ended(dealt)).await; // then they are cut off
        let cut = self.registry.len();
        self.registry.close_all();
        let _ = tokio::time::timeout(LINGER, self.registry.wait_ended(dealt)).await; // each tells that it has ended
        workers.end();
        cut
    }

    /// Hands a connection to the worker that has fewest.
    fn deal(self: &Arc<Self>, workers: &Workers, stream: TcpStream, peer: SocketAddr) {
        let max_connections = self.options.max_connections;
        if workers.load() >= max_connections {
            self.rejected.fetch_add(1, Ordering::Relaxed);
            (self.on_event)(Event::Rejected { peer, max_connections });
            tokio::spawn(Arc::clone(self).refuse(stream));
            return;
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        let server = Arc::clone(self);
        workers.give(stream, move |given| async move {
            match given {
                Ok(stream) => server.serve_one(stream, peer).await,
                Err(error) => {
                    server.connections.fetch_sub(1, Ordering::Relaxed);
                    tracing::error!("cannot serve {peer}: {error}");
                }
            }
        });
    }

    async fn serve_one(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let opened = Instant::now();
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!("{peer}: {error}"); // it has gone already, as its first read will tell
        }
        let (mut input, output) = stream.into_split();
        let watched = self.registry.add(output);
        let connection = watched.number();
        (self.on_event)(Event::Connected { connection, peer });
        let mut frames = 0;
        let result = async {
            if let Some(greeting) = &self.options.greeting {
                connection::send(&watched, greeting).await?;
            }
            if self.options.hang_up {
                return Ok(Done::Stopped);
            }
            let Options { framing, max_frame, .. } = self.options;
            let mut echo = Echo::new(&mut input, &watched, framing, max_frame, &self.held);
            let result = echo.run().await;
            frames = echo.frames;
            result
        };
        let why = match result.await {
            _ if watched.timed_out() => End::Idle,
            Ok(Done::Closed) => End::Closed,
            Ok(Done::Stopped) => {
                connection::hang_up(&mut input, &watched, b"").await;
                if self.options.hang_up { End::HungUp } else { End::Stopped }
            }
            Err(Broken::Io(_)) if self.registry.is_cut() => End::Cut,
            Err(Broken::Io(error)) => End::Broken(error),
            Err(broken @ (Broken::Frame(_) | Broken::HalfFrame(_) | Broken::Full)) => {
                connection::hang_up(&mut input, &watched, &self.notice(&broken)).await;
                End::Protocol(broken.to_string())
            }
        };
        let bytes = watched.written();
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        (self.on_event)(Event::Disconnected { connection, peer, bytes, frames, open: opened.elapsed(), why });
        self.registry.remove(&watched);
    }

    /// All connections are taken: says so and hangs up.
    async fn refuse(self: Arc<Self>, stream: TcpStream) {
        if let Ok(_slot) = self.refusals.try_acquire() {
            let (mut input, output) = stream.into_split();
            let watched = Watched::alone(output);
            let max = self.options.max_connections;
            let notice = self.notice(&format_args!("all {max} connections are taken, try again later"));
            connection::hang_up(&mut input, &watched, &notice).await;
        }
    }

    fn notice(&self, why: &dyn fmt::Display) -> Bytes {
        let mut frame = BytesMut::new();
        let end = if self.options.framing == Framing::Raw { "\n" } else { "" };
        self.options.framing.put(&mut frame, format!("{NOTICE}{why}{end}").as_bytes());
        frame.freeze()
    }
}
