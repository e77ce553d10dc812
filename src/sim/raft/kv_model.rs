//! The store as its clients see it: what each operation does to the state of one key, and which answers explain it.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::kv::command::{Condition, Operation, Outcome};
use crate::sim::history::{self, Span, Verdict};

/// What a client asked about one key, and what it was told.
#[derive(Clone, Debug)]
pub(super) enum KvOperation {
    Write(Write, Option<Told>),
    Get(Option<Option<Bytes>>),
}

/// A write as the clients here make it: no condition is on a version.
#[derive(Clone, Debug)]
pub(super) struct Write {
    /// The value that it sets; None deletes the key.
    pub(super) value: Option<Bytes>,
    /// The state in which it takes effect, if not in any.
    pub(super) expected: Option<Option<Bytes>>,
}

impl Write {
    pub(super) fn operation(&self, key: Bytes) -> Operation {
        let condition = self.expected.clone().map(|state| state.map_or(Condition::Absent, Condition::Value));
        match self.value.clone() {
            Some(value) => Operation::Set { key, value, condition },
            None => Operation::Delete { key, condition },
        }
    }

    fn takes_effect(&self, state: &Option<Bytes>) -> bool {
        self.expected.as_ref().is_none_or(|expected| expected == state)
    }
}

/// What a client was told of a write that was taken.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Set,
    /// Whether it existed is left out: see `without_unseen_writes`.
    Deleted,
    /// Its condition did not hold in this state.
    Refused(Option<Bytes>),
    /// Its condition did not hold in a state that is not told.
    RefusedEarlier,
}

impl Told {
    /// None when the write was refused on arrival, or is none of a client's.
    pub(super) fn new(outcome: &Outcome) -> Option<Self> {
        match outcome {
            Outcome::Set { .. } => Some(Self::Set),
            Outcome::Deleted { .. } => Some(Self::Deleted),
            Outcome::ConditionFailed { current } => {
                Some(Self::Refused(current.as_ref().map(|current| current.value.clone())))
            }
            Outcome::FailedEarlier => Some(Self::RefusedEarlier),
            Outcome::Forgotten | Outcome::NameForgotten | Outcome::NameTaken | Outcome::ClusterInitialized { .. } => {
                None
            }
        }
    }
}

/// Whether what clients saw of a key is linearizable.
pub(super) fn check(key: &Bytes, spans: &[Span<KvOperation>]) -> Result<(), String> {
    match history::check(&without_unseen_writes(spans), None, 30_000) {
        Verdict::Linearizable => Ok(()),
        Verdict::Violation => {
            let mut lines: Vec<_> = spans
                .iter()
                .map(|s| format!("{:>10} {:>10?} {:?}", s.called, s.returned.unwrap_or(u64::MAX), s.operation))
                .collect();
            lines.sort();
            Err(format!("linearizability: no order explains {key:?}:\n{}", lines.join("\n")))
        }
        Verdict::Undecided => Err(format!("linearizability: {key:?} is undecided")),
    }
}

/// The history without the writes that got no answer and whose value nobody ever saw. An order that explains the
/// rest exists with them if and only if it exists without: nothing but an overwriting operation can come between
/// such a write and the next overwriting one. It saves the search from trying them at every place.
fn without_unseen_writes(spans: &[Span<KvOperation>]) -> Vec<Span<KvOperation>> {
    let mut seen = BTreeSet::new();
    for span in spans {
        match &span.operation {
            KvOperation::Get(value) => seen.extend(value.clone().flatten()),
            KvOperation::Write(write, told) => {
                if let Some(Told::Refused(current)) = told {
                    seen.extend(current.clone());
                }
                // A compare-and-set sees the value it expects.
                seen.extend(write.expected.clone().flatten());
            }
        }
    }
    let matters = |span: &&Span<KvOperation>| match &span.operation {
        KvOperation::Write(Write { value: Some(value), .. }, None) => seen.contains(value),
        // It failed in a state that nobody tells, which may be that of a write left out here; and it changed nothing.
        KvOperation::Write(_, Some(Told::RefusedEarlier)) => false,
        KvOperation::Write(..) | KvOperation::Get(_) => true,
    };
    spans.iter().filter(matters).cloned().collect()
}

/// The state of one key is its value. Values are unique, so versions would add nothing.
impl history::Operation<Option<Bytes>> for KvOperation {
    fn apply(&self, state: &Option<Bytes>) -> Option<Option<Bytes>> {
        match self {
            Self::Get(seen) => (seen.as_ref().is_none_or(|seen| seen == state)).then(|| state.clone()),
            Self::Write(write, told) if write.takes_effect(state) => {
                let fits = match told {
                    None => true,
                    Some(Told::Set) => write.value.is_some(),
                    Some(Told::Deleted) => write.value.is_none(),
                    Some(Told::Refused(_) | Told::RefusedEarlier) => false,
                };
                fits.then(|| write.value.clone())
            }
            Self::Write(_, told) => {
                let fits = match told {
                    None | Some(Told::RefusedEarlier) => true,
                    Some(Told::Refused(found)) => found == state,
                    Some(Told::Set | Told::Deleted) => false,
                };
                fits.then(|| state.clone())
            }
        }
    }
}
