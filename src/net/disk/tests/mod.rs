use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes};
use proptest::prelude::*;
use tempfile::TempDir;

use super::frame::{self, Rest, Seal, padded};
use super::*;

mod damage;
mod removal;

const SALT: u64 = 0x5eed_0f5a_1700_0001;
const HEADER: usize = segment::HEADER_BYTES;

type Records = Vec<Vec<u8>>;
/// The content of a directory.
type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Where a batch went.
#[derive(Clone, Copy, Debug)]
struct Written {
    segment: u64,
    start: usize,
    end: usize,
}

impl Written {
    const fn place(&self) -> LogOffset {
        LogOffset { segment: self.segment, offset: self.start as u64 }
    }
}

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, salt: SALT }
}

/// A log's records and the tail that was cut off.
#[derive(Debug)]
struct Recovered {
    records: Vec<Bytes>,
    cut: Option<Cut>,
}

fn open(dir: &Path, options: Options) -> Result<(Log, Recovered), Error> {
    let mut recovery = Log::open(dir, options)?;
    let records = recovery.by_ref().collect::<Result<_, _>>()?;
    recovery.finish().map(|(log, cut)| (log, Recovered { records, cut }))
}

fn append(log: &mut Log, records: &[Vec<u8>]) -> Written {
    let mut batch = Batch::new();
    records.iter().for_each(|record| batch.push(record));
    let size = padded(frame::HEADER_BYTES + batch.bytes());
    let LogOffset { segment, offset } = log.append(&mut batch).expect("append").expect("some records");
    Written { segment, start: offset as usize, end: offset as usize + size }
}

fn write_log(dir: &Path, options: Options, batches: &[Records]) -> Vec<Written> {
    let (mut log, _) = open(dir, options).expect("open");
    batches.iter().map(|records| append(&mut log, records)).collect()
}

fn snapshot(dir: &Path) -> Files {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Gives `dir` the content `files` and no other.
fn restore(dir: &Path, files: &Files) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if !files.contains_key(&path) {
            fs::remove_file(path).unwrap();
        }
    }
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).unwrap());
}

fn flat(batches: &[Records]) -> Records {
    batches.concat()
}

fn reopened(dir: &Path, options: Options) -> (Records, Option<Cut>) {
    let (_, recovered) = open(dir, options).expect("reopen");
    (recovered.records.iter().map(|record| record.to_vec()).collect(), recovered.cut)
}

/// What a refusal names: the segment's number and the offset. `None` if the log opened or failed otherwise.
fn refusal(dir: &Path, options: Options) -> Option<(u64, u64)> {
    let number = |file: &Path| file.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    match open(dir, options) {
        Err(Error::Corrupt { file, offset, .. }) => Some((number(&file), offset)),
        Err(Error::NewerFormat { file, .. }) => Some((number(&file), 8)),
        _ => None,
    }
}

/// Records of distinct bytes, none of them zero, so that any lost byte shows.
fn sample(batches: usize, records: usize, bytes: usize) -> Vec<Records> {
    let byte = |b: usize, r: usize, i: usize| (1 + (b * 31 + r * 7 + i) % 255) as u8;
    let record = |b: usize, r: usize| (0..bytes + b % 5).map(|i| byte(b, r, i)).collect();
    (0..batches).map(|b| (0..records).map(|r| record(b, r)).collect()).collect()
}

/// A directory with three segments, two or more batches in each, and room after the last.
struct Small {
    _root: TempDir,
    dir: PathBuf,
    options: Options,
    batches: Vec<Records>,
    places: Vec<Written>,
    files: Files,
}

