//! Three real processes, and what becomes of them.

#[path = "../common/mod.rs"]
mod common;

mod disaster;
mod durability;
mod failover;
mod founding;
mod history;
mod identity;
mod members;
mod names;
mod partition;
mod service;
