//! Frames: where in a stream of bytes one message ends and the next begins.
//!
//! | framing | on the wire |
//! |---|---|
//! | [`Framing::Raw`] | bytes as they come: whatever has arrived is a frame |
//! | [`Framing::Lines`] | the payload, then `\n` (a `\r` before it belongs to the payload) |
//! | [`Framing::Length`] | the payload's length in bytes (`u32`, big-endian), then the payload |
//!
//! A [`Scanner`] looks at what has arrived and tells where frames end. It copies nothing and sets no memory aside: a length
//! of 4 GiB is refused when its four bytes are there.

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Bytes of the length before a [`Framing::Length`] frame.
pub const PREFIX: usize = 4;

/// How a stream is cut into frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Bytes as they come.
    Raw,
    /// One line a frame.
    Lines,
    /// A length before each frame.
    Length,
}

impl Framing {
    /// Appends a frame with this payload, which must not hold `\n` if frames are lines.
    pub fn put(self, out: &mut BytesMut, payload: &[u8]) {
        if self == Self::Length {
            out.put_u32(u32::try_from(payload.len()).expect("senders keep frames far below 4 GiB"));
        }
        out.put_slice(payload);
        if self == Self::Lines {
            out.put_u8(b'\n');
        }
    }

    /// The payload of a whole frame.
    pub fn payload(self, frame: &[u8]) -> &[u8] {
        match self {
            Self::Raw => frame,
            Self::Lines => frame.strip_suffix(b"\n").unwrap_or(frame),
            Self::Length => &frame[PREFIX..],
        }
    }
}