impl Small {
    fn new() -> Small {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("log");
        let options = options(384);
        let batches = sample(9, 2, 30);
        let places = write_log(&dir, options, &batches);
        assert_eq!(places.iter().map(|place| place.segment).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 3, 3, 3]);
        let mut files = snapshot(&dir);
        files.remove(&dir.join("next.tmp"));
        let small = Small { _root: root, dir, options, batches, places, files };
        assert!(small.last().end < 384, "there is room after the last batch");
        small
    }

    fn last(&self) -> Written {
        self.places[self.places.len() - 1]
    }

    fn file(&self, segment: u64) -> PathBuf {
        segment::path(&self.dir, segment)
    }

    /// The directory with one file changed.
    fn damage(&self, segment: u64, change: impl FnOnce(&mut Vec<u8>)) -> Files {
        let mut files = self.files.clone();
        change(files.get_mut(&self.file(segment)).unwrap());
        restore(&self.dir, &files);
        files
    }

    /// How many batches of the last segment are untouched in `bytes`, a shortened or zeroed image of its file.
    fn whole(&self, bytes: &[u8]) -> usize {
        let original = &self.files[&self.file(3)];
        let intact = |i: usize| (0..self.places[i].end).all(|at| bytes.get(at).unwrap_or(&0) == &original[at]);
        6 + (6..9).take_while(|i| intact(*i)).count()
    }

    /// What to expect of a last segment that kept only its first `kept` bytes.
    fn expect_what_remains(&self, kept: usize, files: &Files, context: &str) {
        if kept < HEADER {
            assert_eq!(refusal(&self.dir, self.options), Some((3, 0)), "{context}");
            return;
        }
        let bytes = &files[&self.file(3)];
        let whole = self.whole(bytes);
        let end = if whole == 6 { HEADER } else { self.places[whole - 1].end };
        let torn = bytes.iter().skip(end).any(|byte| *byte != 0);
        self.expect_prefix(whole, torn, context);
    }

    /// Opens the damaged directory, expects the first `whole` batches, appends, and expects that to last.
    fn expect_prefix(&self, whole: usize, cut: bool, context: &str) {
        let (mut log, recovered) = open(&self.dir, self.options).expect(context);
        assert_eq!(recovered.records, flat(&self.batches[..whole]), "{context}");
        assert_eq!(recovered.cut.is_some(), cut, "{context}");
        let end = if whole == 6 { HEADER } else { self.places[whole - 1].end };
        if let Some(found) = recovered.cut {
            assert_eq!((found.file, found.offset as usize), (self.file(3), end), "{context}");
        }
        let new = vec![b"after".to_vec()];
        let place = append(&mut log, &new);
        assert_eq!(place.start, end, "{context}");
        drop(log);
        let file = fs::read(self.file(3)).unwrap();
        assert_eq!(file.len(), 384, "{context}");
        assert!(file[place.end..].iter().all(|byte| *byte == 0), "nothing old is left: {context}");
        let (records, cut) = reopened(&self.dir, self.options);
        assert_eq!(records, [flat(&self.batches[..whole]), new].concat(), "{context}");
        assert_eq!(cut, None, "{context}");
    }
}

#[test]
fn every_acknowledged_batch_is_read_back_in_order_across_segments() {
    let root = tempfile::tempdir().unwrap();
    let mut batches = sample(40, 17, 40);
    batches[3] = vec![vec![]];
    batches[4] = vec![vec![], b"x".to_vec(), vec![], vec![]];
    let places = write_log(root.path(), options(4096), &batches);
    assert!(places[39].segment > 5);
    assert_eq!(reopened(root.path(), options(4096)), (flat(&batches), None));
}

#[test]
fn an_empty_log_opens_and_an_empty_batch_writes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("log");
    let (mut log, recovered) = open(&dir, options(1024)).unwrap();
    assert!(recovered.records.is_empty() && recovered.cut.is_none());
    log.append(&mut Batch::new()).unwrap();
    assert_eq!(log.segments(), 1);
    drop(log);
    assert_eq!(reopened(&dir, options(1024)), (vec![], None));
}

#[test]
fn a_batch_of_the_largest_size_fits_and_one_byte_more_is_refused_without_harm() {
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = open(root.path(), options(1024)).unwrap();
    let largest = vec![7; log.max_batch_bytes() - Batch::RECORD_OVERHEAD];
    let mut batch = Batch::new();
    batch.push(&[largest.clone(), vec![7]].concat());
    let error = log.append(&mut batch).unwrap_err();
    assert!(matches!(error, Error::BatchTooLarge { bytes: 945, max: 944 }), "{error}");
    assert_eq!(batch.bytes(), 945, "the caller still has the batch, to split it");
    append(&mut log, std::slice::from_ref(&largest));
    let place = append(&mut log, std::slice::from_ref(&largest));
    assert_eq!((place.segment, place.end), (2, 1024));
    drop(log);
    assert_eq!(reopened(root.path(), options(1024)), (vec![largest.clone(), largest], None));
}

