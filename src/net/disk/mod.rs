//! The durable log: batches of records go in, and what [`Log::append`] has acknowledged survives a power cut.
//!
//! Reading order:
//!
//! - `log`: what a driver calls, and the life of a batch on its way to the disk;
//! - `options`, `error`: what it decides, and what can go wrong;
//! - `frame`: the bytes of one durable write, and how a reader tells a torn write from damage (pure);
//! - `segment`: the files that hold frames, filled with zeros before they are used;
//! - `background`: filling and removing them, without haste;
//! - `appender`: one write and one fdatasync a frame;
//! - `recovery`: reading a directory back, and the decision to boot, to cut or to refuse;
//! - `compaction`: how a log comes to begin with a later one of its frames;
//! - `reserve`: space kept back for the day on which the disk is full.
//!
//! # The idea
//!
//! One frame is what one write and one fdatasync made durable, and the next frame is written only after that
//! fdatasync returned. A power cut can therefore tear the last frame and no other. So a damaged frame with nothing
//! after it is the torn tail of a write that nobody was told about: it is cut, and the cut is reported. A damaged
//! frame with another one after it had been acknowledged: that is corruption, and the log refuses to open.
//!
//! What this cannot see: rot within the very last frame looks like a torn write, and a log that lost whole frames
//! from its end (a segment file deleted, a tail zeroed) looks like a shorter log.
//!
//! # On disk
//!
//! A directory of segments `00000000000000000001.log`, `…2.log`, consecutive from 1, or from 7 when there is a file
//! `00000000000000000007-0000004096.first`, each of a fixed size. All numbers are little-endian. The directory belongs to one
//! [`Log`] at a time; keeping a second process out is the caller's part.
//!
//! ```text
//! segment  magic 8 · format u8 · 0 · number u64 · salt u64 · size u64 · chain u32 · 0 · crc u32     (64 bytes)
//!          frame, frame, … each at a multiple of 8, then zeros to the end
//! frame    len u32 · prev u32 · crc u32 · check u32 · body (len bytes) · zeros to a multiple of 8
//! body     one or more records, each len u32 · bytes
//! ```

mod appender;
mod background;
mod compaction;
mod error;
mod frame;
mod log;
mod options;
mod recovery;
mod reserve;
mod segment;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use frame::LogOffset;
pub use log::{Batch, Log};
pub use options::Options;
pub use recovery::{Cut, Records, Recovery};
pub use reserve::Reserve;
