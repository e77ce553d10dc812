//! How a data directory that goes on is told from a copy of it that went another way.
//!
//! A machine's disk that was cloned, or was put back to how it was, has the incarnation of the original and even its inodes,
//! but it has forgotten what the original said since. So every start of a node draws a random number, its *boot id*, and keeps
//! it in `starts.json` behind those of the starts before, durably and before it says a word:
//!
//! ```text
//! {"format":1,"number":3,"marks":["9f..","3c..","70.."]}     the boot ids, the latest first
//! ```
//!
//! Whoever it meets remembers the latest. A directory whose past has not the start that is remembered is not the one that was
//! met: it was copied before that start. A node tells its latest 256 when it connects, and of any other the id that it is
//! asked for: who is dialled says by which start it knows the dialler, and who dials by which it knows the other. Ids go when
//! every member is known to remember a later one.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::files::{DataDirError, STARTS, read_json, write_durably};
use super::random_id::RandomId;
use crate::defaults::MAX_STARTS;

/// The newest format of the file.
const FORMAT: u32 = 1;

/// A start of a node: its ordinal in the life of the data directory, and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// From 1.
    pub number: u64,
    /// Drawn at random.
    #[serde(rename = "mark")]
    pub id: RandomId,
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.id)
    }
}

impl FromStr for Boot {
    type Err = InvalidBootHistory;

    fn from_str(text: &str) -> Result<Self, InvalidBootHistory> {
        let (number, id) = text.split_once(' ').ok_or(InvalidBootHistory)?;
        let number = number.parse().map_err(|_| InvalidBootHistory)?;
        Ok(Self { number, id: id.parse().map_err(|_| InvalidBootHistory)? })
    }
}

/// The latest start of a node, and those before it. As text, of at most [`MAX_STARTS`]: `3 9f..,3c..,70..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootHistory {
    number: u64,
    /// The latest first; at least one.
    ids: Vec<RandomId>,
}

/// No starts.
#[derive(Clone, Copy, Debug, Error)]
#[error("not a number of starts with the marks of the latest")]
pub struct InvalidBootHistory;

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    number: u64,
    #[serde(rename = "marks")]
    ids: Vec<RandomId>,
}

impl BootHistory {
    /// Counts a start of the data directory `dir` and gives it the id `fresh`. It is durable before this returns. On a full
    /// disk a start is not counted, but for the first: the node goes by the last that was, and is there for its readers.
    ///
    /// # Errors
    /// When the file is damaged or of a newer format, or the disk refuses.
    pub fn begin(dir: &Path, fresh: RandomId) -> Result<Self, DataDirError> {
        let file = dir.join(STARTS);
        let damaged = |why: String| DataDirError::Damaged { path: file.clone(), why };
        // None at the first start, or the first with a netbelt that counts.
        let before = read_json(&file, FORMAT)?.unwrap_or(Written { format: FORMAT, number: 0, ids: Vec::new() });
        let last = Self::new(before.number, before.ids.clone());
        let number = before.number.checked_add(1).ok_or_else(|| damaged("no node starts so often".to_owned()))?;
        let ids: Vec<_> = [fresh].into_iter().chain(before.ids).collect();
        let starts = Self::new(number, ids).map_err(|why| damaged(why.to_string()))?;
        match (starts.write(dir), last) {
            (Ok(()), _) => Ok(starts),
            (Err(error), Ok(last)) if error.is_full() => {
                tracing::warn!("this start is not counted: {error}");
                Ok(last)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn write(&self, dir: &Path) -> Result<(), DataDirError> {
        write_durably(dir, STARTS, |_| {
            let written = Written { format: FORMAT, number: self.number, ids: self.ids.clone() };
            serde_json::to_vec(&written).expect("starts are JSON")
        })
    }

    fn new(number: u64, ids: Vec<RandomId>) -> Result<Self, InvalidBootHistory> {
        let is_possible = !ids.is_empty() && ids.len() as u64 <= number;
        if is_possible { Ok(Self { number, ids }) } else { Err(InvalidBootHistory) }
    }

    /// The latest.
    pub fn latest(&self) -> Boot {
        Boot { number: self.number, id: self.ids[0] }
    }

    /// The latest [`MAX_STARTS`] of them, which a node tells unasked.
    #[must_use]
    pub fn latest_told(&self) -> Self {
        Self { number: self.number, ids: self.ids.iter().take(MAX_STARTS).copied().collect() }
    }

    /// The start of that number, unless its id is forgotten.
    pub fn of(&self, number: u64) -> Option<Boot> {
        let back = usize::try_from(self.number.checked_sub(number)?).ok()?;
        self.ids.get(back).map(|id| Boot { number, id: *id })
    }

    /// Whether that start came before those that are here.
    pub fn is_before_told(&self, number: u64) -> bool {
        number + self.ids.len() as u64 <= self.number
    }

    /// Whether that start is one of these. What is so long ago that its id is forgotten is not.
    pub fn contains(&self, start: Boot) -> bool {
        self.of(start.number) == Some(start)
    }

    /// The members know of a start not before `number`, each of them: forgets the ids of those before it, when there are so
    /// many that it is worth a write. The latest [`MAX_STARTS`] stay, which older versions ask for.
    ///
    /// # Errors
    /// When the disk refuses; nothing is forgotten then.
    pub(super) fn forget_before(&mut self, number: u64, dir: &Path) -> Result<(), DataDirError> {
        let wanted = usize::try_from(self.number.saturating_sub(number)).unwrap_or(usize::MAX).saturating_add(1);
        let wanted = wanted.max(MAX_STARTS);
        if self.ids.len() < wanted.saturating_mul(2) {
            return Ok(());
        }
        let rest = Self { number: self.number, ids: self.ids[..wanted].to_vec() };
        rest.write(dir)?;
        *self = rest;
        Ok(())
    }
}

impl fmt::Display for BootHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.ids[0])?;
        self.ids[1..].iter().try_for_each(|id| write!(f, ",{id}"))
    }
}

