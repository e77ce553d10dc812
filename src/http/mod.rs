//! The only room that knows HTTP and JSON bodies: a request becomes a command, an answer becomes a response.
//!
//! The files here know no protocol:
//!
//! - [`server`]: connections: how many, how long, how large; `hangup` notices who leaves a stream of `events`;
//! - `request`, [`reply`]: what is asked and answered, whole or as a stream; `memory`: what bodies and answers take of it;
//! - [`machine`]: asks the machine behind the port; `pending`: who waits for its answers;
//! - `cut`: a partition on request;
//! - `origin`: requests that a browser makes for the page of somebody else;
//! - `peers`: how a node dials its peers and hears them; [`upgrade`]: the way from an HTTP connection to a peer's link, on the same port; `hello`: who peers say they are;
//! - [`client`]: the other side: one connection, one request at a time; [`loader`]: the same for a load generator, which must
//!   cost little; `socket`: what is below both sides.
//!
//! What all stores share is in [`kv`], what a Raft node has alone in [`raft`].

pub mod client;
mod cut;
mod events;
mod hangup;
mod hello;
pub mod kv;
pub mod loader;
pub mod machine;
mod memory;
mod origin;
mod peers;
mod pending;
pub mod raft;
pub mod reply;
mod request;
pub mod server;
mod socket;
pub mod upgrade;
