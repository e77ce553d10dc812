//! The tools as people and scripts use them: one process at a time.

#[path = "../common/mod.rs"]
mod common;

mod api;
mod backup;
mod ctl;
mod disk;
mod echo;
mod hostile;
mod kept;
mod lesson;
mod links;
mod netsim;
mod node;
mod origin;
mod pool;
mod transcripts;
mod udp;
mod upgrades;
mod usage;
mod watch;