impl FromStr for BootHistory {
    type Err = InvalidBootHistory;

    fn from_str(text: &str) -> Result<Self, InvalidBootHistory> {
        let (number, ids) = text.split_once(' ').ok_or(InvalidBootHistory)?;
        let ids: Result<Vec<_>, _> = ids.split(',').take(MAX_STARTS + 1).map(str::parse).collect();
        let ids = ids.ok().filter(|ids| ids.len() <= MAX_STARTS).ok_or(InvalidBootHistory)?;
        Self::new(number.parse().map_err(|_| InvalidBootHistory)?, ids)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn start(number: u64, mark: u64) -> Boot {
        Boot { number, id: RandomId(mark) }
    }

    #[test]
    fn each_start_has_those_before_it_in_its_past_and_a_copy_only_the_ones_it_shares() {
        let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        BootHistory::begin(dir.path(), RandomId(11)).unwrap();
        BootHistory::begin(dir.path(), RandomId(12)).unwrap();
        fs::copy(dir.path().join(STARTS), copy.path().join(STARTS)).unwrap();
        let original = BootHistory::begin(dir.path(), RandomId(13)).unwrap();
        assert_eq!(original.latest(), start(3, 13));
        assert!((11..=13).zip(1..).all(|(mark, number)| original.contains(start(number, mark))));
        assert!(!original.contains(start(4, 14)) && !original.contains(start(0, 0)));
        for mark in 23..33 {
            // However often it is started, it does not become the original.
            let copied = BootHistory::begin(copy.path(), RandomId(mark)).unwrap();
            assert!(copied.contains(start(2, 12)) && !copied.contains(original.latest()), "{copied}");
            assert!(!original.contains(copied.latest()));
        }
    }

    /// A directory with so many starts, whose ids are their numbers.
    fn started(dir: &Path, times: usize) -> BootHistory {
        let marks = (1..times as u64).rev().map(RandomId).collect();
        BootHistory { number: times as u64 - 1, ids: marks }.write(dir).unwrap();
        BootHistory::begin(dir, RandomId(times as u64)).unwrap()
    }

    #[test]
    fn every_start_can_be_proved_however_long_ago_and_the_latest_are_told_unasked() {
        let dir = tempfile::tempdir().unwrap();
        let times = 3 * MAX_STARTS;
        let starts = started(dir.path(), times);
        assert!((1..=times as u64).all(|number| starts.of(number) == Some(start(number, number))));
        let told: BootHistory = starts.latest_told().to_string().parse().unwrap();
        let oldest = (times - MAX_STARTS + 1) as u64;
        assert!(told.contains(start(oldest, oldest)) && !told.contains(start(oldest - 1, oldest - 1)));
        let text = starts.of(1).unwrap().to_string();
        assert_eq!(text.parse::<Boot>().unwrap(), start(1, 1));
        for text in ["", "1", "1 2", "x 00000000000000aa", "1 00000000000000aa,00000000000000bb"] {
            assert!(text.parse::<Boot>().is_err(), "{text}");
        }
    }

    #[test]
    fn marks_are_forgotten_only_when_every_member_knows_a_later_one() {
        let dir = tempfile::tempdir().unwrap();
        let times = 4 * MAX_STARTS;
        let mut starts = started(dir.path(), times);
        for (known, kept) in [(1, times), (times / 3, times), (times, MAX_STARTS)] {
            starts.forget_before(known as u64, dir.path()).unwrap();
            assert_eq!(starts.ids.len(), kept, "{known} is known");
        }
        let starts = BootHistory::begin(dir.path(), RandomId(0)).unwrap();
        assert_eq!(starts.latest(), start(times as u64 + 1, 0));
        let oldest = (times - MAX_STARTS + 1) as u64;
        assert!(starts.contains(start(oldest, oldest)) && !starts.contains(start(oldest - 1, oldest - 1)));
    }

    #[test]
    fn starts_are_read_back_from_their_text_and_nothing_else_is() {
        for text in ["1 00000000000000aa", "7 00000000000000aa,00000000000000bb"] {
            assert_eq!(text.parse::<BootHistory>().unwrap().to_string(), text);
        }
        let many = format!("9999 {}", vec!["00000000000000aa"; MAX_STARTS + 1].join(","));
        for text in
            ["", "1", "1 ", "0 00000000000000aa", "1 00000000000000aa,00000000000000bb", "x 00000000000000aa", &many]
        {
            assert!(text.parse::<BootHistory>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_newer_format_and_a_damaged_file_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(STARTS);
        fs::write(&file, r#"{"format":2,"whatever":"it holds"}"#).unwrap();
        let refused = BootHistory::begin(dir.path(), RandomId(1));
        assert!(matches!(refused, Err(DataDirError::Newer { path, format: 2, .. }) if path == file));
        for damaged in ["", "{", r#"{"format":1,"number":0,"marks":["00000000000000aa"]}"#] {
            fs::write(&file, damaged).unwrap();
            assert!(
                matches!(BootHistory::begin(dir.path(), RandomId(1)), Err(DataDirError::Damaged { .. })),
                "{damaged}"
            );
        }
    }
}