#[test]
fn a_record_encoded_in_place_equals_one_pushed_and_the_batch_is_reusable() {
    let (mut pushed, mut encoded) = (Batch::new(), Batch::new());
    pushed.push(b"abc");
    encoded.push_with(|buffer| buffer.put_slice(b"abc"));
    assert_eq!(pushed.frame, encoded.frame);
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = open(root.path(), options(1024)).unwrap();
    log.append(&mut pushed).unwrap();
    assert!(pushed.is_empty());
    pushed.push(b"de");
    log.append(&mut pushed).unwrap();
    drop(log);
    assert_eq!(reopened(root.path(), options(1024)).0, [b"abc".to_vec(), b"de".to_vec()]);
}

#[test]
fn a_log_goes_on_with_another_salt_and_another_segment_size() {
    let root = tempfile::tempdir().unwrap();
    let batches = sample(30, 3, 50);
    for (i, chunk) in batches.chunks(5).enumerate() {
        let options = Options { segment_bytes: [512, 4096, 1024][i % 3], salt: i as u64 };
        write_log(root.path(), options, chunk);
    }
    assert_eq!(reopened(root.path(), options(512)), (flat(&batches), None));
}

#[test]
fn a_crash_at_any_point_of_a_rotation_leaves_a_log_that_opens() {
    let small = Small::new();
    let header = small.files[&small.file(3)][..HEADER].to_vec();
    let blank = [header.clone(), vec![0; 384 - HEADER]].concat();
    let six = |mut files: Files| {
        files.remove(&small.file(3));
        files
    };
    let next = small.dir.join("next.tmp");
    for unfinished in [vec![], vec![0; 100], vec![0; 384], header[..30].to_vec(), vec![0xff; 384], blank.clone()] {
        let mut files = six(small.files.clone());
        files.insert(next.clone(), unfinished);
        restore(&small.dir, &files);
        assert_eq!(reopened(&small.dir, small.options), (flat(&small.batches[..6]), None));
        assert!(!next.exists());
    }
    restore(&small.dir, &six(small.files.clone()));
    assert_eq!(reopened(&small.dir, small.options), (flat(&small.batches[..6]), None));
    small.damage(3, |file| file.clone_from(&blank));
    small.expect_prefix(6, false, "renamed, no frame yet");
    small.damage(3, |file| *file = [&blank[..HEADER], &[0xa5; 100], &[0; 384 - HEADER - 100]].concat());
    small.expect_prefix(6, true, "renamed, first frame torn");
}

#[test]
fn a_crash_while_the_very_first_segment_is_made_leaves_an_empty_log() {
    for unfinished in [vec![], vec![0; 1024], vec![0xff; 70]] {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("next.tmp"), unfinished).unwrap();
        assert_eq!(reopened(root.path(), options(1024)), (vec![], None));
        assert_eq!(snapshot(root.path()).len(), 1);
    }
}

#[test]
fn a_newer_format_is_refused_with_both_versions() {
    let small = Small::new();
    for segment in [1, 3] {
        small.damage(segment, |file| file[8] = 2);
        let error = open(&small.dir, small.options).unwrap_err();
        assert!(
            matches!(&error, Error::NewerFormat { file, version: 2, supported: 1 } if *file == small.file(segment)),
            "{error}"
        );
    }
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    let small = Small::new();
    for segment in [1, 2] {
        let mut files = small.files.clone();
        files.remove(&small.file(segment));
        restore(&small.dir, &files);
        assert_eq!(refusal(&small.dir, small.options), Some((segment, 0)));
    }
}

