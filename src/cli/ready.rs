//! The ready line: what a server prints, in one write, as soon as it serves; and what systemd hears of it.

use std::fs;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::path::Path;

use serde::Serialize;

use super::{Failure, Output};

#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    tool: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    addr: SocketAddr,
    pid: u32,
}

/// Removes the file of an earlier life. What is wrong with it shows when the new one is written.
pub fn forget(ready_file: Option<&Path>) {
    let _ = ready_file.map(fs::remove_file);
}

/// Says that `tool` serves at `addr`, as `id` if it has a name: on stdout, in `ready_file` if there is one, and to systemd.
///
/// # Errors
/// When stdout or the file cannot be written.
pub fn announce(
    output: &Output,
    tool: &str,
    id: Option<&str>,
    addr: SocketAddr,
    ready_file: Option<&Path>,
) -> Result<(), Failure> {
    let ready = Ready { event: "ready", tool, id, addr, pid: std::process::id() };
    if let Some(file) = ready_file {
        let json = serde_json::to_string(&ready).expect("a ready line is JSON");
        let temporary =
            file.with_file_name(format!(".{}.{}", std::process::id(), file.file_name().unwrap_or_default().display()));
        let written = fs::write(&temporary, json + "\n").and_then(|()| fs::rename(&temporary, file));
        written.map_err(|error| Failure::local(format!("cannot write --ready-file {}: {error}", file.display())))?;
    }
    output.result(&ready, || match id {
        Some(id) => format!("{tool} {id} ready on {addr}"),
        None => format!("{tool} ready on {addr}"),
    })?;
    notify("READY=1");
    Ok(())
}

/// Says to systemd that it has begun to stop, and finishes what is in hand.
pub fn stopping() {
    notify("STOPPING=1");
}

/// Tells systemd, where it listens (sd_notify(3)).
fn notify(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let sent = UnixDatagram::unbound().and_then(|datagram| match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => datagram.send_to_addr(state.as_bytes(), &net::SocketAddr::from_abstract_name(name)?),
        None => datagram.send_to(state.as_bytes(), Path::new(&socket)),
    });
    if let Err(error) = sent {
        tracing::warn!("cannot notify {}: {error}", socket.display());
    }
}
