//! A backup: a file that holds a [snapshot](crate::kv::snapshot), and shows when it was cut short or damaged.
//!
//! | bytes | meaning |
//! |---|---|
//! | 8 | [`MAGIC`] |
//! | 1 | format, [`FORMAT`] |
//! | 1, 8 | whether the cluster has an id, and the id or 0 |
//! | 8 | version of the store |
//! | 4 | CRC-32C of the bytes so far |
//!
//! then each chunk,
//!
//! | bytes | meaning |
//! |---|---|
//! | 4 | its length, at least 1 |
//! | 4 | its CRC-32C |
//! | n | the chunk |
//!
//! then the end,
//!
//! | bytes | meaning |
//! |---|---|
//! | 4 | 0 |
//! | 8 | how many chunks there were |
//! | 4 | CRC-32C of these 8 bytes after all chunks' checksums |
//!
//! Numbers are big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

use crate::defaults::{CHUNK_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// The first bytes of every backup.
pub const MAGIC: [u8; 8] = *b"netbelt\x1a";

/// The format that this netbelt writes.
pub const FORMAT: u8 = 1;

const HEADER: usize = 30;

/// A chunk is cut after the record that fills it.
const MAX_CHUNK: usize = CHUNK_BYTES + MAX_KEY_BYTES + MAX_VALUE_BYTES + 1024;

/// What a backup is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The cluster's id, if it had one.
    pub cluster: Option<u64>,
    /// The version of its store.
    pub version: u64,
}

/// A file that is no whole backup.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackupError {
    /// It begins otherwise.
    #[error("it is no backup of netbelt")]
    Magic,
    /// Written by another version of netbelt.
    #[error(
        "it is a backup of format {0}, this netbelt knows format {FORMAT}: use the netbelt that wrote it, or a newer one"
    )]
    Format(u8),
    /// It ends in the middle.
    #[error("it ends after {0} bytes, before its end: it was cut short")]
    Truncated(u64),
    /// A checksum does not fit.
    #[error("it is damaged before byte {0}")]
    Damaged(u64),
    /// Something follows the end.
    #[error("it goes on after its end, at byte {0}")]
    TooLong(u64),
}

/// Puts a backup together. What it returns is to be written in this order.
#[derive(Debug)]
pub struct Writer {
    chunks: u64,
    checksum: u32,
}

impl Writer {
    /// Begins a backup.
    pub fn begin(header: Header) -> (Self, Bytes) {
        let mut out = BytesMut::with_capacity(HEADER);
        out.put_slice(&MAGIC);
        out.put_u8(FORMAT);
        out.put_u8(u8::from(header.cluster.is_some()));
        out.put_u64(header.cluster.unwrap_or_default());
        out.put_u64(header.version);
        out.put_u32(crc32c::crc32c(&out));
        (Self { chunks: 0, checksum: 0 }, out.freeze())
    }

    /// What goes before this chunk.
    pub fn chunk(&mut self, chunk: &[u8]) -> Bytes {
        let checksum = crc32c::crc32c(chunk);
        self.chunks += 1;
        self.checksum = crc32c::crc32c_append(self.checksum, &checksum.to_be_bytes());
        let mut out = BytesMut::with_capacity(8);
        out.put_u32(u32::try_from(chunk.len()).expect("chunks are far below 4 GiB"));
        out.put_u32(checksum);
        out.freeze()
    }

    /// The end.
    pub fn end(self) -> Bytes {
        let mut out = BytesMut::with_capacity(16);
        out.put_u32(0);
        out.put_u64(self.chunks);
        out.put_u32(crc32c::crc32c_append(self.checksum, &self.chunks.to_be_bytes()));
        out.freeze()
    }
}

/// A part of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The header, first.
    Header(Header),
    /// A chunk.
    Chunk(Bytes),
    /// The end, last.
    End,
}

/// Takes a backup apart, as it comes.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    /// Where in the file the buffer begins.
    offset: u64,
    chunks: u64,
    checksum: u32,
    place: Place,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Header,
    Chunks,
    End,
}

