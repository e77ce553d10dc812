//! What whoever opens a log decides about it.

/// What the driver decides about a log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Size in bytes of the segments created from now on: a multiple of 8 between [`Options::MIN_SEGMENT_BYTES`] and
    /// [`Options::MAX_SEGMENT_BYTES`]. Existing segments keep theirs.
    pub segment_bytes: u64,
    /// A number that whoever chooses the stored values cannot guess; drawn afresh at each start. It enters every
    /// checksum, so that no stored value can pass for a frame.
    pub salt: u64,
}

impl Options {
    /// 16 MiB: filled in a fraction of a second even by a slow disk, and few files for a large log.
    pub const DEFAULT_SEGMENT_BYTES: u64 = 16 << 20;
    /// Room for the segment's header and a frame of a few small records.
    pub const MIN_SEGMENT_BYTES: u64 = 256;
    /// 1 GiB: recovery holds one segment in memory, and a damaged header must not make it ask for more.
    pub const MAX_SEGMENT_BYTES: u64 = 1 << 30;

    /// Segments of the default size.
    pub fn new(salt: u64) -> Options {
        Options { segment_bytes: Options::DEFAULT_SEGMENT_BYTES, salt }
    }

    pub(super) fn is_possible(segment_bytes: u64) -> bool {
        (Options::MIN_SEGMENT_BYTES..=Options::MAX_SEGMENT_BYTES).contains(&segment_bytes)
            && segment_bytes.is_multiple_of(8)
    }
}
