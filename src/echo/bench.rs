//! A load generator whose clock is honest: a message's latency counts from the moment it was due, not from the moment it
//! could be sent.
//!
//! With a rate, messages are due at fixed times, whatever became of those before (an open loop): when the server stalls,
//! every message that should have been sent meanwhile counts the wait. Without one, a message is due as soon as the window
//! has room, that is, when the reply before it has come (a closed loop): that tells what so many clients get that each wait
//! for their answer, and a stall shows once a client.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hdrhistogram::Histogram;
use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::registry::{Registry, Watched};
use super::workers::Workers;
use crate::defaults::{BENCH_CONNECTING, BENCH_PAUSE, ECHO_READ};
use crate::net::tcp;
use crate::wire::frame::Framing;

/// The load.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server's addresses.
    pub addrs: Vec<SocketAddr>,
    /// What its messages look like.
    pub framing: Framing,
    /// Connections.
    pub connections: usize,
    /// Bytes of a message, without prefix or line end.
    pub size: usize,
    /// Most messages on their way on one connection.
    pub window: usize,
    /// Messages a second, all connections together; none is as many as it takes.
    pub rate: Option<f64>,
    /// A connection for each message.
    pub reconnect: bool,
    /// How long a reply may take.
    pub timeout: Duration,
    /// Threads.
    pub workers: usize,
}

impl Load {
    /// A message as it goes over the wire.
    fn message(&self) -> Bytes {
        let payload: Vec<u8> = (b'a'..=b'z').cycle().take(self.size).collect();
        let mut frame = BytesMut::new();
        self.framing.put(&mut frame, &payload);
        frame.freeze()
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Latencies in nanoseconds.
    pub latency: Histogram<u64>,
    /// What went wrong while measuring.
    pub errors: u64,
    /// The first thing that went wrong, while measuring or before.
    pub first_error: Option<String>,
    /// When the latest message was measured.
    pub last: Option<Instant>,
    /// How long the message that was due first of those not answered at the end had waited: a stall that did not end in
    /// time shows in no latency.
    pub unanswered: Duration,
}

impl Tally {
    fn new() -> Self {
        // A tenth of a microsecond up to two minutes, three digits.
        let latency = Histogram::new_with_bounds(100, 120_000_000_000, 3).expect("the bounds are valid");
        Self { latency, errors: 0, first_error: None, last: None, unanswered: Duration::ZERO }
    }
}

/// A load that runs. Dropping it without [`Bench::stop`] leaves its threads running.
#[derive(Debug)]
pub struct Bench {
    shared: Arc<Shared>,
    workers: Workers,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    load: Load,
    message: Bytes,
    /// A whole window of messages.
    block: Vec<u8>,
    /// One a worker, so that nobody waits for it.
    tallies: Vec<Mutex<Tally>>,
    started: Instant,
    /// For each client, when the message that it has waited for longest was due, in nanoseconds after the start; 0 for none.
    waiting: Vec<AtomicU64>,
    measuring: AtomicBool,
    registry: Registry,
    connecting: Semaphore,
}

/// Why a connection of the load ended.
#[derive(Debug, Error)]
enum Trouble {
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("no reply within {}", humantime::format_duration(*.0))]
    TimedOut(Duration),
    #[error("not what was sent came back: {0:?}")]
    Different(String),
}