/// A stream that cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A frame whose payload is larger than its receiver allows.
    #[error("a frame of {len} bytes exceeds the limit of {max}")]
    TooLarge {
        /// Its length, or as much of it as has arrived.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// Finds the frames at the front of what has arrived.
#[derive(Clone, Debug)]
pub struct Scanner {
    framing: Framing,
    max: usize,
    /// So many bytes at the front hold no end of a line: they are not searched again.
    searched: usize,
}

impl Scanner {
    /// A scanner for frames whose payloads have at most `max` bytes. Raw streams know no limit.
    pub const fn new(framing: Framing, max: usize) -> Self {
        Self { framing, max, searched: 0 }
    }

    /// A scanner for another stream of such frames.
    #[must_use]
    pub const fn anew(&self) -> Self {
        Self::new(self.framing, self.max)
    }

    /// How many bytes of `arrived` the first frame takes, its prefix or line end included; nothing while it is not whole.
    /// Until it is, each call must see the bytes of the call before, and those that came since; after that, the caller
    /// removes them.
    ///
    /// # Errors
    /// When the frame is, or will be, too large: the stream has no more frames.
    pub fn first(&mut self, arrived: &[u8]) -> Result<Option<usize>, FrameError> {
        let too_large = |len| Err(FrameError::TooLarge { len, max: self.max });
        match self.framing {
            Framing::Raw => Ok((!arrived.is_empty()).then_some(arrived.len())),
            Framing::Lines => match memchr::memchr(b'\n', arrived.get(self.searched..).unwrap_or_default()) {
                Some(at) => {
                    let len = std::mem::take(&mut self.searched) + at;
                    if len > self.max { too_large(len) } else { Ok(Some(len + 1)) }
                }
                None if arrived.len() > self.max => too_large(arrived.len()),
                None => {
                    self.searched = arrived.len();
                    Ok(None)
                }
            },
            Framing::Length => {
                let Some(prefix) = arrived.first_chunk::<PREFIX>() else { return Ok(None) };
                let len = u32::from_be_bytes(*prefix) as usize;
                if len > self.max {
                    return too_large(len);
                }
                Ok((arrived.len() >= PREFIX + len).then_some(PREFIX + len))
            }
        }
    }

    /// How many bytes of `arrived` are whole frames, and how many frames. What is left over must be seen again, as for
    /// [`Scanner::first`].
    ///
    /// # Errors
    /// When the very first frame is too large; a later one is found when it has become the first.
    pub fn whole(&mut self, arrived: &[u8]) -> Result<(usize, u64), FrameError> {
        let (mut end, mut frames) = (0, 0);
        loop {
            match self.first(&arrived[end..]) {
                Ok(Some(len)) => (end, frames) = (end + len, frames + 1),
                Err(error) if end == 0 => return Err(error),
                Ok(None) | Err(_) => return Ok((end, frames)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framing() -> impl Strategy<Value = Framing> {
        prop_oneof![Just(Framing::Raw), Just(Framing::Lines), Just(Framing::Length)]
    }

    /// Reads a stream as a receiver does, part by part.
    fn receive<'a>(framing: Framing, max: usize, parts: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, BytesMut) {
        let mut scanner = Scanner::new(framing, max);
        let (mut buffer, mut arrived) = (BytesMut::new(), Vec::new());
        for part in parts {
            buffer.put_slice(part);
            while let Some(len) = scanner.first(&buffer).unwrap() {
                arrived.push(framing.payload(&buffer.split_to(len)).to_vec());
            }
        }
        (arrived, buffer)
    }

    /// Cuts a stream at these places.
    fn cut<'a>(stream: &'a [u8], cuts: &[usize]) -> impl Iterator<Item = &'a [u8]> {
        let mut places: Vec<_> = cuts.iter().map(|cut| cut % (stream.len() + 1)).chain([0, stream.len()]).collect();
        places.sort_unstable();
        places.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect::<Vec<_>>().into_iter()
    }

    proptest! {
        #[test]
        fn frames_arrive_whole_however_the_stream_is_split(
            framing in framing(),
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20),
            cuts in proptest::collection::vec(any::<usize>(), 0..40),
        ) {
            let payloads: Vec<Vec<u8>> = payloads.into_iter().map(|mut payload| {
                payload.retain(|byte| framing != Framing::Lines || *byte != b'\n');
                payload
            }).collect();
            let mut stream = BytesMut::new();
            payloads.iter().for_each(|payload| framing.put(&mut stream, payload));
            let (arrived, rest) = receive(framing, 100, cut(&stream, &cuts));
            prop_assert!(rest.is_empty());
            if framing == Framing::Raw {
                prop_assert_eq!(arrived.concat(), payloads.concat());
            } else {
                prop_assert_eq!(arrived, payloads);
            }
        }

        #[test]
        fn whole_frames_are_told_from_the_start_of_the_next(
            framing in framing(),
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(b'\n'), Just(1), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(any::<usize>(), 0..10),
        ) {
            // Frame by frame, all at once, and part by part: the same frames, and the same refusal.
            let mut one = Scanner::new(framing, 20);
            let (mut end, mut count) = (0, 0);
            let first_error = loop {
                match one.first(&bytes[end..]) {
                    Ok(Some(len)) => (end, count) = (end + len, count + 1),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            let mut all = Scanner::new(framing, 20);
            if end > 0 || first_error.is_none() {
                prop_assert_eq!(all.whole(&bytes), Ok((end, count)));
            }
            if framing == Framing::Raw {
                return Ok(());
            }
            let mut parts = Scanner::new(framing, 20);
            let (mut buffer, mut taken, mut refused) = (Vec::new(), 0, false);
            for part in cut(&bytes, &cuts) {
                buffer.extend_from_slice(part);
                while !refused && !buffer.is_empty() {
                    match parts.whole(&buffer) {
                        Ok((0, _)) => break,
                        Ok((len, _)) => { taken += len; buffer.drain(..len); }
                        Err(_) => refused = true,
                    }
                }
            }
            prop_assert_eq!((taken, refused), (end, first_error.is_some()));
        }
    }

    #[test]
    fn a_length_of_four_gibibytes_is_refused_on_sight() {
        let mut scanner = Scanner::new(Framing::Length, 1 << 20);
        assert_eq!(scanner.first(&[0xff; 3]), Ok(None));
        let refused = scanner.first(&[0xff; 4]);
        assert_eq!(refused, Err(FrameError::TooLarge { len: u32::MAX as usize, max: 1 << 20 }));
    }

    #[test]
    fn a_line_that_does_not_end_is_refused_at_the_limit() {
        let mut scanner = Scanner::new(Framing::Lines, 10);
        assert_eq!(scanner.first(&[b'x'; 10]), Ok(None));
        assert_eq!(scanner.first(&[b'x'; 11]), Err(FrameError::TooLarge { len: 11, max: 10 }));
        assert_eq!(Scanner::new(Framing::Lines, 10).first(b"0123456789\n"), Ok(Some(11)));
    }

    #[test]
    fn what_was_searched_for_a_line_end_is_not_searched_again() {
        let mut scanner = Scanner::new(Framing::Lines, 1 << 20);
        assert_eq!(scanner.first(b"abc"), Ok(None));
        assert_eq!(scanner.searched, 3);
        assert_eq!(scanner.first(b"abc\ndef"), Ok(Some(4)));
        assert_eq!(scanner.first(b"def"), Ok(None));
    }

    #[test]
    fn empty_frames_are_frames() {
        assert_eq!(Scanner::new(Framing::Length, 0).whole(&[0; 8]), Ok((8, 2)));
        assert_eq!(Scanner::new(Framing::Lines, 0).whole(b"\n\n"), Ok((2, 2)));
        assert_eq!(Scanner::new(Framing::Raw, 0).whole(b""), Ok((0, 0)));
    }
}
