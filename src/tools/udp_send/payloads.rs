//! What is sent: one datagram again and again, numbered filler, or lines of stdin as they come.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead, Read, Write};
use std::os::unix::ffi::OsStrExt;

use tokio::sync::mpsc;

use crate::cli::Failure;
use crate::datagram::hex;
use crate::defaults::UDP_SEND_BATCH;
use crate::threads;

/// Lines of stdin, as they come.
pub(super) type Feeder = mpsc::Receiver<Result<Vec<u8>, Failure>>;

/// Datagrams that may go.
#[derive(Debug)]
pub(super) enum Payloads {
    /// Always the same.
    Same(Vec<u8>),
    /// As many buffers as a batch has, each filled with its number, counted from 1, and dots.
    Filler(Vec<Vec<u8>>),
    /// Lines that have come and not gone yet.
    Lines(VecDeque<Vec<u8>>),
}

impl Payloads {
    /// The words, joined by spaces.
    pub(super) fn words(words: &[OsString], is_hex: bool) -> Result<Self, Failure> {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes()).collect();
        let text = words.join(&b' ');
        let bytes =
            if is_hex { hex::parse(&text).map_err(|why| Failure::usage(format!("TEXT: {why}")))? } else { text };
        Ok(Self::Same(bytes))
    }

    /// Filler of that size.
    pub(super) fn filler(size: usize) -> Self {
        Self::Filler(vec![vec![b'.'; size]; UDP_SEND_BATCH])
    }

    /// One more line has come.
    pub(super) fn add(&mut self, line: Vec<u8>) {
        if let Self::Lines(lines) = self {
            lines.push_back(line);
        }
    }

    /// How many are there.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Same(_) | Self::Filler(_) => UDP_SEND_BATCH,
            Self::Lines(lines) => lines.len(),
        }
    }

    /// The next ones, at most so many. `sent` have gone before.
    pub(super) fn next(&mut self, sent: u64, at_most: usize) -> Vec<&[u8]> {
        match self {
            Self::Same(bytes) => vec![bytes; at_most.min(UDP_SEND_BATCH)],
            Self::Filler(buffers) => {
                let mut number = sent;
                for buffer in buffers.iter_mut().take(at_most) {
                    number += 1;
                    let mut start = &mut buffer[..];
                    let _ = write!(start, "{number}"); // as much of it as there is room for
                }
                buffers.iter().take(at_most).map(|buffer| &buffer[..]).collect()
            }
            Self::Lines(lines) => lines.iter().take(at_most).map(|line| &line[..]).collect(),
        }
    }

    /// So many of [`next`](Self::next) have gone: gives the number of their bytes.
    pub(super) fn gone(&mut self, count: usize) -> u64 {
        match self {
            Self::Same(bytes) => (bytes.len() * count) as u64,
            Self::Filler(buffers) => (buffers[0].len() * count) as u64,
            Self::Lines(lines) => lines.drain(..count).map(|line| line.len() as u64).sum(),
        }
    }
}

/// Reads stdin in a thread of its own, which waits when lines come faster than they go.
///
/// A line of more than `longest` bytes is an error, and so is one that is not hexadecimal if it has to be.
pub(super) fn stdin_lines(longest: usize, is_hex: bool) -> Result<Feeder, Failure> {
    let (lines, queue) = mpsc::channel(4 * UDP_SEND_BATCH);
    let read = move || {
        let mut stdin = std::io::stdin().lock();
        for number in 1_u64.. {
            // Two digits and perhaps a space a byte; and the end of the line.
            let enough = if is_hex { 3 * longest } else { longest } as u64 + 1;
            let mut line = Vec::new();
            let read = match stdin.by_ref().take(enough).read_until(b'\n', &mut line) {
                Ok(0) => return,
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::local(format!("cannot read stdin: {error}"))),
            };
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let line = read.and_then(|()| {
                let line = if is_hex { hex::parse(&line).map_err(|why| bad_line(number, &why))? } else { line };
                if line.len() > longest {
                    return Err(bad_line(
                        number,
                        &format!("a datagram there has at most {longest} bytes, this is longer"),
                    ));
                }
                Ok(line)
            });
            let last = line.is_err();
            if lines.blocking_send(line).is_err() || last {
                return;
            }
        }
    };
    let thread = threads::spawn("stdin", read);
    thread.map_err(|error| Failure::local(format!("cannot start a thread to read stdin: {error}")))?;
    Ok(queue)
}

fn bad_line(number: u64, why: &str) -> Failure {
    Failure::usage(format!("line {number} of stdin: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payloads: &mut Payloads, sent: u64, at_most: usize) -> Vec<String> {
        payloads.next(sent, at_most).into_iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }

    #[test]
    fn words_are_one_datagram_repeated() {
        let mut payloads = Payloads::words(&["hello".into(), "there".into()], false).unwrap();
        assert_eq!(shown(&mut payloads, 7, 2), ["hello there", "hello there"]);
        assert_eq!(payloads.gone(2), 22);
        assert_eq!(shown(&mut Payloads::words(&["68".into(), "69".into()], true).unwrap(), 0, 1), ["hi"]);
        assert!(Payloads::words(&["6".into()], true).unwrap_err().message.contains("half a byte"));
    }

    #[test]
    fn filler_has_its_number_in_front_as_far_as_it_fits() {
        let mut payloads = Payloads::filler(4);
        assert_eq!(shown(&mut payloads, 0, 3), ["1...", "2...", "3..."]);
        assert_eq!(shown(&mut payloads, 99_998, 2), ["9999", "1000"]);
        assert_eq!(shown(&mut payloads, 0, 1000).len(), UDP_SEND_BATCH);
        assert_eq!(shown(&mut Payloads::filler(0), 0, 1), [""]);
    }

    #[test]
    fn lines_that_went_do_not_go_again() {
        let mut payloads = Payloads::Lines([b"a".to_vec(), b"bc".to_vec()].into());
        assert_eq!(shown(&mut payloads, 0, 9), ["a", "bc"]);
        assert_eq!(payloads.gone(1), 1);
        assert_eq!((shown(&mut payloads, 1, 9), payloads.len()), (vec!["bc".to_owned()], 1));
    }
}