impl Bench {
    /// Starts to load; measures nothing yet.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(load: Load) -> io::Result<Self> {
        let message = load.message();
        let shared = Arc::new(Shared {
            block: message.repeat(load.window),
            message,
            tallies: (0..load.workers).map(|_| Mutex::new(Tally::new())).collect(),
            started: Instant::now(),
            waiting: (0..load.connections).map(|_| AtomicU64::new(0)).collect(),
            measuring: AtomicBool::new(false),
            registry: Registry::default(),
            connecting: Semaphore::new(BENCH_CONNECTING),
            load,
        });
        let workers = Workers::start("bench", shared.load.workers)?;
        let stop = CancellationToken::new();
        for number in 0..shared.load.connections {
            let client = Client { number, shared: Arc::clone(&shared) };
            let stop = stop.clone();
            // Tasks are dealt in turn: so is the place where they count.
            workers.spawn(async move {
                stop.run_until_cancelled_owned(client.run()).await;
            });
        }
        let (watched, stopped) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let timeout = watched.load.timeout;
            stopped.run_until_cancelled(watched.registry.sweep(timeout)).await;
        });
        Ok(Self { shared, workers, stop })
    }

    /// Measures from now on, or no more.
    pub fn measure(&self, measuring: bool) {
        self.shared.measuring.store(measuring, Ordering::Relaxed);
    }

    /// Messages measured so far.
    pub fn messages(&self) -> u64 {
        self.shared.tallies.iter().map(|tally| lock(tally).latency.len()).sum()
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.shared.registry.len()
    }

    /// What was measured so far.
    pub fn tally(&self) -> Tally {
        let mut all = Tally::new();
        for tally in &self.shared.tallies {
            let tally = lock(tally);
            all.latency.add(&tally.latency).expect("they have the same bounds");
            all.errors += tally.errors;
            all.last = all.last.max(tally.last);
            if all.first_error.is_none() {
                all.first_error.clone_from(&tally.first_error);
            }
        }
        all
    }

    /// Ends the load and gives what was measured.
    pub fn stop(self) -> Tally {
        self.measure(false);
        let now = nanoseconds(self.shared.started.elapsed());
        let waiting = self.shared.waiting.iter().map(|due| due.load(Ordering::Relaxed)).filter(|due| *due > 0);
        let unanswered = waiting.min().map_or(0, |due| now.saturating_sub(due));
        self.stop.cancel();
        let tally = Tally { unanswered: Duration::from_nanos(unanswered), ..self.tally() };
        self.workers.end();
        tally
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client: one connection after the other.
struct Client {
    number: usize,
    shared: Arc<Shared>,
}

impl Client {
    async fn run(self) {
        let schedule = self.shared.load.rate.map(|rate| Schedule::new(rate, self.shared.load.connections, self.number));
        let mut schedule = match schedule.transpose() {
            Ok(schedule) => schedule,
            Err(error) => return self.trouble(&error.into()),
        };
        loop {
            let ended = if self.shared.load.reconnect {
                self.connect_ask_close(schedule.as_mut()).await
            } else {
                self.load(schedule.as_mut()).await
            };
            if let Err(trouble) = ended {
                self.trouble(&trouble);
                tokio::time::sleep(BENCH_PAUSE).await;
            }
        }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.shared.tallies[self.number % self.shared.tallies.len()])
    }

    fn trouble(&self, trouble: &Trouble) {
        let measuring = self.shared.measuring.load(Ordering::Relaxed);
        let mut tally = self.tally();
        tally.errors += u64::from(measuring);
        tally.first_error.get_or_insert_with(|| trouble.to_string());
    }

    fn measured(&self, due: Instant, now: Instant) {
        if self.shared.measuring.load(Ordering::Relaxed) {
            let mut tally = self.tally();
            tally.latency.saturating_record(nanoseconds(now.duration_since(due)));
            tally.last = Some(now);
        }
    }

    /// Notes since when it waits.
    fn waits_since(&self, due: Option<Instant>) {
        let since = due.map_or(0, |due| nanoseconds(due.duration_since(self.shared.started)).max(1));
        self.shared.waiting[self.number].store(since, Ordering::Relaxed);
    }

    /// The same, unless it waits already: for an answer that a broken connection did not bring.
    fn still_waits_since(&self, due: Instant) {
        if self.shared.waiting[self.number].load(Ordering::Relaxed) == 0 {
            self.waits_since(Some(due));
        }
    }

    /// Loads one connection until it fails.
    async fn load(&self, schedule: Option<&mut Schedule>) -> Result<(), Trouble> {
        let Shared { load, message, block, registry, .. } = &*self.shared;
        let stream = {
            let _turn = self.shared.connecting.acquire().await.expect("it is never closed");
            let connected = tokio::time::timeout(load.timeout, tcp::connect_to(&load.addrs)).await;
            connected.map_err(|_| Trouble::TimedOut(load.timeout))?.map_err(Trouble::Connect)?
        };
        let (mut input, output) = stream.into_split();
        let watched = registry.add(output);
        let mut flow = Flow {
            client: self,
            watched: &watched,
            block,
            message: message.len(),
            due: VecDeque::with_capacity(load.window),
            unsent: 0,
            sent: 0,
            received: 0,
            schedule,
        };
        let ended = poll_fn(|cx| flow.poll(&mut input, cx)).await;
        registry.remove(&watched);
        self.still_waits_since(Instant::now()); // what it waited for did not come, and the next is due
        if watched.timed_out() { Err(Trouble::TimedOut(load.timeout)) } else { ended }
    }

    /// A message on a connection of its own.
    async fn connect_ask_close(&self, schedule: Option<&mut Schedule>) -> Result<(), Trouble> {
        let Shared { load, message, .. } = &*self.shared;
        let due = match schedule {
            Some(schedule) => schedule.next().await?,
            None => Instant::now(),
        };
        self.still_waits_since(due);
        let asked = async {
            let mut stream = self.connect_anew().await.map_err(Trouble::Connect)?;
            stream.write_all(message).await?;
            let mut reply = vec![0; message.len()];
            let mut filled = 0;
            while filled < reply.len() {
                match stream.read(&mut reply[filled..]).await? {
                    0 => return Err(Trouble::Closed),
                    read => filled += read,
                }
            }
            if reply == message[..] { Ok(()) } else { Err(different(&reply)) }
        };
        let ended = tokio::time::timeout(load.timeout, asked).await;
        ended.map_err(|_| Trouble::TimedOut(load.timeout))??;
        self.waits_since(None);
        self.measured(due, Instant::now());
        Ok(())
    }

    /// Connects once more. A port that was used must rest for a second, which leaves one address some 14,000 connections a
    /// second to the same server; on the loopback, where there are plenty, each client has an address of its own.
    async fn connect_anew(&self) -> io::Result<TcpStream> {
        let [SocketAddr::V4(server)] = self.shared.load.addrs[..] else {
            return tcp::connect_to(&self.shared.load.addrs).await;
        };
        if !server.ip().is_loopback() {
            return tcp::connect_to(&self.shared.load.addrs).await;
        }
        let socket = TcpSocket::new_v4()?;
        setsockopt(&socket, IpBindAddressNoPort, &true)?;
        let [_, _, high, low] = u32::try_from(self.number % 60_000 + 256).unwrap_or_default().to_be_bytes();
        socket.bind((Ipv4Addr::new(127, 0, high, low), 0).into())?;
        socket.set_nodelay(true)?;
        socket.connect(server.into()).await
    }
}

