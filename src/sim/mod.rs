//! The deterministic driver: virtual time, a faulty network, disks that lose what was not synced.
//!
//! The same seed gives the same run, byte for byte: all randomness comes from one generator with a stable stream,
//! nothing reads a clock, and every event is hashed into the [`trace`].
//!
//! - [`world`]: nodes, network, disks, crashes; generic over [`Protocol`](crate::protocol::Protocol);
//! - [`faults`]: what may go wrong, and how often;
//! - [`scenario`]: what a protocol is put through, and [`run`]: faults, then healing;
//! - [`sweep`](mod@sweep): many seeds, on all processors;
//! - [`observe`], [`trace`], [`jsonl`]: what can be seen of machines and messages, all of it in order, and as text;
//! - [`history`]: what clients saw, and whether it is linearizable;
//! - [`raft`]: Raft's scenarios. The other files know no protocol.

pub mod faults;
pub mod history;
pub mod jsonl;
pub mod observe;
pub mod raft;
pub mod scenario;
pub mod sweep;
pub mod trace;
pub mod world;

pub use scenario::run;
