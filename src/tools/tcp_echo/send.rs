//! `tcp-echo send`.

use std::io::{BufRead, IsTerminal, Read};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::common::{Frame, max_frame, unreachable};
use crate::cli::measure::microseconds;
use crate::cli::signals::Signals;
use crate::cli::{Failure, Kind, Output, args};
use crate::defaults::{ECHO_READ, RECONNECT, STDIN_QUEUE};
use crate::echo::client::{Client, EchoError};
use crate::net::tcp::{self, ConnectError};
use crate::threads;
use crate::wire::frame::Framing;

/// Send a message, or stdin, and print what comes back
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
        tcp-echo send 127.0.0.1:7000 hello\n  \
        tcp-echo send localhost:7000 ping --frame lines --count 3 --json\n  \
        tcp-echo send 127.0.0.1:7000 --check <picture.png >/dev/null\n\n\
        Words are joined by spaces. Without any, stdin is sent: as it is, or one frame a line with --frame length.\n\
        At the end of its input it closes its half of the connection and prints what comes until the server closes.")]
pub(super) struct Options {
    /// Where the server is
    #[arg(value_name = "HOST:PORT", value_parser = args::address)]
    addr: String,
    /// What to send [default: stdin]
    text: Vec<String>,
    /// Where one message ends and the next begins
    #[arg(long, value_enum, default_value_t = Frame::Raw, value_name = "FRAME")]
    frame: Frame,
    /// The longest line or frame to take
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = max_frame)]
    max_frame: usize,
    /// Send the message so many times, each when the one before has come back
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1, requires = "text", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// How long a connection may take to be made
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = args::duration)]
    connect_timeout: Duration,
    /// How long to wait for what is owed
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = args::duration)]
    timeout: Duration,
    /// When the connection cannot be made, try again so many times
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// Exit 1 unless just what was sent comes back
    #[arg(long)]
    check: bool,
}

/// Sends, and prints what comes back.
pub(super) async fn run(options: Options, output: &Output) -> Result<(), Failure> {
    let message = message(&options)?;
    let mut signals = Signals::new()?;
    let interrupted = |signal| Failure::new(Kind::Interrupted { signal }, "interrupted");
    let stream = tokio::select! {
        stream = connect(&options) => stream?,
        signal = signals.stop() => return Err(interrupted(signal)),
    };
    let started = Instant::now();
    let framing = options.frame.framing();
    let mut client = Client::new(stream, framing, options.max_frame, options.timeout);
    let mut printer = Printer { output, framing, replies: 0, in_line: false, notice: None };
    let exchange = async {
        match &message {
            Some(message) => ask(&options, message, &mut client, &mut printer).await,
            None => pipe(&options, &mut client, &mut printer).await,
        }
    };
    let signal = tokio::select! {
        ended = exchange => ended.map(|()| None)?,
        signal = signals.stop() => Some(signal),
    };

    let (sent, received) = (client.sent(), client.received());
    if output.is_json() {
        let seconds = (started.elapsed().as_secs_f64() * 1e6).round() / 1e6;
        let summary = json!({
            "event": "summary", "addr": options.addr, "sent_bytes": sent.bytes, "received_bytes": received.bytes,
            "replies": printer.replies, "seconds": seconds, "interrupted": signal.is_some(),
        });
        output.line(&summary.to_string())?;
    }
    if let Some(signal) = signal {
        return Err(interrupted(signal));
    }
    if let Some(notice) = &printer.notice
        && sent != received
    {
        return Err(refused(&options.addr, notice));
    }
    if options.check && (sent.bytes, sent.crc) != (received.bytes, received.crc) {
        return Err(Failure::new(
            Kind::No,
            format!("{} sent back {} bytes, which are not the {} sent", options.addr, received.bytes, sent.bytes),
        ));
    }
    Ok(())
}

/// The words to send, if it is not stdin.
fn message(options: &Options) -> Result<Option<String>, Failure> {
    if options.text.is_empty() {
        return Ok(None);
    }
    let message = options.text.join(" ");
    let framing = options.frame.framing();
    if message.len() > options.max_frame && framing != Framing::Raw {
        let (len, max) = (message.len(), options.max_frame);
        return Err(Failure::usage(format!("the message has {len} bytes, --max-frame allows {max}")));
    }
    if framing == Framing::Lines && message.contains('\n') {
        return Err(Failure::usage("a line cannot hold a line end: use --frame length, or send it through stdin"));
    }
    Ok(Some(message))
}

/// Sends a message as often as asked, each when the one before has come back, then prints what else comes.
async fn ask(options: &Options, message: &str, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    for number in 1..=options.count {
        let asked = Instant::now();
        let reply = client
            .ask(message.as_bytes(), number == options.count)
            .await
            .map_err(|error| explain(&options.addr, &error))?;
        if is_notice(&reply) && reply != message.as_bytes() {
            return Err(refused(&options.addr, &reply));
        }
        printer.reply(&reply, Some(asked.elapsed()))?;
    }
    let (_, nothing) = mpsc::channel(1);
    let rest = client.stream(nothing, |payload| printer.reply(&payload, None).map_err(Stopped::Output)).await;
    rest.map_err(|error| error.into_failure(&options.addr))
}

