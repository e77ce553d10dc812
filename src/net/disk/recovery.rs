//! Reading a directory back: whole batches are returned, a torn tail is cut, anything else is refused.
//!
//! Nothing is written before the last segment has been judged, so that a refused log stays as it was found.

use std::path::Path;

use bytes::{Buf, Bytes};

use super::frame::{self, Rest, Scan};
use super::segment::{self, Segment};
use super::{Cut, Error, Recovered};

/// Where the log goes on.
pub(super) struct End {
    pub(super) segment: Segment,
    pub(super) offset: u64,
    pub(super) chain: u32,
}

/// Reads every segment of `dir` in order. No segment, no end.
pub(super) fn recover(dir: &Path) -> Result<(Recovered, Option<End>), Error> {
    let numbers = segment::list(dir)?;
    if let Some((expected, _)) = (1..).zip(&numbers).find(|(expected, found)| expected != *found) {
        let file = segment::path(dir, expected);
        return Err(Error::Corrupt { file, offset: 0, why: "the segment is missing, and a later one is there" });
    }
    let mut recovered = Recovered { records: Vec::new(), cut: None };
    let mut end = None;
    let mut chain = 0;
    // One buffer for all segments: records are copied out of it, a batch at a time, so that a caller who keeps one
    // record does not keep a segment.
    let mut buffer = Vec::new();
    for &number in &numbers {
        let segment = Segment::open(dir, number)?;
        let corrupt = |offset, why| Error::Corrupt { file: segment.path.clone(), offset, why };
        if segment.chain != chain {
            return Err(corrupt(
                segment::CHAIN_AT as u64,
                "the segment does not follow the last frame of the one before it",
            ));
        }
        let file_len = segment.read(&mut buffer)?;
        let scan = frame::scan(&buffer, segment::HEADER_BYTES, segment.seal, chain);
        let offset = scan.end as u64;
        for body in &scan.bodies {
            let frame = body.start - frame::HEADER_BYTES;
            split_records(Bytes::copy_from_slice(&buffer[body.clone()]), &mut recovered.records)
                .ok_or_else(|| corrupt(frame as u64, "the frame is whole but its records do not add up"))?;
        }
        chain = scan.chain;
        let last = number == numbers.len() as u64;
        match scan.rest {
            Rest::Damaged(why) => return Err(corrupt(offset, why)),
            Rest::Torn if !last => return Err(corrupt(offset, "what follows the last whole frame is not zero")),
            Rest::Zeros if !last && file_len != segment.size => {
                return Err(corrupt(file_len.min(segment.size), "the file does not have the size in its header"));
            }
            Rest::Torn | Rest::Zeros => {}
        }
        if last {
            recovered.cut = settle(&segment, &buffer, &scan, file_len)?;
            segment::sync_dir(dir)?;
            end = Some(End { segment, offset, chain });
        }
    }
    Ok((recovered, end))
}

/// Makes the last segment, as it was judged, durable and ready for the next frame.
fn settle(segment: &Segment, buffer: &[u8], scan: &Scan, file_len: u64) -> Result<Option<Cut>, Error> {
    let offset = scan.end as u64;
    let mut cut = None;
    if scan.rest == Rest::Torn || file_len > segment.size {
        let used = buffer.iter().rposition(|&byte| byte != 0).map_or(0, |last| last as u64 + 1);
        let used = if file_len > segment.size { file_len } else { used };
        let bytes = used - offset;
        let file = segment.path.clone();
        tracing::warn!(file = %file.display(), offset, bytes, "cut a torn write off the end of the log");
        cut = Some(Cut { file, offset, bytes });
    }
    if file_len < segment.size {
        let (file, size) = (segment.path.display(), segment.size);
        tracing::warn!(%file, file_len, size, "the last segment had been shortened; filled it with zeros again");
    }
    if cut.is_some() || file_len != segment.size {
        segment.zero_from(offset)?;
    }
    // What was read may be in the system's memory only: the process that wrote it may have died before its fdatasync,
    // or of its failure, after which the pages count as clean and a mere fsync would skip them. Writing the last frame
    // again makes them dirty; frames before it were durable before it was written.
    let last = scan.bodies.last().map_or(scan.end, |body| body.start - frame::HEADER_BYTES);
    segment.write_durably(&buffer[last..scan.end], last as u64)?;
    Ok(cut)
}

/// Appends the records in `body`; `None` if their lengths do not fill it exactly.
fn split_records(mut body: Bytes, records: &mut Vec<Bytes>) -> Option<()> {
    while !body.is_empty() {
        let len = body.try_get_u32_le().ok()? as usize;
        if len > body.len() {
            return None;
        }
        records.push(body.split_to(len));
    }
    Some(())
}
