//! Echo over TCP, as plain async code: what comes in goes out.
//!
//! - [`server`]: connections dealt to one single-threaded runtime a core, counted, watched, drained;
//! - `connection`: one connection: read, find whole frames, write, and read no further while the other side does not;
//! - [`registry`]: the open connections, and the sweep that ends those on which nothing moves;
//! - [`workers`]: one single-threaded runtime a core;
//! - [`client`]: sends messages and gives what comes back;
//! - [`mod@bench`]: the load generator.
//!
//! A connection has no timer and no buffer of its own while nothing waits on it: ten thousand idle ones are cheap, and a
//! message costs one read and one write.

/// What a server says in place of echoing begins with this.
pub const NOTICE: &str = "tcp-echo: ";

pub mod bench;
pub mod client;
mod connection;
pub mod registry;
pub mod server;
pub mod workers;