/// Sends stdin and prints what comes back.
async fn pipe(options: &Options, client: &mut Client, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let (messages, queue) = mpsc::channel(STDIN_QUEUE);
    let (trouble, stdin_trouble) = std::sync::mpsc::channel();
    let (framing, max_frame) = (options.frame.framing(), options.max_frame);
    let read = move || {
        if let Err(error) = read_stdin(framing, max_frame, &messages) {
            let _ = trouble.send(error); // unless all has ended meanwhile
        }
    };
    threads::spawn("stdin", read).map_err(|error| Failure::local(format!("cannot read stdin: {error}")))?;
    let streamed = client.stream(queue, |payload| printer.part(&payload).map_err(Stopped::Output)).await;
    printer.end_line()?;
    match stdin_trouble.try_recv() {
        Ok(trouble) => Err(trouble),
        Err(_) => streamed.map_err(|error| error.into_failure(&options.addr)),
    }
}

async fn connect(options: &Options) -> Result<tokio::net::TcpStream, Failure> {
    let mut wait = *RECONNECT.start();
    let mut left = options.retries;
    loop {
        let error = match tcp::connect(&options.addr, options.connect_timeout).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let may_pass = matches!(
            error,
            ConnectError::Refused { .. } | ConnectError::TimedOut { .. } | ConnectError::Unreachable { .. }
        );
        if !may_pass || left == 0 {
            return Err(unreachable(&error));
        }
        tracing::info!("{error}; trying again");
        tokio::time::sleep(wait).await;
        left -= 1;
        wait = (wait * 2).min(Duration::from_secs(1));
    }
}

/// Reads stdin to its end: whole chunks, or a frame a line.
fn read_stdin(framing: Framing, max_frame: usize, messages: &mpsc::Sender<Bytes>) -> Result<(), Failure> {
    let failed = |error| Failure::local(format!("cannot read stdin: {error}"));
    let mut stdin = std::io::stdin().lock();
    for number in 1.. {
        let mut bytes = BytesMut::new();
        if framing == Framing::Length {
            let mut line = Vec::new();
            let most = max_frame as u64 + 1;
            if stdin.by_ref().take(most).read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if line.len() > max_frame {
                return Err(Failure::usage(format!("line {number} of stdin exceeds --max-frame ({max_frame} bytes)")));
            }
            framing.put(&mut bytes, &line);
        } else {
            bytes.resize(ECHO_READ, 0);
            let read = loop {
                match stdin.read(&mut bytes) {
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    read => break read.map_err(failed)?,
                }
            };
            if read == 0 {
                break;
            }
            bytes.truncate(read);
        }
        if messages.blocking_send(bytes.freeze()).is_err() {
            break; // nobody sends any more
        }
    }
    Ok(())
}

/// Why a stream ended early.
enum Stopped {
    Echo(EchoError),
    Output(Failure),
}

impl From<EchoError> for Stopped {
    fn from(error: EchoError) -> Self {
        Self::Echo(error)
    }
}

impl Stopped {
    fn into_failure(self, addr: &str) -> Failure {
        match self {
            Self::Echo(error) => explain(addr, &error),
            Self::Output(failure) => failure,
        }
    }
}

fn explain(addr: &str, error: &EchoError) -> Failure {
    let (kind, hint) = match error {
        EchoError::Closed { .. } => (Kind::Closed, ""),
        EchoError::TimedOut { .. } => (Kind::Deadline, " (does it echo? --timeout waits longer)"),
        EchoError::Frame(_) => (Kind::Peer, " (does it use the same --frame?)"),
    };
    Failure::new(kind, format!("{addr}: {error}{hint}"))
}

/// What a tcp-echo says in place of echoing.
fn is_notice(payload: &[u8]) -> bool {
    payload.starts_with(crate::echo::NOTICE.as_bytes())
}

fn refused(addr: &str, notice: &[u8]) -> Failure {
    let notice = String::from_utf8_lossy(&notice[crate::echo::NOTICE.len()..]);
    Failure::new(Kind::Peer, format!("{addr} refused: {}", notice.trim_end()))
}

/// Prints what comes back.
struct Printer<'a> {
    output: &'a Output,
    framing: Framing,
    replies: u64,
    /// What was printed last did not end its line.
    in_line: bool,
    /// The last of it, if it reads like a notice of the server.
    notice: Option<Bytes>,
}

impl Printer<'_> {
    /// A reply to a message: on a line of its own.
    fn reply(&mut self, payload: &Bytes, round_trip: Option<Duration>) -> Result<(), Failure> {
        self.replies += 1;
        if !self.output.is_json() {
            let end: &[u8] = if payload.ends_with(b"\n") { b"" } else { b"\n" };
            return self.output.bytes(&[payload, end].concat());
        }
        let (key, value) = text_or_hex(payload);
        let mut event = json!({ "event": "reply", "reply": self.replies, "bytes": payload.len(), key: value });
        if let Some(round_trip) = round_trip {
            event["rtt_us"] = json!(microseconds(round_trip.as_nanos() as u64));
        }
        self.output.line(&event.to_string())
    }

    /// A part of a stream: as it is, or on a line if it is a frame.
    fn part(&mut self, payload: &Bytes) -> Result<(), Failure> {
        self.notice = is_notice(payload).then(|| payload.clone());
        match self.framing {
            Framing::Raw if !self.output.is_json() => {
                self.replies += 1;
                self.in_line = !payload.ends_with(b"\n");
                self.output.bytes(payload)
            }
            Framing::Raw | Framing::Lines | Framing::Length => self.reply(payload, None),
        }
    }

    /// On a terminal the prompt gets a line of its own; a file gets nothing that did not come back.
    fn end_line(&self) -> Result<(), Failure> {
        if self.in_line && std::io::stdout().is_terminal() { self.output.bytes(b"\n") } else { Ok(()) }
    }
}

/// For JSON: text as text, anything else in hexadecimal.
fn text_or_hex(payload: &Bytes) -> (&'static str, String) {
    match std::str::from_utf8(payload) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("hex", payload.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}
