//! netbelt: a belt of small networking tools over one library.
//!
//! The rooms, in reading order:
//!
//! 1. [`protocol`]: the contract between a protocol machine and its drivers, with an example that runs;
//! 2. [`node_id`], [`quorum`], [`deadlines`], [`wire`]: names, majorities, many deadlines on one timer, what codecs are made of;
//! 3. [`host`]: the pure half of every driver: timers, and the barrier behind which effects wait for the disk;
//! 4. [`raft`], [`bully`]: Raft, and who leads by number alone, as pure state machines;
//! 5. [`kv`]: a key-value store, and Raft with that store as one machine;
//! 6. [`founding`]: when a node with an empty disk may begin, so that a wiped one does not;
//! 7. [`sim`]: the deterministic driver: virtual time, a faulty network, crashes that lose un-synced writes;
//! 8. [`net`]: the real driver: sockets, the log on disk, the task that owns the machine;
//! 9. [`http`]: what clients ask, and how peers share their port;
//! 10. [`echo`], [`datagram`], [`pool`]: sequential I/O as plain async code, without a machine;
//! 11. [`cli`], [`threads`] and [`tools`]: what the binaries share, threads where there may be none, and what each tool does;
//! 12. [`defaults`]: every default time-out and limit, with its reason.

pub mod bully;
pub mod cli;
pub mod datagram;
pub mod deadlines;
pub mod defaults;
pub mod echo;
pub mod founding;
pub mod host;
pub mod http;
pub mod kv;
pub mod net;
pub mod node_id;
pub mod pool;
pub mod protocol;
pub mod quorum;
pub mod raft;
pub mod sim;
pub mod threads;
pub mod tools;
pub mod wire;
