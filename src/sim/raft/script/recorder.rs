//! What happens in a script, for its trace.

use crate::protocol::Time;
use crate::sim::trace::{Trace, What};

/// A trace and its clock, which is that of a node that was never told to run ahead.
pub(super) struct Recorder {
    pub(super) trace: Trace,
    pub(super) now: Time,
}

impl Recorder {
    /// Adds to the trace what happens now.
    pub(super) fn note(&mut self, what: impl FnOnce() -> What) {
        self.trace.moment(self.now, what);
    }
}
