//! A log that forgets its beginning, and the crashes in the midst of that.

use super::*;

fn records(names: &[&str]) -> Records {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// A log of five segments with two batches each.
struct Five {
    _root: TempDir,
    dir: PathBuf,
    options: Options,
    log: Log,
    batches: Vec<Records>,
    places: Vec<LogOffset>,
}

impl Five {
    fn new() -> Five {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("log");
        let options = options(1024);
        let (mut log, _) = open(&dir, options).unwrap();
        let batches: Vec<Records> = (1..=10).map(|number| vec![vec![number; 450]]).collect();
        let written: Vec<_> = batches.iter().map(|batch| append(&mut log, batch)).collect();
        assert_eq!(written.iter().map(|batch| batch.segment).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
        let places = written.iter().map(Written::place).collect();
        Five { _root: root, dir, options, log, batches, places }
    }

    /// Forgets what was before the first or second batch of `segment`, and waits until it is gone.
    fn compact_to(&mut self, segment: u64, batch: usize) -> LogOffset {
        let place = self.places[self.number(segment, batch)];
        self.log.compact_to(place).unwrap();
        self.log.removing.finish();
        place
    }

    /// The records from there on.
    fn from(&self, segment: u64, batch: usize) -> Records {
        flat(&self.batches[self.number(segment, batch)..])
    }

    fn number(&self, segment: u64, batch: usize) -> usize {
        segment as usize * 2 + batch - 3
    }

    fn file(&self, segment: u64) -> PathBuf {
        segment::path(&self.dir, segment)
    }

    fn mark(&self, place: LogOffset) -> PathBuf {
        self.dir.join(format!("{:020}-{:010}.first", place.segment, place.offset))
    }
}

#[test]
fn a_log_begins_with_the_batch_it_was_told_to() {
    let mut five = Five::new();
    let second = five.compact_to(4, 2);
    assert_eq!(five.log.segments(), 2);
    assert!((1..4).all(|segment| !five.file(segment).exists()) && five.file(4).exists());
    append(&mut five.log, &records(&["more"]));
    assert_eq!(reopened(&five.dir, five.options), ([five.from(4, 2), records(&["more"])].concat(), None));

    let first = five.compact_to(5, 1);
    assert!(!five.mark(second).exists() && five.mark(first).exists() && !five.file(4).exists());
    assert_eq!(reopened(&five.dir, five.options), ([five.from(5, 1), records(&["more"])].concat(), None));

    five.log.compact_to(second).unwrap();
    assert!(five.mark(first).exists() && !five.mark(second).exists(), "what is forgotten does not come back");
}

#[test]
fn a_log_that_an_earlier_version_let_begin_with_a_segment_does_so() {
    let mut five = Five::new();
    append(&mut five.log, &records(&["more"]));
    fs::write(five.dir.join("00000000000000000004.first"), "").unwrap();
    let (mut log, recovered) = open(&five.dir, five.options).unwrap();
    let expected: Vec<_> = [five.from(4, 1), records(&["more"])].concat().into_iter().map(Bytes::from).collect();
    assert_eq!(recovered.records, expected);
    log.compact_to(five.places[8]).unwrap();
    assert!(!five.dir.join("00000000000000000004.first").exists());
    for name in ["4.first", "00000000000000000004-.first", "00000000000000000004-64.first", "x.first"] {
        fs::write(five.dir.join(name), "").unwrap();
        assert!(matches!(open(&five.dir, five.options), Err(Error::UnknownFile { .. })), "{name}");
        fs::remove_file(five.dir.join(name)).unwrap();
    }
}

#[test]
fn a_removal_that_a_crash_interrupted_anywhere_boots_to_the_same_records_and_is_ended_later() {
    let mut five = Five::new();
    let before = snapshot(&five.dir);
    five.compact_to(4, 2);
    let after = snapshot(&five.dir);
    // The mark is there. Removals may have reached the disk in any order, or not at all.
    for left in 0..1u64 << 3 {
        let mut files = after.clone();
        for segment in (1..=3).filter(|segment| left & 1 << (segment - 1) != 0) {
            files.insert(five.file(segment), before[&five.file(segment)].clone());
        }
        restore(&five.dir, &files);
        let (mut log, recovered) = open(&five.dir, five.options).unwrap();
        assert_eq!((recovered.records, recovered.cut), (five.from(4, 2).into_iter().map(Bytes::from).collect(), None));
        append(&mut log, &records(&["more"]));
        log.removing.finish();
        assert!((1..4).all(|segment| !five.file(segment).exists()), "segments {left:b} were left");
        drop(log);
        assert_eq!(reopened(&five.dir, five.options).0, [five.from(4, 2), records(&["more"])].concat());
    }
    // The mark did not reach the disk: nothing has been removed yet.
    restore(&five.dir, &before);
    assert_eq!(reopened(&five.dir, five.options).0, five.from(1, 1));
    // The mark of an earlier beginning was left beside the later one.
    let mut files = after;
    files.insert(five.mark(five.places[2]), vec![]);
    files.insert(five.file(2), before[&five.file(2)].clone());
    restore(&five.dir, &files);
    assert_eq!(reopened(&five.dir, five.options).0, five.from(4, 2));
}

#[test]
fn a_lost_segment_is_not_taken_for_a_removed_one() {
    let mut five = Five::new();
    let whole = snapshot(&five.dir);
    for lost in 1..=4 {
        let mut files = whole.clone();
        files.remove(&five.file(lost));
        restore(&five.dir, &files);
        assert_eq!(refusal(&five.dir, five.options), Some((lost, 0)), "segment {lost} of a whole log");
    }
    restore(&five.dir, &whole);
    let place = five.compact_to(2, 2);
    let begun = snapshot(&five.dir);
    for lost in 2..=4 {
        let mut files = begun.clone();
        files.remove(&five.file(lost));
        restore(&five.dir, &files);
        assert_eq!(refusal(&five.dir, five.options), Some((lost, 0)), "segment {lost} of a log that begins with 2");
    }
    restore(&five.dir, &BTreeMap::from([(five.mark(place), vec![])]));
    let error = open(&five.dir, five.options).unwrap_err().to_string();
    assert!(error.contains(five.file(2).to_str().unwrap()) && error.contains("restore"), "{error}");
    let mut files = begun.clone();
    files.remove(&five.mark(place));
    restore(&five.dir, &files);
    assert_eq!(refusal(&five.dir, five.options), Some((1, 0)), "without its mark a log begins with segment 1");
    let mut files = begun;
    files.insert(five.mark(LogOffset { offset: place.offset + 8, ..place }), vec![]);
    restore(&five.dir, &files);
    assert_eq!(refusal(&five.dir, five.options), Some((2, place.offset + 8)), "no batch begins there");
}

#[test]
fn damage_in_a_log_that_forgot_its_beginning_is_refused_as_in_any_other() {
    let mut five = Five::new();
    five.compact_to(4, 2);
    let mut files = snapshot(&five.dir);
    files.remove(&five.dir.join("next.tmp"));
    for at in 0..HEADER + 900 {
        let mut damaged = files.clone();
        damaged.get_mut(&five.file(4)).unwrap()[at] ^= 1;
        restore(&five.dir, &damaged);
        assert_eq!(refusal(&five.dir, five.options).map(|(segment, _)| segment), Some(4), "byte {at}");
        assert!(snapshot(&five.dir) == damaged, "a refused log is left as it was");
    }
}

#[test]
fn what_cannot_be_removed_is_no_reason_to_stop() {
    let mut five = Five::new();
    fs::remove_file(five.file(1)).unwrap();
    fs::create_dir(five.file(1)).unwrap(); // in place of the file, and cannot be unlinked
    five.compact_to(5, 1);
    append(&mut five.log, &records(&["more"]));
    assert!(five.file(1).exists() && !five.file(2).exists());
    assert_eq!(reopened(&five.dir, five.options).0, [five.from(5, 1), records(&["more"])].concat());
}

/// What happens to a log.
#[derive(Clone, Debug)]
enum Deed {
    Append(Records),
    /// Append, and begin with that one day.
    Mark(Records),
    /// Begin with what was marked last.
    Begin,
    /// Wait for what is being removed.
    Wait,
    Reopen,
}

fn any_deed() -> impl Strategy<Value = Deed> {
    let batch = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5);
    prop_oneof![
        4 => batch.clone().prop_map(Deed::Append),
        1 => batch.prop_map(Deed::Mark),
        1 => Just(Deed::Begin),
        1 => Just(Deed::Wait),
        1 => Just(Deed::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_life_of_a_log_reads_back_what_came_since_its_beginning(deeds in prop::collection::vec(any_deed(), 0..60)) {
        let root = tempfile::tempdir().unwrap();
        let options = options(1024);
        let (mut log, _) = open(root.path(), options).unwrap();
        let mut expected = Records::new();
        let mut marked = None;
        for deed in deeds {
            match deed {
                Deed::Append(records) => {
                    append(&mut log, &records);
                    expected.extend(records);
                }
                Deed::Mark(records) => {
                    marked = Some((append(&mut log, &records).place(), expected.len()));
                    expected.extend(records);
                }
                Deed::Begin => {
                    if let Some((place, before)) = marked.take() {
                        log.compact_to(place).unwrap();
                        expected.drain(..before);
                    }
                }
                Deed::Wait => log.removing.finish(),
                Deed::Reopen => {
                    drop(log);
                    let recovered;
                    (log, recovered) = open(root.path(), options).unwrap();
                    prop_assert_eq!(&recovered.records, &expected);
                    prop_assert_eq!(recovered.cut, None);
                }
            }
        }
        drop(log);
        prop_assert_eq!(reopened(root.path(), options), (expected, None));
    }
}
