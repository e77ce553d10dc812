//! The trace of a run: a hash over every event, and the events as text when asked for.

use std::fmt::{self, Write};

use crate::protocol::Time;

/// Hashes every line, and keeps the lines when told to.
#[derive(Debug)]
pub struct Trace {
    hash: Fnv1a,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// A trace that keeps its lines, or only their hash.
    pub fn new(keep_lines: bool) -> Self {
        Self { hash: Fnv1a(0xcbf2_9ce4_8422_2325), lines: keep_lines.then(Vec::new) }
    }

    /// Adds a line.
    pub fn line(&mut self, at: Time, text: fmt::Arguments<'_>) {
        writeln!(self.hash, "{:?} {text}", at.since_epoch().as_micros()).expect("hashing cannot fail");
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} {text}", at.since_epoch().as_secs_f64()));
        }
    }

    /// The hash of all lines so far.
    pub const fn hash(&self) -> u64 {
        self.hash.0
    }

    /// The lines, if they were kept.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

/// FNV-1a, 64 bits: tells traces apart, and is the same on every machine and in every version.
#[derive(Debug)]
struct Fnv1a(u64);

impl Write for Fnv1a {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
