//! The deterministic driver: virtual time, a faulty network, disks that lose what was not synced.
//!
//! The same seed gives the same run, byte for byte: all randomness comes from one generator with a stable stream,
//! nothing reads a clock, and every event is hashed into the [`trace`].
//!
//! - [`world`]: nodes, network, disks, crashes; generic over [`Protocol`](crate::protocol::Protocol);
//! - [`faults`]: what may go wrong, and how often;
//! - [`cluster`]: a Raft key-value cluster with clients, its checkers, and a run in two phases: faults, then heal;
//! - [`wipes`]: the same where nodes lose their disks, and what keeps them from beginning anew;
//! - [`history`]: what clients saw, and whether it is linearizable;
//! - `kv_model`: what operations do to a key, and which answers explain it;
//! - [`sweep`]: many seeds, on all processors;
//! - [`script`]: bare Raft nodes that do what a script says, one command at a time;
//! - [`observe`], [`trace`]: what can be seen of machines and messages, and all of it in order.

pub mod faults;
pub mod history;
pub mod observe;
pub mod raft;
pub mod sweep;
pub mod trace;
pub mod world;