#[test]
fn segments_of_two_logs_do_not_mix() {
    let (ours, theirs) = (Small::new(), Small::new());
    let mut batches = theirs.batches.clone();
    batches[5][0][0] ^= 1;
    fs::remove_dir_all(&theirs.dir).unwrap();
    write_log(&theirs.dir, theirs.options, &batches);
    ours.damage(3, |file| *file = fs::read(theirs.file(3)).unwrap());
    assert_eq!(refusal(&ours.dir, ours.options), Some((3, segment::CHAIN_AT as u64)));
    ours.damage(3, |file| file.clone_from(&ours.files[&ours.file(2)]));
    assert_eq!(refusal(&ours.dir, ours.options), Some((3, 16)));
}

#[test]
fn a_log_file_with_a_strange_name_is_refused_and_other_files_are_left_alone() {
    for name in ["1.log", "00000000000000000001x.log", "+0000000000000000001.log", "old.log"] {
        let small = Small::new();
        fs::write(small.dir.join("notes.txt"), "kept").unwrap();
        assert_eq!(reopened(&small.dir, small.options).0, flat(&small.batches));
        assert!(small.dir.join("notes.txt").exists());
        fs::write(small.dir.join(name), "").unwrap();
        let error = open(&small.dir, small.options).unwrap_err();
        assert!(matches!(&error, Error::UnknownFile { file } if file.ends_with(name)), "{error}");
    }
}

#[test]
fn a_file_that_a_newer_version_named_is_not_taken_for_a_renamed_one() {
    for name in ["00000000000000000009.log2", "00000000000000000002-0000000064-x.first", "00000000000000000002.first3"]
    {
        let small = Small::new();
        fs::write(small.dir.join(name), "").unwrap();
        let error = open(&small.dir, small.options).unwrap_err();
        assert!(matches!(&error, Error::NewerFile { file } if file.ends_with(name)), "{error}");
    }
    let small = Small::new();
    fs::write(small.dir.join("00000000000000000002-0000000064.first"), "more").unwrap();
    assert!(matches!(open(&small.dir, small.options), Err(Error::NewerFile { .. })));
}

#[test]
fn a_log_that_is_only_read_has_its_records_and_stays_as_it_is_torn_or_not() {
    let small = Small::new();
    let read = |dir: &Path| Log::read(dir).unwrap().map(|record| record.unwrap().to_vec()).collect::<Vec<_>>();
    for torn in [false, true] {
        if torn {
            let at = small.last().end - 1;
            small.damage(3, |file| file[at] ^= 1);
        }
        fs::write(small.dir.join("next.tmp"), "unfinished").unwrap();
        let before = snapshot(&small.dir);
        assert_eq!(read(&small.dir), flat(&small.batches[..9 - usize::from(torn)]));
        assert_eq!(snapshot(&small.dir), before);
    }
    assert!(matches!(Log::read(&small.dir.join("nowhere")), Err(Error::Io { .. })));
}

#[test]
fn a_log_keeps_back_what_a_snapshot_would_take_and_gives_it_back_once() {
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = open(root.path(), options(4096)).unwrap();
    let (reserve, file) = (Reserve::default(), root.path().join("reserve"));
    log.keep(reserve.clone());
    let mut keeper = log.keeper.take().unwrap();
    let mut keeps = |snapshot: u64, segments: u64| {
        reserve.is_for(snapshot);
        keeper.on_longer_log();
        keeper.tend();
        while keeper.is_resizing() {
            std::thread::yield_now();
        }
        assert_eq!((reserve.bytes(), fs::metadata(&file).unwrap().len()), (segments * 4096, segments * 4096));
    };
    keeps(38, 1);
    keeps(10_000, 5);
    keeps(5_000, 3);
    drop(keeper);
    let other = Reserve::default();
    other.is_for(5_000);
    log.keep(other.clone());
    assert_eq!(other.bytes(), 3 * 4096, "it was kept by an earlier life");
    let mut keeper = log.keeper.take().unwrap();
    assert!(keeper.gives_back() && !file.exists() && other.bytes() == 0);
    assert!(!keeper.gives_back());
    keeper.on_longer_log();
    keeper.tend();
    assert!(!keeper.is_resizing() && !file.exists(), "the snapshot needs the space");
    keeper.on_shorter_log();
    keeper.tend();
    while keeper.is_resizing() {
        std::thread::yield_now();
    }
    assert_eq!(other.bytes(), 3 * 4096);
}

