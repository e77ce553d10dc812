//! The only room that knows HTTP and JSON bodies: a request becomes a command, an answer becomes a response.
//!
//! - [`server`]: connections: how many, how long, how large;
//! - [`api`]: the requests of a Raft key-value node;
//! - [`members`]: who is in the cluster, and the requests that change it;
//! - [`backup`]: the whole state as a file;
//! - [`watch`]: changes as they come, as server-sent events: `teller` tells all watchers, `pages` encodes;
//! - `memory`: what bodies and answers take of it;
//! - `origin`: requests that a browser makes for the page of somebody else;
//! - [`reply`]: what is answered, whole or as a stream;
//! - [`status`]: what a node reports of itself, as JSON and for Prometheus;
//! - [`upgrade`]: the way from an HTTP connection to a peer's link, on the same port;
//! - [`client`]: the other side: one connection, one request at a time;
//! - [`loader`]: the same for a load generator, which must cost little.

pub mod api;
mod attentive;
pub mod backup;
pub mod client;
mod cut;
pub mod loader;
pub mod members;
mod memory;
mod origin;
mod pages;
pub mod reply;
pub mod server;
pub mod status;
mod teller;
#[cfg(test)]
mod tests;
pub mod upgrade;
pub mod watch;
