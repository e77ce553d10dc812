//! Logs with a byte, a sector or a tail that is not what was written.

use super::*;

#[test]
fn the_log_cut_at_every_byte_gives_the_whole_batches_before_the_cut() {
    let small = Small::new();
    for len in 0..384 {
        let files = small.damage(3, |file| file.truncate(len));
        small.expect_what_remains(len, &files, &format!("last segment cut to {len} bytes"));
    }
}

#[test]
fn the_log_zeroed_from_every_byte_gives_the_whole_batches_before_the_zeros() {
    let small = Small::new();
    for from in 0..384 {
        let files = small.damage(3, |file| file[from..].fill(0));
        small.expect_what_remains(from, &files, &format!("last segment zero from byte {from}"));
    }
}

#[test]
fn an_earlier_segment_cut_or_zeroed_from_any_byte_is_refused() {
    let small = Small::new();
    for segment in [1, 2] {
        let written = small.places[segment as usize * 3 - 1].end;
        for at in 0..384 {
            small.damage(segment, |file| file.truncate(at));
            let (named, _) = refusal(&small.dir, small.options).expect("a segment cut short");
            assert_eq!(named, segment, "cut to {at}");
            if small.files[&small.file(segment)][at.min(written)..written].iter().any(|byte| *byte != 0) {
                small.damage(segment, |file| file[at..].fill(0));
                let (named, _) = refusal(&small.dir, small.options).expect("a segment zeroed");
                assert!(named == segment || named == segment + 1, "zero from {at}");
            }
        }
    }
}

#[test]
fn every_single_flipped_bit_is_refused_or_costs_no_more_than_the_last_batch() {
    let small = Small::new();
    let last = small.last();
    let all = flat(&small.batches);
    let but_last = flat(&small.batches[..8]);
    for (segment, bit) in (1..=3).flat_map(|segment| (0..384 * 8).map(move |bit| (segment, bit))) {
        let at = bit / 8;
        let damaged = small.damage(segment, |file| file[at] ^= 1 << (bit % 8));
        let context = format!("bit {} of byte {at} in segment {segment}", bit % 8);
        if segment == 3 && at >= last.start {
            let (records, cut) = reopened(&small.dir, small.options);
            let (expected, offset) = if at < last.end { (&but_last, last.start) } else { (&all, last.end) };
            assert_eq!(&records, expected, "{context}");
            assert_eq!(cut.expect(&context).offset, offset as u64, "{context}");
            continue;
        }
        // Blame falls on the frame that was hit, on the zeros' beginning, or on a field of the header.
        let (named, offset) = refusal(&small.dir, small.options).expect(&context);
        let in_segment = |place: &&Written| place.segment == segment;
        let blamed = match small.places.iter().filter(in_segment).find(|place| (place.start..place.end).contains(&at)) {
            Some(place) => place.start,
            None if at < HEADER => offset as usize,
            None => small.places.iter().rfind(in_segment).unwrap().end,
        };
        assert_eq!((named, offset as usize), (segment, blamed), "{context}");
        assert!(offset as usize <= at, "{context}");
        assert_eq!(snapshot(&small.dir), damaged, "a refused log is left as it was: {context}");
    }
}

#[test]
fn a_damaged_batch_before_a_damaged_batch_is_refused_although_no_whole_one_follows() {
    let small = Small::new();
    let [.., before, last] = small.places[..] else { panic!() };
    small.damage(3, |file| {
        file[before.end - 9] ^= 1;
        file[last.end - 9] ^= 1;
    });
    assert_eq!(refusal(&small.dir, small.options), Some((3, before.start as u64)));
}

#[test]
fn whichever_sectors_of_the_last_write_were_lost_only_that_batch_is_cut() {
    let root = tempfile::tempdir().unwrap();
    let batches = [sample(2, 2, 100), sample(1, 6, 400)].concat();
    let places = write_log(root.path(), options(4096), &batches);
    let Written { start, end, .. } = places[2];
    let file = segment::path(root.path(), 1);
    let whole = fs::read(&file).unwrap();
    let sectors: Vec<_> = (start / 512..end.div_ceil(512)).collect();
    assert!(sectors.len() >= 5);
    for lost in 1..1 << sectors.len() {
        let mut torn = whole.clone();
        for (i, sector) in sectors.iter().enumerate().filter(|(i, _)| lost & 1 << i != 0) {
            let from = if i == 0 { start } else { sector * 512 };
            torn[from..((sector + 1) * 512).min(end)].fill(0);
        }
        fs::write(&file, torn).unwrap();
        let (records, cut) = reopened(root.path(), options(4096));
        assert_eq!(records, flat(&batches[..2]), "sectors {lost:b}");
        assert_eq!(cut.is_some(), lost + 1 != 1 << sectors.len(), "sectors {lost:b}");
        let file = fs::read(&file).unwrap();
        assert!(file[..start] == whole[..start] && file[start..].iter().all(|byte| *byte == 0), "sectors {lost:b}");
    }
}