#[test]
fn a_segment_size_out_of_range_is_refused() {
    let root = tempfile::tempdir().unwrap();
    for size in [0, 248, 1001, (1 << 30) + 8, u64::MAX] {
        let error = open(root.path(), options(size)).unwrap_err();
        assert!(matches!(error, Error::SegmentBytes { given } if given == size), "{error}");
    }
}

#[test]
fn after_a_failed_write_the_log_takes_nothing_more_until_it_is_opened_again() {
    let small = Small::new();
    let (mut log, _) = open(&small.dir, small.options).unwrap();
    log.segment.file = File::open(&log.segment.path).unwrap(); // Read-only: the next write fails.
    let mut batch = Batch::new();
    batch.push(b"lost");
    assert!(matches!(log.append(&mut batch), Err(Error::Io { doing: "write to", path, .. }) if path == small.file(3)));
    let (mut other, _) = open(&small.dir, small.options).unwrap();
    std::mem::swap(&mut log.segment, &mut other.segment); // The cause is gone, the log stays closed all the same.
    assert!(matches!(log.append(&mut batch), Err(Error::Failed { dir }) if dir == small.dir));
    assert_eq!(reopened(&small.dir, small.options), (flat(&small.batches), None));
}

#[test]
fn a_background_fill_that_fails_is_reported_when_the_segment_is_needed_and_no_sooner() {
    let small = Small::new();
    let (mut log, _) = open(&small.dir, small.options).unwrap();
    fs::create_dir(small.dir.join("next.tmp")).unwrap(); // Cannot be opened for writing.
    append(&mut log, &[vec![1; 8]]);
    assert!(log.filling.is_some());
    let mut batch = Batch::new();
    batch.push(&[2; 200]);
    assert!(matches!(log.append(&mut batch), Err(Error::Io { doing: "fill", .. })));
    assert!(matches!(log.append(&mut batch), Err(Error::Failed { .. })));
    drop(log);
    fs::remove_dir(small.dir.join("next.tmp")).unwrap();
    assert_eq!(reopened(&small.dir, small.options), ([flat(&small.batches), vec![vec![1; 8]]].concat(), None));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_full_quota_are_told_apart_from_other_failures() {
    let error = |code| Error::io("fill", Path::new("a"))(io::Error::from_raw_os_error(code));
    assert!(matches!(error(28), Error::NoSpace { .. }));
    assert!(matches!(error(122), Error::NoSpace { .. }));
    assert!(matches!(error(5), Error::Io { .. }));
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = open(root.path(), options(1024)).unwrap();
    log.segment.file = File::options().write(true).open("/dev/full").unwrap();
    let mut batch = Batch::new();
    batch.push(b"x");
    assert!(matches!(log.append(&mut batch), Err(Error::NoSpace { .. })));
    assert!(matches!(log.append(&mut batch), Err(Error::Failed { .. })));
}

#[test]
fn errors_name_the_file_and_say_what_to_do() {
    let small = Small::new();
    small.damage(1, |file| file[70] ^= 1);
    let text = open(&small.dir, small.options).unwrap_err().to_string();
    assert!(text.contains(small.file(1).to_str().unwrap()), "{text}");
    assert!(text.contains("offset 64") && text.contains("restore the file from a copy"), "{text}");
}

#[test]
fn a_whole_frame_whose_records_do_not_add_up_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = open(root.path(), options(1024)).unwrap();
    let mut batch = Batch::new();
    batch.push(b"abc");
    batch.frame[frame::HEADER_BYTES] = 4;
    log.append(&mut batch).unwrap();
    drop(log);
    assert_eq!(refusal(root.path(), options(1024)), Some((1, 64)));
}

