//! netbelt: a belt of small networking tools over one library.
//!
//! The rooms, in reading order:
//!
//! 1. [`protocol`]: the contract between a protocol machine and its drivers;
//! 2. [`host`]: the pure half of every driver: timers, and the barrier behind which effects wait for the disk;
//! 3. [`raft`]: Raft as a pure state machine;
//! 4. [`kv`]: a key-value store, and Raft with that store as one machine;
//! 6. [`defaults`]: every default time-out and limit, with its reason.

pub mod cli;
pub mod defaults;
pub mod host;
pub mod http;
pub mod kv;
pub mod net;
pub mod protocol;
pub mod raft;
pub mod sim;
pub mod tools;
pub mod wire;
