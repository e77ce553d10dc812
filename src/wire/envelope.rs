//! What peers exchange: a [length frame](super::frame) whose first byte names the version of all that follows it.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::frame::{FrameError, Framing, PREFIX, Scanner};

/// The version that every envelope names.
pub const VERSION: u8 = 1;

/// A stream that cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvelopeError {
    /// Not a frame of this receiver.
    #[error("{0}")]
    Frame(#[from] FrameError),
    /// A frame without the byte for its version.
    #[error("a frame without content")]
    Empty,
    /// Another version.
    #[error("a frame of version {0}, this netbelt speaks version {VERSION}: run the same version on all nodes")]
    Version(u8),
}

/// Appends an envelope whose content `write` appends.
pub fn put(out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(VERSION);
    write(out);
    let len = u32::try_from(out.len() - start - PREFIX).expect("senders keep frames far below 4 GiB");
    out[start..start + PREFIX].copy_from_slice(&len.to_be_bytes());
}

/// Takes the first envelope's content off the front of `buffer`, once all of it is there. It may have at most `max` bytes,
/// its version included; a longer one is refused on sight of its length, before memory is set aside for it.
///
/// # Errors
/// After an error the stream has no more envelopes: its reader hangs up.
pub fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Bytes>, EnvelopeError> {
    let whole = Scanner::new(Framing::Length, max).first(buffer)?;
    let Some(len) = buffer.first_chunk::<PREFIX>().map(|prefix| u32::from_be_bytes(*prefix) as usize) else {
        return Ok(None);
    };
    if len == 0 {
        return Err(EnvelopeError::Empty);
    }
    match buffer.get(PREFIX) {
        Some(&version) if version != VERSION => return Err(EnvelopeError::Version(version)),
        Some(_) | None => {}
    }
    if whole.is_none() {
        buffer.reserve(PREFIX + len - buffer.len());
        return Ok(None);
    }
    buffer.advance(PREFIX + 1);
    Ok(Some(buffer.split_to(len - 1).freeze()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_arrive_whole_however_the_stream_is_split(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..10),
            split in 1usize..50,
        ) {
            let mut stream = BytesMut::new();
            for frame in &frames {
                put(&mut stream, |out| out.put_slice(frame));
            }
            let mut buffer = BytesMut::new();
            let mut arrived = Vec::new();
            for part in stream.chunks(split) {
                buffer.put_slice(part);
                while let Some(frame) = take(&mut buffer, 101).unwrap() {
                    arrived.push(frame.to_vec());
                }
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(arrived, frames);
        }

        #[test]
        fn arbitrary_bytes_never_reserve_more_than_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer, 1000) {}
            prop_assert!(buffer.capacity() <= 4096);
        }
    }

    #[test]
    fn a_length_of_four_gibibytes_is_refused_at_once() {
        let mut buffer = BytesMut::from(&[0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(
            take(&mut buffer, 1 << 20),
            Err(FrameError::TooLarge { len: u32::MAX as usize, max: 1 << 20 }.into())
        );
        assert!(buffer.capacity() < 1 << 20);
    }

    #[test]
    fn another_version_and_an_empty_frame_are_refused() {
        assert_eq!(take(&mut BytesMut::from(&[0, 0, 0, 9, 7][..]), 100), Err(EnvelopeError::Version(7)));
        assert_eq!(take(&mut BytesMut::from(&[0, 0, 0, 0][..]), 100), Err(EnvelopeError::Empty));
    }
}