/// Direct I/O writes whole blocks, so frames share blocks with what was durable before.
#[test]
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn frames_that_share_a_block_with_earlier_ones_leave_them_whole_under_direct_writes() {
    let root = tempfile::tempdir().unwrap();
    let (dir, options) = (root.path().join("log"), options(16 << 10));
    let mut expected = Records::new();
    for round in 0..12 {
        let (mut log, recovered) = open(&dir, options).expect("open");
        assert_eq!(recovered.records, expected, "round {round}");
        if !log.appender.is_direct() {
            println!("skipped: no direct I/O in {}", dir.display());
            return;
        }
        for (number, bytes) in [1, 30, 700, 4000, 4096, 9000, 13].into_iter().enumerate() {
            let record = vec![(1 + round * 7 + number) as u8; bytes];
            append(&mut log, std::slice::from_ref(&record));
            expected.push(record);
        }
    }
}

#[test]
fn a_torn_direct_write_costs_no_more_than_the_last_batch() {
    let root = tempfile::tempdir().unwrap();
    let (dir, options) = (root.path().join("log"), options(16 << 10));
    let batches = sample(7, 3, 300);
    let places = write_log(&dir, options, &batches);
    let (file, last) = (segment::path(&dir, 1), places[6]);
    assert_eq!(last.segment, 1);
    let whole = fs::read(&file).unwrap();
    for cut in (last.start..last.end).step_by(7) {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        let kept = if torn == whole { 7 } else { 6 }; // the last bytes of a frame may be padding
        fs::write(&file, torn).unwrap();
        let (records, found) = reopened(&dir, options);
        assert!(records == flat(&batches[..kept]), "cut at {cut}: {} records", records.len());
        assert_eq!(found.is_some(), kept == 6 && cut > last.start, "cut at {cut}");
    }
}

fn any_batches(record_bytes: usize) -> impl Strategy<Value = Vec<(bool, Records)>> {
    let record = prop::collection::vec(any::<u8>(), 0..record_bytes);
    prop::collection::vec((any::<bool>(), prop::collection::vec(record, 1..6)), 0..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_batches_with_any_reopens_between_them_are_read_back(batches in any_batches(150), size in 120u64..300) {
        let root = tempfile::tempdir().unwrap();
        let options = options(size * 8);
        let (mut log, _) = open(root.path(), options).unwrap();
        let mut expected = Records::new();
        for (reopen, records) in &batches {
            if *reopen {
                drop(log);
                let recovered;
                (log, recovered) = open(root.path(), options).unwrap();
                prop_assert_eq!(&recovered.records, &expected);
                prop_assert_eq!(recovered.cut, None);
            }
            append(&mut log, records);
            expected.extend_from_slice(records);
        }
        drop(log);
        prop_assert_eq!(reopened(root.path(), options), (expected, None));
    }

    #[test]
    fn any_damage_is_refused_or_leaves_whole_batches_up_to_the_last_but_one(
        segment in 1u64..4, at in 0usize..384, bytes in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let small = Small::new();
        let end = (at + bytes.len()).min(384);
        let files = small.damage(segment, |file| file[at..end].copy_from_slice(&bytes[..end - at]));
        if files == small.files {
            return Ok(());
        }
        match open(&small.dir, small.options) {
            Ok((_, recovered)) => {
                // Damage that reaches from an earlier batch over the last one's header leaves no trace of the latter.
                let whole = small.whole(&files[&small.file(3)]);
                prop_assert_eq!(segment, 3);
                prop_assert_eq!(recovered.records, flat(&small.batches[..whole]));
                prop_assert!(whole >= 8 || (at < small.last().start && end > small.last().start));
            }
            Err(Error::Corrupt { file, offset, .. }) => prop_assert!(file == small.file(segment) && offset < 384),
            Err(Error::NewerFormat { file, .. }) => prop_assert_eq!(file, small.file(segment)),
            Err(other) => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn scanning_any_bytes_ends_without_a_frame(words in prop::collection::vec(any::<u32>(), 0..300), small in any::<bool>()) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| if small { word % 600 } else { *word }.to_le_bytes()).collect();
        let segment = &bytes[..bytes.len() / 8 * 8];
        let scan = frame::scan(segment, 0, Seal::new(SALT, 1), 0);
        prop_assert!(scan.bodies.is_empty() && scan.end == 0);
        prop_assert_eq!(scan.rest == Rest::Zeros, segment.iter().all(|byte| *byte == 0));
    }
}