fn different(came: &[u8]) -> Trouble {
    let start = &came[..came.len().min(100)];
    Trouble::Different(String::from_utf8_lossy(start).trim_end().to_owned())
}

/// Messages on one connection.
struct Flow<'a> {
    client: &'a Client,
    watched: &'a Watched,
    /// A whole window of messages.
    block: &'a [u8],
    /// Bytes of one.
    message: usize,
    /// When each message that is not answered yet was due.
    due: VecDeque<Instant>,
    /// Bytes of them that are not written yet.
    unsent: usize,
    /// Where in the block the next byte to write, and to come, stands.
    sent: usize,
    received: usize,
    schedule: Option<&'a mut Schedule>,
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; ECHO_READ]);
}

impl Flow<'_> {
    /// Sends what is due and takes what comes, until there is nothing of either: the socket and the schedule wake it up.
    fn poll(&mut self, input: &mut OwnedReadHalf, cx: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        loop {
            self.fill_window(cx)?;
            self.watched.set_waiting(!self.due.is_empty());
            self.client.waits_since(self.due.front().copied());
            self.write(cx)?;
            let came = SCRATCH.with_borrow_mut(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut *input).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) => self.take(buffer.filled()).map(|()| true),
                    Poll::Ready(Err(error)) => Err(error.into()),
                    Poll::Pending => Ok(false),
                }
            })?;
            if !came {
                return Poll::Pending;
            }
        }
    }

    /// What is due now, as far as the window has room.
    fn fill_window(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let room = self.client.shared.load.window - self.due.len();
        let before = self.due.len();
        match &mut self.schedule {
            Some(schedule) => {
                for _ in 0..room {
                    match schedule.poll_next(cx) {
                        Poll::Ready(due) => self.due.push_back(due?),
                        Poll::Pending => break,
                    }
                }
            }
            None if room > 0 => {
                let now = Instant::now();
                self.due.extend(std::iter::repeat_n(now, room));
            }
            None => {}
        }
        self.unsent += (self.due.len() - before) * self.message;
        Ok(())
    }

    /// Writes what is not written yet, as much as the socket takes.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while self.unsent > 0 {
            let end = (self.sent + self.unsent).min(self.block.len());
            match self.watched.stream().try_write(&self.block[self.sent..end]) {
                Ok(written) => {
                    self.watched.count_written(written);
                    self.unsent -= written;
                    self.sent = (self.sent + written) % self.block.len();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.watched.stream().poll_write_ready(cx)? {
                        Poll::Ready(()) => {}
                        Poll::Pending => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What came must be what was sent; whole messages are measured.
    fn take(&mut self, mut came: &[u8]) -> Result<(), Trouble> {
        if came.is_empty() {
            return Err(Trouble::Closed);
        }
        self.watched.count_read(came.len());
        let now = Instant::now();
        while !came.is_empty() {
            let into = self.received % self.message;
            let len = came.len().min(self.message - into);
            if self.due.is_empty() || came[..len] != self.block[self.received..self.received + len] {
                return Err(different(came));
            }
            came = &came[len..];
            self.received = (self.received + len) % self.block.len();
            if into + len == self.message {
                let due = self.due.pop_front().expect("one was due");
                self.client.measured(due, now);
            }
        }
        Ok(())
    }
}

/// When the messages of one connection are due: at equal distances, each connection at times of its own. Its timer counts in
/// nanoseconds, where the runtime's counts in milliseconds.
#[derive(Debug)]
struct Schedule {
    next: Instant,
    distance: Duration,
    timer: AsyncFd<std::os::fd::OwnedFd>,
}

impl Schedule {
    fn new(rate: f64, connections: usize, number: usize) -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        let distance = Duration::from_secs_f64(connections as f64 / rate);
        let next = Instant::now() + Duration::from_secs_f64((number + 1) as f64 / rate);
        #[expect(deprecated, reason = "the safe one; an OwnedFd is what it says all its life")]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { next, distance, timer })
    }

    async fn next(&mut self) -> io::Result<Instant> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// When the next message was due, once it is.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Instant>> {
        loop {
            let wait = self.next.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                let due = self.next;
                self.next += self.distance;
                return Poll::Ready(Ok(due));
            }
            let spec = |time: Duration| Timespec {
                tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: time.subsec_nanos().into(),
            };
            let once = Itimerspec { it_interval: spec(Duration::ZERO), it_value: spec(wait) };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
            match self.timer.poll_read_ready(cx)? {
                Poll::Ready(mut rung) => rung.clear_ready(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}
