//! `tcp-echo serve`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::common::{Frame, cores, max_frame, too_many_threads};
use crate::cli::closed;
use crate::cli::events::Events;
use crate::cli::measure::rounded_seconds;
use crate::cli::signals::{Signal, Signals};
use crate::cli::{Failure, Kind, Output, args, ready};
use crate::defaults::{DRAIN, ECHO_MAX_CONNECTIONS};
use crate::echo::server::{self, End, Event, Server};
use crate::echo::workers::Workers;
use crate::net::tcp;
use crate::tools::{bind_failure, resolve};

/// Files that the runtime of a thread takes: epoll, its waker, its share of the signals.
const FILES_A_WORKER: usize = 4;

/// Echo whatever clients send
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
        tcp-echo serve\n  \
        tcp-echo serve --listen '[::]:7000' --max-conns 100 --idle-timeout 30s\n  \
        tcp-echo serve --frame lines --max-frame 64KiB --json | jq -c 'select(.event == \"disconnect\")'\n  \
        tcp-echo serve --greet 'Hello from server' --hangup\n\n\
        SIGTERM and SIGINT: what has arrived is echoed, then connections are closed, within 5 s.\n\
        SIGUSR1 prints the totals so far.")]
pub(super) struct Options {
    /// Where to serve; port 0 takes a free one, and the host "::" in brackets every address, of IPv4 too
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000", value_parser = args::address)]
    listen: String,
    /// What is echoed as one
    #[arg(long, value_enum, default_value_t = Frame::Raw, value_name = "FRAME")]
    frame: Frame,
    /// The longest line or frame; whoever sends a longer one is told so and closed
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = max_frame)]
    max_frame: usize,
    /// How many connections at a time; further ones are told so and closed
    #[arg(long, value_name = "N", default_value_t = ECHO_MAX_CONNECTIONS, value_parser = args::at_least_one)]
    max_conns: usize,
    /// Close connections on which nothing has moved for so long
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = args::duration)]
    idle_timeout: Duration,
    /// Send this to each client first
    #[arg(long, value_name = "TEXT")]
    greet: Option<String>,
    /// Close after the greeting, in place of echoing
    #[arg(long)]
    hangup: bool,
    /// Threads that serve [default: one a core]
    #[arg(long, short = 'j', value_name = "N", value_parser = args::at_least_one)]
    workers: Option<usize>,
    /// Write the ready line to this file, too, as JSON, in one piece
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Serves until a signal, or until nobody reads its events any more.
pub(super) async fn run(options: Options, output: &Output) -> Result<(), Failure> {
    let mut signals = Signals::new()?;
    ready::forget(options.ready_file.as_deref());
    let local = |error: &dyn std::fmt::Display| Failure::local(error.to_string());
    let addrs = resolve(&options.listen).await?;
    let listener = tcp::bind(&options.listen, &addrs).map_err(|error| bind_failure(&error))?;
    let addr = listener.local_addr().map_err(|error| local(&error))?;
    if !addr.ip().is_loopback() {
        tracing::warn!("{addr} can be reached from other machines: anybody there can have their bytes echoed");
    }

    let workers = options.workers.unwrap_or_else(cores);
    let threads = Workers::start("echo", workers).map_err(|error| too_many_threads(workers, &error))?;
    let stop = CancellationToken::new();
    let events = Events::start(stop.clone())
        .map_err(|error| Failure::local(format!("cannot start the thread that prints events: {error}")))?;
    let on_event = {
        let (json, events) = (output.is_json(), events.clone());
        move |event: Event| if json { event_lines(&event, |line| events.put(line)) } else { log(&event) }
    };
    if output.is_json() {
        // Somebody who reads events has gone: with none to print, nothing else tells.
        let unread = stop.clone();
        tokio::spawn(async move {
            closed::stdout().await;
            unread.cancel();
        });
    }
    let started = Instant::now();
    let server = Server::new(server_options(&options, workers), on_event);
    let mut serving = tokio::spawn(server.clone().serve(listener, threads, stop.clone()));
    ready::announce(output, "tcp-echo", None, addr, options.ready_file.as_deref())?;

    let asked = loop {
        tokio::select! {
            () = stop.cancelled() => break false,
            signal = signals.next() => match signal {
                Signal::Stop(_) => break true,
                Signal::Interval => totals(output, "interval", &server, &events, started)?,
            },
            ended = &mut serving => return Err(Failure::local(format!("serving came to an end: {ended:?}"))),
        }
    };
    ready::stopping();
    stop.cancel();
    let cut = serving.await.map_err(|error| local(&error))?;
    if cut > 0 {
        tracing::warn!("{cut} connections did not end in time and were cut off");
    }
    if !asked {
        return Err(Failure::new(Kind::ClosedPipe, "")); // whoever read the events has enough
    }
    if !events.written_within(DRAIN).await {
        return Err(Failure::new(Kind::ClosedPipe, "")); // nobody takes the summary either
    }
    totals(output, "summary", &server, &events, started)
}

