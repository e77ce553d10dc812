//! Datagrams: received in batches with the kernel's own time and drop counter, sent at a pace.
//!
//! - [`socket`]: opening sockets: buffers, interfaces, a multicast [`group`];
//! - [`receiver`]: many datagrams with one system call, each with its time and destination;
//! - [`table`]: how many the kernel had to drop, and whether any has not left yet;
//! - [`reply`]: whom to answer, and how often, so that nobody is harmed by it;
//! - [`sender`]: many datagrams with one system call, at a pace;
//! - [`hex`]: bytes as people write them.
//!
//! UDP is RFC 768. A datagram arrives whole, or not at all, or twice; nobody says which. All that can be known is what
//! the kernel counted, so everything here counts.

mod error;
pub mod group;
pub mod hex;
pub mod receiver;
pub mod reply;
pub mod sender;
pub mod socket;
pub mod table;

pub use error::Error;