impl Reader {
    /// Adds what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.put_slice(bytes);
    }

    /// The next part, once all of it has come.
    ///
    /// # Errors
    /// When the bytes are no backup. It cannot be read on after that.
    pub fn next_part(&mut self) -> Result<Option<Part>, BackupError> {
        match self.place {
            Place::Header => self.header(),
            Place::Chunks => self.chunk(),
            Place::End if self.buffer.is_empty() => Ok(None),
            Place::End => Err(BackupError::TooLong(self.offset)),
        }
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// When the end has not come.
    pub fn finish(&self) -> Result<(), BackupError> {
        match self.place {
            Place::Header | Place::Chunks => Err(BackupError::Truncated(self.offset + self.buffer.len() as u64)),
            Place::End => Ok(()),
        }
    }

    fn header(&mut self) -> Result<Option<Part>, BackupError> {
        let known = self.buffer.len().min(MAGIC.len());
        if self.buffer[..known] != MAGIC[..known] {
            return Err(BackupError::Magic);
        }
        match self.buffer.get(MAGIC.len()) {
            Some(&format) if format != FORMAT => return Err(BackupError::Format(format)),
            Some(_) | None => {}
        }
        if self.buffer.len() < HEADER {
            return Ok(None);
        }
        let mut header = self.take(HEADER);
        let checksum = crc32c::crc32c(&header[..HEADER - 4]);
        header.advance(MAGIC.len() + 1);
        let (has_cluster, cluster, version) = (header.get_u8(), header.get_u64(), header.get_u64());
        if header.get_u32() != checksum || has_cluster > 1 {
            return Err(BackupError::Damaged(self.offset));
        }
        self.place = Place::Chunks;
        Ok(Some(Part::Header(Header { cluster: (has_cluster == 1).then_some(cluster), version })))
    }

    fn chunk(&mut self) -> Result<Option<Part>, BackupError> {
        let Some(len) = self.buffer.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize) else {
            return Ok(None);
        };
        if len > MAX_CHUNK {
            return Err(BackupError::Damaged(self.offset + 4));
        }
        let whole = if len == 0 { 16 } else { 8 + len };
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let mut part = self.take(whole);
        part.advance(4);
        if len == 0 {
            let chunks = part.get_u64();
            let checksum = crc32c::crc32c_append(self.checksum, &chunks.to_be_bytes());
            if chunks != self.chunks || part.get_u32() != checksum {
                return Err(BackupError::Damaged(self.offset));
            }
            self.place = Place::End;
            return Ok(Some(Part::End));
        }
        let checksum = part.get_u32();
        if crc32c::crc32c(&part) != checksum {
            return Err(BackupError::Damaged(self.offset));
        }
        self.chunks += 1;
        self.checksum = crc32c::crc32c_append(self.checksum, &checksum.to_be_bytes());
        Ok(Some(Part::Chunk(part)))
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.offset += len as u64;
        self.buffer.split_to(len).freeze()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn backup(header: Header, chunks: &[Vec<u8>]) -> Vec<u8> {
        let (mut writer, begin) = Writer::begin(header);
        let mut all = begin.to_vec();
        for chunk in chunks {
            all.extend_from_slice(&writer.chunk(chunk));
            all.extend_from_slice(chunk);
        }
        all.extend_from_slice(&writer.end());
        all
    }

    fn read(bytes: &[u8], split: usize) -> Result<Vec<Part>, BackupError> {
        let (mut reader, mut parts) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(split) {
            reader.push(piece);
            while let Some(part) = reader.next_part()? {
                parts.push(part);
            }
        }
        reader.finish().map(|()| parts)
    }

    fn header() -> impl Strategy<Value = Header> {
        (proptest::option::of(any::<u64>()), any::<u64>()).prop_map(|(cluster, version)| Header { cluster, version })
    }

    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..50), 0..6)
    }

    proptest! {
        #[test]
        fn a_backup_comes_back_however_it_is_split(header in header(), chunks in chunks(), split in 1usize..100) {
            let mut expected = vec![Part::Header(header)];
            expected.extend(chunks.iter().map(|chunk| Part::Chunk(Bytes::from(chunk.clone()))));
            expected.push(Part::End);
            prop_assert_eq!(read(&backup(header, &chunks), split), Ok(expected));
        }

        #[test]
        fn every_truncation_and_every_flipped_bit_is_noticed(header in header(), chunks in chunks()) {
            let whole = backup(header, &chunks);
            for cut in 0..whole.len() {
                prop_assert_eq!(read(&whole[..cut], 64), Err(BackupError::Truncated(cut as u64)));
                let mut flipped = whole.clone();
                flipped[cut] ^= 1 << (cut % 8);
                prop_assert!(read(&flipped, 64).is_err(), "byte {}", cut);
            }
            let longer = [&whole[..], &[0]].concat();
            prop_assert_eq!(read(&longer, longer.len()), Err(BackupError::TooLong(whole.len() as u64)));
        }
    }

    #[test]
    fn a_chunk_that_is_left_out_is_noticed() {
        let header = Header { cluster: None, version: 1 };
        let [first, both] = [&[vec![1u8]][..], &[vec![1], vec![2]]].map(|chunks| backup(header, chunks));
        let without = [&first[..HEADER + 9], &both[HEADER + 18..]].concat();
        assert_eq!(read(&without, 64), Err(BackupError::Damaged(without.len() as u64)));
    }

    #[test]
    fn a_newer_format_is_refused_naming_both_and_another_file_as_none() {
        let mut bytes = backup(Header { cluster: None, version: 1 }, &[]);
        bytes[8] = 2;
        let error = read(&bytes, 64).unwrap_err();
        assert!(error.to_string().contains("format 2") && error.to_string().contains("format 1"), "{error}");
        assert_eq!(read(b"PK\x03\x04", 64), Err(BackupError::Magic));
        assert_eq!(read(b"", 64), Err(BackupError::Truncated(0)));
    }
}