fn server_options(options: &Options, workers: usize) -> server::Options {
    let framing = options.frame.framing();
    let of_workers = workers * FILES_A_WORKER;
    let max_connections =
        tcp::most_connections(options.max_conns.saturating_add(of_workers)).saturating_sub(of_workers).max(1);
    if max_connections < options.max_conns {
        tracing::warn!(
            "serving at most {max_connections} connections, not {}: raise the limit of open files (ulimit -n)",
            options.max_conns
        );
    }
    let greeting = options.greet.as_ref().map(|greeting| {
        let mut frame = BytesMut::new();
        framing.put(&mut frame, greeting.as_bytes());
        frame.freeze()
    });
    server::Options {
        framing,
        max_frame: options.max_frame,
        max_connections,
        idle_timeout: options.idle_timeout,
        greeting,
        hang_up: options.hangup,
    }
}

/// For people, with -v.
fn log(event: &Event) {
    match event {
        Event::Connected { connection, peer } => tracing::debug!("{connection}: {peer} connected"),
        Event::Disconnected { connection, peer, bytes, open, why, .. } => {
            tracing::debug!("{connection}: {peer} ended after {bytes} bytes, {:.3} s: {why}", open.as_secs_f64());
        }
        Event::Rejected { peer, max_connections } => {
            tracing::debug!("turned {peer} away: all {max_connections} connections are taken");
        }
    }
}

/// For programs: a line an event, or two.
fn event_lines(event: &Event, put: impl Fn(String)) {
    let line = |event: Value| put(event.to_string());
    match event {
        Event::Connected { connection, peer } => {
            line(json!({ "event": "connect", "connection": connection, "peer": peer }));
        }
        Event::Disconnected { connection, peer, bytes, frames, open, why } => {
            if let End::Protocol(_) | End::Broken(_) = why {
                line(json!({
                    "event": "error", "kind": Kind::Peer.as_str(), "connection": connection, "peer": peer,
                    "message": why.to_string(),
                }));
            }
            let reason = match why {
                End::Closed => "closed",
                End::HungUp => "hangup",
                End::Stopped => "stopped",
                End::Idle => "idle",
                End::Protocol(_) => "protocol",
                End::Cut => "cut",
                End::Broken(_) => "broken",
            };
            line(json!({
                "event": "disconnect", "connection": connection, "peer": peer, "bytes": bytes, "frames": frames,
                "seconds": rounded_seconds(open.as_secs_f64()), "reason": reason,
            }));
        }
        Event::Rejected { peer, max_connections } => {
            line(json!({ "event": "reject", "peer": peer, "max_conns": max_connections }));
        }
    }
}

fn totals(output: &Output, name: &str, server: &Server, events: &Events, started: Instant) -> Result<(), Failure> {
    let totals = server.totals();
    let elapsed = started.elapsed();
    let mut event = json!({
        "event": name, "connections": totals.connections, "open": totals.open, "rejected": totals.rejected,
        "bytes": totals.bytes, "seconds": rounded_seconds(elapsed.as_secs_f64()),
    });
    if name == "summary" {
        event["interrupted"] = json!(true); // nothing else ends it
    }
    if events.lost() > 0 {
        event["events_lost"] = json!(events.lost());
    }
    output.result(&event, || {
        format!(
            "{} connections ({} open), {} bytes, {} turned away, {:.1} s",
            totals.connections,
            totals.open,
            totals.bytes,
            totals.rejected,
            elapsed.as_secs_f64()
        )
    })
}