#[test]
fn garbage_after_the_last_batch_is_cut_within_the_segment_and_beyond_it() {
    let small = Small::new();
    let end = small.last().end;
    for at in [end, end + 1, end + 8, 383] {
        small.damage(3, |file| file[at..].fill(0xa5));
        small.expect_prefix(9, true, "garbage within");
    }
    small.damage(3, |file| file.extend([0xa5; 100]));
    small.expect_prefix(9, true, "garbage beyond");
    small.damage(3, |file| file.extend([0; 100]));
    small.expect_prefix(9, true, "zeros beyond");
    small.damage(2, |file| file.push(0));
    assert_eq!(refusal(&small.dir, small.options), Some((2, 384)));
}

#[test]
fn a_cut_reports_the_bytes_from_the_torn_batch_to_the_last_one_that_was_not_zero() {
    let small = Small::new();
    let last = small.last();
    small.damage(3, |file| file[last.start + 40..].fill(0));
    let (_, cut) = reopened(&small.dir, small.options);
    assert_eq!(cut, Some(Cut { file: small.file(3), offset: last.start as u64, bytes: 40 }));
}

#[test]
fn values_that_contain_frames_of_this_log_do_not_pass_for_frames() {
    let root = tempfile::tempdir().unwrap();
    for shift in 0..8 {
        let dir = root.path().join(shift.to_string());
        let first = sample(3, 2, 30);
        let places = write_log(&dir, options(4096), &first);
        let image = fs::read(segment::path(&dir, 1)).unwrap();
        let value = [vec![1; shift], image[HEADER..places[2].end].to_vec()].concat();
        let last = write_log(&dir, options(4096), &[vec![value]])[0];
        let mut torn = fs::read(segment::path(&dir, 1)).unwrap();
        torn[last.start..last.start + frame::HEADER_BYTES].fill(0);
        fs::write(segment::path(&dir, 1), torn).unwrap();
        let (records, cut) = reopened(&dir, options(4096));
        assert_eq!((records, cut.is_some()), (flat(&first), true), "shifted by {shift}");
    }
}

#[test]
fn a_frame_in_a_value_at_its_very_offset_passes_only_with_the_right_salt() {
    for (salt, forged) in [(SALT, true), (SALT + 1, false)] {
        let root = tempfile::tempdir().unwrap();
        let (dir, model) = (root.path().join("log"), root.path().join("model"));
        // In the model, a second frame starts 24 bytes after where the log's does: where a value's fifth byte will be.
        let places = write_log(&model, Options { salt, ..options(1024) }, &sample(2, 1, 48));
        let image = fs::read(segment::path(&model, 1)).unwrap()[places[1].start..places[1].end].to_vec();
        let first = sample(1, 1, 24);
        let value = [vec![1; 4], image].concat();
        let last = write_log(&dir, options(1024), &[first[0].clone(), vec![value]])[1];
        assert_eq!(last.start + 24, places[1].start);
        let mut torn = fs::read(segment::path(&dir, 1)).unwrap();
        torn[last.start..last.start + frame::HEADER_BYTES].fill(0);
        fs::write(segment::path(&dir, 1), torn).unwrap();
        match forged {
            true => assert_eq!(refusal(&dir, options(1024)), Some((1, last.start as u64))),
            false => assert_eq!(reopened(&dir, options(1024)).0, flat(&first)),
        }
    }
}

#[test]
fn a_frame_of_this_place_that_does_not_continue_the_chain_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (ours, theirs) = (root.path().join("ours"), root.path().join("theirs"));
    let batches = sample(2, 2, 30);
    let places = write_log(&ours, options(1024), &batches);
    let mut other = batches.clone();
    other[0][0][0] ^= 1;
    write_log(&theirs, options(1024), &other);
    let file = segment::path(&ours, 1);
    let mut spliced = fs::read(&file).unwrap();
    let from = places[1].start;
    spliced[from..].copy_from_slice(&fs::read(segment::path(&theirs, 1)).unwrap()[from..]);
    fs::write(&file, spliced).unwrap();
    assert_eq!(refusal(&ours, options(1024)), Some((1, from as u64)));
}
