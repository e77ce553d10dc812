//! The store as its clients see it: what each operation does to the state of one key, and which answers explain it.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::kv::command::{Condition, Operation, Outcome};
use crate::sim::history::{self, Span, Verdict};

/// What a client asked about one key, and what it was told.
#[derive(Clone, Debug)]
pub(super) enum KvOperation {
    Write(Operation, Option<Outcome>),
    Get(Option<Option<Bytes>>),
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

/// Whether the condition of a write holds in `state`.
fn holds(command: &Operation, state: &Option<Bytes>) -> bool {
    let (Operation::Set { condition, .. } | Operation::Delete { condition, .. }) = command else {
        unreachable!("clients found no clusters")
    };
    match condition {
        None => true,
        Some(Condition::Absent) => state.is_none(),
        Some(Condition::Value(value)) => state.as_ref() == Some(value),
        Some(Condition::Version(_)) => unreachable!("clients here do not use versions"),
    }
}

/// What a write that was answered tells of the state it found.
enum Observed {
    /// Its condition did not hold in this state.
    Refused(Option<Bytes>),
    /// Its condition did not hold in a state that is not told.
    RefusedEarlier,
    /// It took effect.
    Done,
}

fn observed(seen: &Option<Outcome>) -> Option<Observed> {
    Some(match seen.as_ref()? {
        Outcome::ConditionFailed { current } => {
            Observed::Refused(current.as_ref().map(|current| current.value.clone()))
        }
        Outcome::FailedEarlier => Observed::RefusedEarlier,
        Outcome::Set { .. } | Outcome::Deleted { .. } => Observed::Done,
        Outcome::Forgotten | Outcome::NameForgotten | Outcome::NameTaken | Outcome::ClusterInitialized { .. } => {
            unreachable!("refused on arrival")
        }
    })
}

/// The history without the writes that got no answer and whose value nobody ever saw. An order that explains the
/// rest exists with them if and only if it exists without: nothing but an overwriting operation can come between
/// such a write and the next overwriting one. It saves the search from trying them at every place.
fn without_unseen_writes(spans: &[Span<KvOperation>]) -> Vec<Span<KvOperation>> {
    let mut seen = BTreeSet::new();
    for span in spans {
        match &span.operation {
            KvOperation::Get(value) => seen.extend(value.clone().flatten()),
            KvOperation::Write(command, outcome) => {
                if let Some(Observed::Refused(current)) = observed(outcome) {
                    seen.extend(current);
                }
                // A compare-and-set sees the value it expects.
                if let Operation::Set { condition: Some(Condition::Value(expected)), .. } = command {
                    seen.insert(expected.clone());
                }
            }
        }
    }
    let matters = |span: &&Span<KvOperation>| match &span.operation {
        KvOperation::Write(Operation::Set { value, .. }, None) => seen.contains(value),
        // It failed in a state that nobody tells, which may be that of a write left out here; and it changed nothing.
        KvOperation::Write(_, Some(Outcome::FailedEarlier)) => false,
        KvOperation::Write(..) | KvOperation::Get(_) => true,
    };
    spans.iter().filter(matters).cloned().collect()
}

/// The state of one key is its value. Values are unique, so versions would add nothing.
impl history::Operation<Option<Bytes>> for KvOperation {
    fn apply(&self, state: &Option<Bytes>) -> Option<Option<Bytes>> {
        match self {
            Self::Get(seen) => (seen.as_ref().is_none_or(|seen| seen == state)).then(|| state.clone()),
            Self::Write(command, seen) => {
                let (after, fits) = match (command, holds(command, state)) {
                    (_, false) => {
                        let fits = observed(seen).is_none_or(|observed| match observed {
                            Observed::Refused(found) => found == *state,
                            Observed::RefusedEarlier => true,
                            Observed::Done => false,
                        });
                        (state.clone(), fits)
                    }
                    (Operation::Set { value, .. }, true) => {
                        (Some(value.clone()), matches!(seen, None | Some(Outcome::Set { .. })))
                    }
                    // Whether it existed is left out: see `without_unseen_writes`.
                    (Operation::Delete { .. }, true) => (None, matches!(seen, None | Some(Outcome::Deleted { .. }))),
                    (Operation::InitCluster { .. }, true) => unreachable!("clients found no clusters"),
                };
                fits.then_some(after)
            }
        }
    }
}
