//! The driver for the real world: sockets, a disk, and time that passes.
//!
//! One task, [`driver::Driver`], owns the machine, whatever its protocol. It drains its queue, steps every input, hands the
//! records to a [`writer::Journal`] and messages to a [`transport::Transport`], and lets go what waited for the disk. Everything
//! else runs on the same single-threaded runtime, so that a request crosses no thread but the disk's.
//!
//! - [`driver`]: the task, and the [`driver::Handle`] with which others reach it;
//! - [`transport`]: how messages leave;
//! - [`links`]: over TCP, one [`link`] a peer, as they come and go; [`session`]: what stands between message and stream;
//! - [`udp`]: over UDP, one socket for all;
//! - [`writer`]: the thread that makes records durable, or none; [`disk`]: the durable log that it writes; [`full_disk`]: what is
//!   done when there is no room for it;
//! - [`node`]: how a node ends that serves;
//! - [`address`], [`bind`], [`tcp`]: names and addresses, ports, connections, for every tool;
//! - [`place`]: where the others reach a server; [`peer_addrs`]: where it reaches them;
//! - [`identity`]: whose data a directory holds, how it is told from a copy, and whom its node has met.

pub mod address;
pub mod bind;
pub mod disk;
pub mod driver;
pub mod full_disk;
pub mod identity;
pub mod link;
pub mod links;
pub mod node;
pub mod peer_addrs;
pub mod place;
pub mod session;
pub mod tcp;
pub mod transport;
pub mod udp;
pub mod writer;
