//! Server-sent events (WHATWG HTML, "Server-sent events"), as far as they are used here: `id`, `event` and one line of
//! `data`, in UTF-8, each line ended by `\n`.

use std::fmt::Display;

use bytes::{Buf, BufMut, BytesMut};
use serde::Serialize;
use thiserror::Error;

/// The header with which a client that lost its stream tells the last id it has seen.
pub const LAST_EVENT_ID: &str = "last-event-id";

/// The id behind `event: gone`. A browser sends it when it connects anew by itself, and is told to leave it at that.
pub const GONE: &str = "gone";

/// Appends an event whose data is `data` as JSON, which has no line breaks.
pub fn put(out: &mut BytesMut, id: Option<u64>, event: &str, data: &impl Serialize) {
    if let Some(id) = id {
        out.put_slice(format!("id: {id}\n").as_bytes());
    }
    out.put_slice(format!("event: {event}\ndata: ").as_bytes());
    serde_json::to_writer(out.writer(), data).expect("events have string keys, and memory takes all");
    out.put_slice(b"\n\n");
}

/// Appends an id without an event: whoever loses its stream goes on after it.
pub fn put_id(out: &mut BytesMut, id: impl Display) {
    out.put_slice(format!("id: {id}\n\n").as_bytes());
}

/// What a stream tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The id to go on after, from now on.
    pub id: Option<u64>,
    /// The event's name.
    pub event: String,
    /// Its data; empty when there is only an id.
    pub data: String,
}

/// A stream that cannot be read on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SseError {
    /// A line longer than the reader allows.
    #[error("a line of more than {0} bytes")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("a line that is not UTF-8")]
    Text,
    /// An id that is no number.
    #[error("an id that is no number")]
    Id,
}

/// Takes a stream apart. It keeps a line and a message that are not whole yet.
#[derive(Debug)]
pub struct Parser {
    buffer: BytesMut,
    /// So much of the buffer has no line's end.
    searched: usize,
    message: Message,
    max_line: usize,
}

impl Parser {
    /// A parser of lines of at most `max_line` bytes.
    pub fn new(max_line: usize) -> Self {
        Self { buffer: BytesMut::new(), searched: 0, message: Message::default(), max_line }
    }

    /// Adds what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// When the stream is not of this form. It cannot be read on after that.
    pub fn next_message(&mut self) -> Result<Option<Message>, SseError> {
        while let Some(end) = memchr::memchr(b'\n', &self.buffer[self.searched..]) {
            let end = self.searched + end;
            if end > self.max_line {
                return Err(SseError::TooLong(self.max_line));
            }
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            self.searched = 0;
            let line = std::str::from_utf8(&line).map_err(|_| SseError::Text)?;
            if line.is_empty() {
                let message = std::mem::take(&mut self.message);
                if message != Message::default() {
                    return Ok(Some(message));
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => self.message.id = Some(value.parse().map_err(|_| SseError::Id)?),
                "event" => value.clone_into(&mut self.message.event),
                "data" => value.clone_into(&mut self.message.data),
                _ => {} // comments, and what a newer node may add
            }
        }
        self.searched = self.buffer.len();
        if self.searched > self.max_line { Err(SseError::TooLong(self.max_line)) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(parser: &mut Parser) -> Vec<Message> {
        std::iter::from_fn(|| parser.next_message().unwrap()).collect()
    }

    proptest! {
        #[test]
        fn messages_arrive_whole_however_the_stream_is_split(
            sent in proptest::collection::vec((any::<u64>(), proptest::option::of(".*")), 0..10),
            split in 1usize..50,
        ) {
            let mut stream = BytesMut::new();
            let mut expected = Vec::new();
            for (id, text) in sent {
                stream.put_slice(b": a comment\n\n");
                match text {
                    None => {
                        put_id(&mut stream, id);
                        expected.push(Message { id: Some(id), ..Message::default() });
                    }
                    Some(text) => {
                        put(&mut stream, Some(id), "set", &text);
                        let data = serde_json::to_string(&text).unwrap();
                        expected.push(Message { id: Some(id), event: "set".to_owned(), data });
                    }
                }
            }
            let mut parser = Parser::new(10_000);
            let mut arrived = Vec::new();
            for part in stream.chunks(split) {
                parser.push(part);
                arrived.extend(messages(&mut parser));
            }
            prop_assert_eq!(arrived, expected);
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut parser = Parser::new(100);
            parser.push(&bytes);
            while let Ok(Some(_)) = parser.next_message() {}
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_at_its_limit() {
        let mut parser = Parser::new(100);
        parser.push(&[b'x'; 100]);
        assert_eq!(parser.next_message(), Ok(None));
        parser.push(b"x");
        assert_eq!(parser.next_message(), Err(SseError::TooLong(100)));
    }
}
