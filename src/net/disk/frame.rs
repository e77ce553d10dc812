//! The bytes of one durable write. Pure: slices in, verdicts out.
//!
//! A frame carries two CRC-32Cs. Both begin with the segment's salt and number and the frame's own offset, length and
//! predecessor; `crc` then covers the body with its padding, `check` covers `crc`. With `check`, the header stands on
//! its own: the search for a frame behind a damaged one costs a few bytes of checksum a step, whatever the bytes look
//! like, and it recognises a frame whose body is damaged too.

use std::ops::{Deref, Range};

use crc32c::{crc32c, crc32c_append};

/// `len`, `prev`, `crc`, `check`.
pub(super) const HEADER_BYTES: usize = 16;

/// Where a frame begins: later ones have larger offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOffset {
    pub(super) segment: u64,
    /// In bytes from the start of the segment.
    pub(super) offset: u64,
}

/// Frames start at multiples of this, which is what makes the search for one cheap.
const ALIGN: usize = 8;

/// Zeros to compare with, and to write, past the page cache too.
pub(super) static ZEROS: Zeros = Zeros([0; 256 << 10]);

/// Zeros in a place that direct I/O takes them from.
#[repr(align(4096))]
pub(super) struct Zeros([u8; 256 << 10]);

impl Deref for Zeros {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// `len` rounded up to where a next frame may start.
pub(super) fn padded(len: usize) -> usize {
    len.next_multiple_of(ALIGN)
}

/// What every checksum of a segment starts from. A frame copied to another segment, or stored in a value, fails it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seal(u32);

impl Seal {
    pub(super) fn new(salt: u64, segment: u64) -> Seal {
        Seal(crc32c_append(crc32c(&salt.to_le_bytes()), &segment.to_le_bytes()))
    }

    fn place(self, offset: u64, len: u32, prev: u32) -> u32 {
        let place = u128::from(offset) | u128::from(len) << 64 | u128::from(prev) << 96;
        crc32c_append(self.0, &place.to_le_bytes())
    }
}

/// Writes the header into the first bytes of a padded `frame` bound for `offset`; returns its `crc`, the next `prev`.
pub(super) fn seal(frame: &mut [u8], body_len: usize, seal: Seal, offset: u64, prev: u32) -> u32 {
    let len = u32::try_from(body_len).expect("a batch fits into a segment, and a segment's size into u32");
    let place = seal.place(offset, len, prev);
    let (header, body) = frame.split_at_mut(HEADER_BYTES);
    let crc = crc32c_append(place, body);
    let check = crc32c_append(place, &crc.to_le_bytes());
    for (field, value) in header.chunks_exact_mut(4).zip([len, prev, crc, check]) {
        field.copy_from_slice(&value.to_le_bytes());
    }
    crc
}

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// Where the bodies of the whole frames are.
    pub(super) bodies: Vec<Range<usize>>,
    /// Where they end.
    pub(super) end: usize,
    /// The `crc` of the last of them, or what the scan was given.
    pub(super) chain: u32,
    /// What follows.
    pub(super) rest: Rest,
}

/// What follows the last whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing was ever written here.
    Zeros,
    /// Something, but no trace of a frame that started later than the damage: one torn write can leave this.
    Torn,
    /// What no torn write can leave.
    Damaged(&'static str),
}

/// Reads frames from `start` as long as they are whole and each follows the one before; `chain` precedes the first.
pub(super) fn scan(segment: &[u8], start: usize, seal: Seal, chain: u32) -> Scan {
    let mut bodies = Vec::new();
    let (mut end, mut chain) = (start, chain);
    let rest = loop {
        let Some(header) = Header::read(segment, end, seal) else {
            break match segment[end..].chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()]) {
                true => Rest::Zeros,
                false => torn_unless_followed(segment, end + ALIGN, seal),
            };
        };
        if header.prev != chain {
            break Rest::Damaged("the frame here does not follow the one before it");
        }
        if !header.body_holds(segment, end, seal) {
            break torn_unless_followed(segment, header.end, seal);
        }
        let body = end + HEADER_BYTES;
        bodies.push(body..body + header.len as usize);
        (end, chain) = (header.end, header.crc);
    };
    Scan { bodies, end, chain, rest }
}

/// Judges damage by what starts at or after `from`: the frame after the damaged one was written only once the damaged
/// one was durable, so its header alone is proof, and its body does not matter.
fn torn_unless_followed(segment: &[u8], from: usize, seal: Seal) -> Rest {
    match (from..segment.len()).step_by(ALIGN).any(|at| Header::read(segment, at, seal).is_some()) {
        true => Rest::Damaged("a frame that later ones follow fails its checksum"),
        false => Rest::Torn,
    }
}

/// A header whose `check` holds.
struct Header {
    len: u32,
    prev: u32,
    crc: u32,
    /// Where the frame ends, within the segment.
    end: usize,
}

impl Header {
    fn read(segment: &[u8], at: usize, seal: Seal) -> Option<Header> {
        let header = segment.get(at..at + HEADER_BYTES)?;
        let field = |i: usize| u32::from_le_bytes(header[4 * i..4 * i + 4].try_into().expect("four bytes"));
        let (len, prev, crc, check) = (field(0), field(1), field(2), field(3));
        // The one length read from the disk, bounded before anything is computed from it. Segments and offsets are
        // multiples of 8, so that the padding fits where the body does.
        if len == 0 || len as usize > segment.len() - at - HEADER_BYTES {
            return None;
        }
        let holds = crc32c_append(seal.place(at as u64, len, prev), &crc.to_le_bytes()) == check;
        let end = padded(at + HEADER_BYTES + len as usize);
        holds.then_some(Header { len, prev, crc, end })
    }

    fn body_holds(&self, segment: &[u8], at: usize, seal: Seal) -> bool {
        let place = seal.place(at as u64, self.len, self.prev);
        crc32c_append(place, &segment[at + HEADER_BYTES..self.end]) == self.crc
    }
}
