//! A TCP connection under HTTP: its options, and what a request says of where it goes.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::net::address;
use crate::net::link::KEEP_ALIVE;

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

/// What a request says of where it goes: on loopback the address itself, since a node there trusts few names.
pub(super) fn host_header(stream: &TcpStream, addr: &str) -> String {
    let peer = stream.peer_addr().ok().filter(|peer| peer.ip().to_canonical().is_loopback());
    peer.map_or_else(|| address::without_zone(addr), |peer| peer.to_string())
}
