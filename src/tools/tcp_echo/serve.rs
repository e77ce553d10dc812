//! `tcp-echo serve`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Frame;
use crate::cli::signals::{self, Signal, Signals};
use crate::cli::{Failure, Kind, Output, args, ready};
use crate::defaults::ECHO_MAX_CONNECTIONS;
use crate::echo::server::{self, End, Event, Server};
use crate::net::tcp;

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
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = super::max_frame)]
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
    if let Some(file) = &options.ready_file {
        let _ = std::fs::remove_file(file); // of an earlier life; writing the new one tells what is wrong with it
    }
    let local = |error: &dyn std::fmt::Display| Failure::local(error.to_string());
    let addrs = tcp::resolve_listen(&options.listen).await.map_err(|error| local(&error))?;
    let listener = tcp::bind(&options.listen, &addrs).map_err(|error| local(&error))?;
    let addr = listener.local_addr().map_err(|error| local(&error))?;
    if !addr.ip().is_loopback() {
        tracing::warn!("{addr} can be reached from other machines: anybody there can have their bytes echoed");
    }

    let stop = CancellationToken::new();
    let on_event = {
        let (output, stop) = (output.clone(), stop.clone());
        move |event: Event| {
            if tell(&output, &event).is_err() {
                stop.cancel(); // whoever read the events has enough
            }
        }
    };
    let started = Instant::now();
    let server = Server::new(server_options(&options), on_event);
    let serving = tokio::spawn(server.clone().serve(listener, stop.clone()));
    ready::announce(output, "tcp-echo", None, addr, options.ready_file.as_deref())?;

    let asked = loop {
        tokio::select! {
            () = stop.cancelled() => break false,
            signal = signals.next() => match signal {
                Signal::Stop(_) => break true,
                Signal::Interval => totals(output, "interval", &server, started, false)?,
            },
        }
    };
    stop.cancel();
    let insisted = async { signals::end(signals.stop().await) };
    let cut = tokio::select! {
        cut = serving => cut.map_err(|error| local(&error))?.map_err(|error| local(&error))?,
        () = insisted => 0,
    };
    if cut > 0 {
        tracing::warn!("{cut} connections did not end in time and were cut off");
    }
    if asked { totals(output, "summary", &server, started, true) } else { Err(Failure::new(Kind::ClosedPipe, "")) }
}

fn server_options(options: &Options) -> server::Options {
    let framing = options.frame.framing();
    let max_connections = tcp::most_connections(options.max_conns);
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
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    server::Options {
        framing,
        max_frame: options.max_frame,
        max_connections,
        idle_timeout: options.idle_timeout,
        greeting,
        hang_up: options.hangup,
        workers: options.workers.unwrap_or_else(cores),
    }
}

/// Programs read events on stdout, people with -v in the log.
fn tell(output: &Output, event: &Event) -> Result<(), Failure> {
    if !output.is_json() {
        match event {
            Event::Connected { connection, peer } => tracing::debug!("{connection}: {peer} connected"),
            Event::Disconnected { connection, peer, bytes, open, why, .. } => {
                tracing::debug!("{connection}: {peer} ended after {bytes} bytes, {:.3} s: {why}", open.as_secs_f64());
            }
            Event::Rejected { peer, max_connections } => {
                tracing::debug!("turned {peer} away: all {max_connections} connections are taken");
            }
        }
        return Ok(());
    }
    let line = |event: Value| output.line(&event.to_string());
    match event {
        Event::Connected { connection, peer } => {
            line(json!({ "event": "connect", "connection": connection, "peer": peer }))
        }
        Event::Disconnected { connection, peer, bytes, frames, open, why } => {
            if let End::Protocol(_) | End::Broken(_) = why {
                line(json!({
                    "event": "error", "kind": Kind::Peer.as_str(), "connection": connection, "peer": peer,
                    "message": why.to_string(),
                }))?;
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
                "seconds": seconds(*open), "reason": reason,
            }))
        }
        Event::Rejected { peer, max_connections } => {
            line(json!({ "event": "reject", "peer": peer, "max_conns": max_connections }))
        }
    }
}

fn totals(output: &Output, name: &str, server: &Server, started: Instant, interrupted: bool) -> Result<(), Failure> {
    let totals = server.totals();
    let elapsed = started.elapsed();
    let mut event = json!({
        "event": name, "connections": totals.connections, "open": totals.open, "rejected": totals.rejected,
        "bytes": totals.bytes, "seconds": seconds(elapsed),
    });
    if name == "summary" {
        event["interrupted"] = json!(interrupted);
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

/// To the millisecond.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}
