//! Bytes and messages: pure, and prepared for anything.
//!
//! - [`frame`]: where in a stream a message ends: raw, lines, length-delimited;
//! - [`envelope`]: a frame that names its version, between peers;
//! - [`sse`]: server-sent events.
//!
//! Decoders borrow nothing from the outside world and trust nothing: every length is checked against what is there
//! before it is used, with [`take`] and its like and the `try_get` of [`Buf`]. Numbers are big-endian. Encoders and decoders of a type stand side by side.

#![warn(clippy::wildcard_enum_match_arm)] // inputs, messages and effects are matched exhaustively

use bytes::{Buf, BufMut, Bytes, BytesMut, TryGetError};
use thiserror::Error;

pub mod envelope;
pub mod frame;
pub mod sse;

/// A type with a form in bytes.
pub trait Wire: Sized {
    /// Appends its bytes.
    fn encode(&self, out: &mut BytesMut);

    /// Reads it from exactly these bytes, sharing their memory.
    ///
    /// # Errors
    /// When the bytes are anything else.
    fn decode(bytes: Bytes) -> Result<Self, WireError>;
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// They end in the middle.
    #[error("ends too early")]
    Truncated,
    /// Something follows the end.
    #[error("{0} bytes too many")]
    TooLong(usize),
    /// A tag with no meaning.
    #[error("unknown {what} {value}")]
    Unknown {
        /// What the tag is of.
        what: &'static str,
        /// Its value.
        value: u8,
    },
    /// A field outside its limits.
    #[error("bad {0}")]
    Bad(&'static str),
}

impl From<TryGetError> for WireError {
    fn from(_: TryGetError) -> Self {
        Self::Truncated
    }
}

/// The next `len` bytes.
///
/// # Errors
/// When there are fewer.
pub fn take(from: &mut Bytes, len: usize) -> Result<Bytes, TryGetError> {
    let available = from.len();
    if available < len { Err(TryGetError { requested: len, available }) } else { Ok(from.split_to(len)) }
}

/// Bytes that are preceded by their length, as [`put_sized`] writes them.
///
/// # Errors
/// When there are fewer.
pub fn take_sized(from: &mut Bytes) -> Result<Bytes, TryGetError> {
    let len = from.try_get_u32()?;
    take(from, len as usize)
}

/// Nothing is left.
///
/// # Errors
/// When something is.
pub fn at_end(rest: &Bytes) -> Result<(), WireError> {
    if rest.is_empty() { Ok(()) } else { Err(WireError::TooLong(rest.len())) }
}

/// Appends bytes, preceded by their length in 4 bytes.
///
/// # Panics
/// When there are 4 GiB of them.
pub fn put_sized(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).expect("values are far below 4 GiB"));
    out.put_slice(bytes);
}

/// 0 or 1.
///
/// # Errors
/// When it is neither, or not there.
pub fn take_bool(from: &mut Bytes) -> Result<bool, WireError> {
    match from.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(WireError::Unknown { what: "truth value", value }),
    }
}
