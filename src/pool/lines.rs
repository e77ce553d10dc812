//! Jobs from a stream: lines, or pieces that end with NUL.

use std::io::{self, BufRead};

use memchr::memchr;

use crate::defaults::MAX_JOB_BYTES;

/// What ends a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separator {
    /// A newline. A carriage return before it belongs to the job.
    Newline,
    /// A NUL byte.
    Nul,
}

impl Separator {
    /// The byte.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Newline => b'\n',
            Self::Nul => 0,
        }
    }
}

/// A job as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole one, without its separator.
    Whole(Vec<u8>),
    /// One of more than [`MAX_JOB_BYTES`]: how it begins.
    TooLong(Vec<u8>),
}

/// How much is kept of a line that is too long: enough to recognise it.
const KEPT: usize = 64;

/// Reads the next job: `None` at the end. What follows the last separator is a job, too, unless it is empty; an empty line
/// is a job. Of a job that is too long the rest is read away at the next call, so that the error is heard at once.
#[derive(Debug)]
pub struct Lines<R> {
    from: R,
    separator: Separator,
    rest: bool,
}

impl<R: BufRead> Lines<R> {
    /// Jobs from here.
    pub const fn new(from: R, separator: Separator) -> Self {
        Self { from, separator, rest: false }
    }

    /// Takes from the stream up to the separator, or as much as is there: the bytes go to `taken`. Gives whether the
    /// separator was found; `None` at the end of the stream.
    fn take(&mut self, mut taken: impl FnMut(&[u8])) -> io::Result<Option<bool>> {
        let chunk = loop {
            match self.from.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                chunk => break chunk?,
            }
        };
        if chunk.is_empty() {
            return Ok(None);
        }
        let found = memchr(self.separator.byte(), chunk);
        let length = found.unwrap_or(chunk.len());
        taken(&chunk[..length]);
        self.from.consume(length + usize::from(found.is_some()));
        Ok(Some(found.is_some()))
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<io::Result<Line>> {
        while self.rest {
            match self.take(|_| ()) {
                Ok(Some(found)) => self.rest = !found,
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
        let mut line = Vec::new();
        loop {
            match self.take(|bytes| line.extend_from_slice(bytes)) {
                Ok(Some(found)) if line.len() > MAX_JOB_BYTES => {
                    self.rest = !found;
                    line.truncate(KEPT);
                    return Some(Ok(Line::TooLong(line)));
                }
                Ok(Some(true)) => return Some(Ok(Line::Whole(line))),
                Ok(Some(false)) => {}
                Ok(None) if line.is_empty() => return None,
                Ok(None) => return Some(Ok(Line::Whole(line))),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], separator: Separator, buffer: usize) -> Vec<Line> {
        Lines::new(BufReader::with_capacity(buffer, bytes), separator).map(|line| line.unwrap()).collect()
    }

    #[test]
    fn an_empty_line_is_a_job_and_so_is_a_last_line_without_newline() {
        let whole = |text: &str| Line::Whole(text.into());
        assert_eq!(read(b"a\n\nb\r\nc", Separator::Newline, 2), ["a", "", "b\r", "c"].map(whole));
        assert_eq!(read(b"a\n", Separator::Newline, 8), [whole("a")]);
        assert_eq!(read(b"", Separator::Newline, 8), []);
        assert_eq!(read(b"a\nb\0\0c\0", Separator::Nul, 3), ["a\nb", "", "c"].map(whole));
    }

    #[test]
    fn a_line_at_the_bound_is_whole_and_one_beyond_is_told_from_the_next() {
        let mut input = vec![b'x'; MAX_JOB_BYTES];
        input.push(b'\n');
        input.extend(vec![b'y'; MAX_JOB_BYTES + 1]);
        input.extend(b"\nz");
        let lines = read(&input, Separator::Newline, 1 << 16);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], Line::Whole(vec![b'x'; MAX_JOB_BYTES]));
        assert_eq!(lines[1], Line::TooLong(vec![b'y'; KEPT]));
        assert_eq!(lines[2], Line::Whole(b"z".to_vec()));
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory_than_the_bound() {
        struct Endless;
        impl io::Read for Endless {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                into.fill(b'x');
                Ok(into.len())
            }
        }
        let mut lines = Lines::new(BufReader::new(Endless), Separator::Newline);
        assert!(matches!(lines.next(), Some(Ok(Line::TooLong(_)))));
    }

    proptest! {
        #[test]
        fn lines_are_those_of_split_whatever_the_buffer(bytes in "[ab\n\0]{0,40}", buffer in 1_usize..9) {
            for separator in [Separator::Newline, Separator::Nul] {
                let mut wanted: Vec<_> =
                    bytes.as_bytes().split(|b| *b == separator.byte()).map(|line| Line::Whole(line.into())).collect();
                if wanted.last() == Some(&Line::Whole(Vec::new())) {
                    wanted.pop();
                }
                prop_assert_eq!(read(bytes.as_bytes(), separator, buffer), wanted);
            }
        }
    }
}
