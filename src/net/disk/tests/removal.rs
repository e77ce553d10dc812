//! A log that forgets its beginning, and the crashes in the midst of that.

use super::*;

fn records(names: &[&str]) -> Records {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// A log of five segments of which 2, 4 and 5 were started on request, with two batches each; what each holds.
struct Five {
    _root: TempDir,
    dir: PathBuf,
    options: Options,
    log: Log,
    held: Vec<Records>,
}

impl Five {
    fn new() -> Five {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("log");
        let options = options(1024);
        let (mut log, _) = open(&dir, options).unwrap();
        let mut held = Vec::new();
        for segment in 1..=5 {
            if [2, 4, 5].contains(&segment) {
                assert_eq!(log.start_segment().unwrap(), segment);
            }
            // Two batches of this size fill a segment.
            let bytes = if segment == 2 { 450 } else { 100 };
            let (one, two) = (vec![vec![segment as u8; bytes]], vec![vec![100 + segment as u8; bytes]]);
            assert_eq!(append(&mut log, &one).segment, segment);
            assert_eq!(append(&mut log, &two).segment, segment);
            held.push([one, two].concat());
        }
        assert_eq!(log.segments(), 5);
        Five { _root: root, dir, options, log, held }
    }

    fn from(&self, segment: usize) -> Records {
        flat(&self.held[segment - 1..])
    }

    fn file(&self, segment: u64) -> PathBuf {
        segment::path(&self.dir, segment)
    }

    fn mark(&self, segment: u64) -> PathBuf {
        self.dir.join(format!("{segment:020}.first"))
    }
}

#[test]
fn a_log_begins_with_the_segment_it_was_told_to() {
    let mut five = Five::new();
    five.log.begin_with(4).unwrap();
    assert_eq!(five.log.segments(), 2);
    append(&mut five.log, &records(&["more"]));
    five.log.removing.finish();
    assert!((1..4).all(|segment| !five.file(segment).exists()));
    assert_eq!(reopened(&five.dir, five.options), ([five.from(4), records(&["more"])].concat(), None));

    five.log.begin_with(5).unwrap();
    assert!(!five.mark(4).exists() && five.mark(5).exists());
    assert_eq!(reopened(&five.dir, five.options), ([five.from(5), records(&["more"])].concat(), None));
}

#[test]
fn a_segment_that_has_no_batch_yet_is_not_followed_by_another_empty_one() {
    let root = tempfile::tempdir().unwrap();
    let (mut log, _) = open(root.path(), options(1024)).unwrap();
    assert_eq!(log.start_segment().unwrap(), 1);
    append(&mut log, &records(&["a"]));
    assert_eq!((log.start_segment().unwrap(), log.start_segment().unwrap()), (2, 2));
    drop(log);
    let (mut log, recovered) = open(root.path(), options(1024)).unwrap();
    assert_eq!(recovered.records, records(&["a"]));
    assert_eq!(log.start_segment().unwrap(), 2);
    append(&mut log, &records(&["b"]));
    log.begin_with(2).unwrap();
    assert_eq!(reopened(root.path(), options(1024)).0, records(&["b"]));
}

#[test]
fn a_removal_that_a_crash_interrupted_anywhere_boots_to_the_same_records_and_is_ended_later() {
    let mut five = Five::new();
    let before = snapshot(&five.dir);
    five.log.begin_with(4).unwrap();
    five.log.removing.finish();
    let after = snapshot(&five.dir);
    // The mark is there. Removals may have reached the disk in any order, or not at all.
    for left in 0..1u64 << 3 {
        let mut files = after.clone();
        for segment in (1..=3).filter(|segment| left & 1 << (segment - 1) != 0) {
            files.insert(five.file(segment), before[&five.file(segment)].clone());
        }
        restore(&five.dir, &files);
        let (mut log, recovered) = open(&five.dir, five.options).unwrap();
        assert_eq!((recovered.records, recovered.cut), (five.from(4).into_iter().map(Bytes::from).collect(), None));
        append(&mut log, &records(&["more"]));
        log.removing.finish();
        assert!((1..4).all(|segment| !five.file(segment).exists()), "segments {left:b} were left");
        drop(log);
        assert_eq!(reopened(&five.dir, five.options).0, [five.from(4), records(&["more"])].concat());
    }
    // The mark did not reach the disk: nothing has been removed yet.
    restore(&five.dir, &before);
    assert_eq!(reopened(&five.dir, five.options).0, five.from(1));
    // The mark of an earlier beginning was left beside the later one.
    let mut files = after;
    files.insert(five.mark(2), vec![]);
    files.insert(five.file(2), before[&five.file(2)].clone());
    restore(&five.dir, &files);
    assert_eq!(reopened(&five.dir, five.options).0, five.from(4));
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
    five.log.begin_with(2).unwrap();
    five.log.removing.finish();
    let begun = snapshot(&five.dir);
    for lost in 2..=4 {
        let mut files = begun.clone();
        files.remove(&five.file(lost));
        restore(&five.dir, &files);
        assert_eq!(refusal(&five.dir, five.options), Some((lost, 0)), "segment {lost} of a log that begins with 2");
    }
    restore(&five.dir, &BTreeMap::from([(five.mark(2), vec![])]));
    let error = open(&five.dir, five.options).unwrap_err().to_string();
    assert!(error.contains(five.file(2).to_str().unwrap()) && error.contains("restore"), "{error}");
    let mut files = begun;
    files.remove(&five.mark(2));
    restore(&five.dir, &files);
    assert_eq!(refusal(&five.dir, five.options), Some((1, 0)), "without its mark a log begins with segment 1");
}

#[test]
fn damage_in_a_log_that_forgot_its_beginning_is_refused_as_in_any_other() {
    let mut five = Five::new();
    five.log.begin_with(4).unwrap();
    five.log.removing.finish();
    let mut files = snapshot(&five.dir);
    files.remove(&five.dir.join("next.tmp"));
    for at in 0..HEADER + 250 {
        let mut damaged = files.clone();
        damaged.get_mut(&five.file(4)).unwrap()[at] ^= 1;
        restore(&five.dir, &damaged);
        assert_eq!(refusal(&five.dir, five.options).map(|(segment, _)| segment), Some(4), "byte {at}");
        assert!(snapshot(&five.dir) == damaged, "a refused log is left as it was");
    }
    fs::write(five.dir.join("4.first"), "").unwrap();
    assert!(matches!(open(&five.dir, five.options), Err(Error::UnknownFile { .. })));
}

#[test]
fn what_cannot_be_removed_is_no_reason_to_stop() {
    let mut five = Five::new();
    fs::remove_file(five.file(1)).unwrap();
    fs::create_dir(five.file(1)).unwrap(); // in place of the file, and cannot be unlinked
    five.log.begin_with(5).unwrap();
    five.log.removing.finish();
    append(&mut five.log, &records(&["more"]));
    assert!(five.file(1).exists() && !five.file(2).exists());
    assert_eq!(reopened(&five.dir, five.options).0, [five.from(5), records(&["more"])].concat());
}

/// What happens to a log.
#[derive(Clone, Debug)]
enum Deed {
    Append(Records),
    Start,
    /// Begin with the segment that was started last.
    Begin,
    /// Wait for what is being removed.
    Wait,
    Reopen,
}

fn any_deed() -> impl Strategy<Value = Deed> {
    let record = prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        4 => prop::collection::vec(record, 1..5).prop_map(Deed::Append),
        1 => Just(Deed::Start),
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
        let mut started = None;
        for deed in deeds {
            match deed {
                Deed::Append(records) => {
                    append(&mut log, &records);
                    expected.extend(records);
                }
                Deed::Start => started = Some((log.start_segment().unwrap(), expected.len())),
                Deed::Begin => {
                    if let Some((segment, before)) = started.take() {
                        log.begin_with(segment).unwrap();
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
