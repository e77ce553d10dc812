//! Appending to a segment: one write and one fdatasync a frame, past the page cache where the file system lets us.
//!
//! Direct I/O writes whole blocks from aligned memory. So the appender keeps the block that is not full yet and writes
//! it again with what follows, which is what the page cache would do, too. It spares the kernel the search for dirty
//! pages: with three nodes on one machine a frame of 16 KiB is durable in about half the time, one of 320 bytes in nine
//! tenths of it. Where direct I/O is not to be had (some file systems in memory, or on a network), the page cache does it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::error::Error;
use super::segment::{BLOCK, Segment, open_direct};

/// Writes at the end of one segment.
#[derive(Debug)]
pub(super) struct Appender {
    /// Open for direct I/O, if the file system has it.
    direct: Option<File>,
    blocks: Blocks,
    /// How many bytes of the first block in `blocks` are on the disk already.
    kept: usize,
}

impl Appender {
    /// Goes on at `offset` of `segment`.
    pub(super) fn new(segment: &Segment, offset: u64) -> Result<Appender, Error> {
        let mut direct = open_direct(&segment.path, segment.size).map_err(Error::io("open", &segment.path))?;
        let kept = (offset % BLOCK as u64) as usize;
        let mut blocks = Blocks::default();
        let block = blocks.first(BLOCK);
        let read = segment.file.read_exact_at(&mut block[..kept], offset - kept as u64);
        read.map_err(Error::io("read", &segment.path))?;
        // Some file systems open the file and then refuse to write; the block is on the disk as it is.
        if let Some(file) = &direct
            && kept > 0
        {
            match file.write_all_at(block, offset - kept as u64) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => direct = None,
                written => written.map_err(Error::io("write to", &segment.path))?,
            }
        }
        Ok(Appender { direct, blocks, kept })
    }

    /// Whether it writes past the page cache.
    #[cfg(test)]
    pub(super) const fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Makes `bytes` durable at `offset`, where the last call ended.
    pub(super) fn append(&mut self, segment: &Segment, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let Some(file) = &self.direct else { return segment.write_durably(bytes, offset) };
        let end = self.kept + bytes.len();
        let blocks = self.blocks.first(end.next_multiple_of(BLOCK));
        blocks[self.kept..end].copy_from_slice(bytes);
        blocks[end..].fill(0); // as the rest of the segment is
        let written = file.write_all_at(blocks, offset - self.kept as u64);
        written.map_err(Error::io("write to", &segment.path))?;
        file.sync_data().map_err(Error::io("make durable", &segment.path))?;
        self.kept = end % BLOCK;
        blocks.copy_within(end - self.kept..end, 0);
        Ok(())
    }
}

/// Memory that begins at a multiple of [`BLOCK`].
#[derive(Debug, Default)]
struct Blocks(Vec<u8>);

impl Blocks {
    /// The first `len` bytes. What was in them before stays; growing is rare.
    fn first(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len + BLOCK {
            let mut grown = vec![0; (len + BLOCK).next_power_of_two()];
            let (old, new) = (self.0.as_ptr().align_offset(BLOCK), grown.as_ptr().align_offset(BLOCK));
            if let Some(block) = self.0.get(old..old + BLOCK) {
                grown[new..new + BLOCK].copy_from_slice(block);
            }
            self.0 = grown;
        }
        let start = self.0.as_ptr().align_offset(BLOCK);
        &mut self.0[start..start + len]
    }
}
