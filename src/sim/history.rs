//! What clients saw of one key, and whether it is linearizable.
//!
//! The search is that of Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with Lowe's memory of
//! visited configurations, "Testing for Linearizability" (2017). Each key is an object of its own, so histories
//! are checked a key at a time (Herlihy and Wing, 1990: linearizability is local).

use std::collections::HashSet;
use std::hash::Hash;

/// An operation on an object whose state is `S`.
pub trait Operation<S> {
    /// The state after the operation, if it can have had the result that the client saw when it takes place in
    /// `state`. An operation whose result is unknown can take place in any state.
    fn apply(&self, state: &S) -> Option<S>;
}

/// An operation with the time between its call and its return.
#[derive(Clone, Debug)]
pub struct Span<O> {
    /// When it was called.
    pub called: u64,
    /// When it returned, at or after `called`; None when it never did: it may take place any time after the
    /// call, or never.
    pub returned: Option<u64>,
    /// The operation with its result.
    pub operation: O,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every result.
    Linearizable,
    /// There is none.
    Violation,
    /// The search was given up after so many configurations.
    Undecided,
}

/// Looks for an order of the operations that explains what everybody saw, beginning with the state `initial`,
/// and visits at most `max_configurations`.
pub fn check<S, O>(history: &[Span<O>], initial: S, max_configurations: usize) -> Verdict
where
    S: Clone + Eq + Hash,
    O: Operation<S>,
{
    let mut done: Vec<_> = history.iter().filter(|span| span.returned.is_some()).collect();
    done.sort_by_key(|span| span.called);
    let open: Vec<_> = history.iter().filter(|span| span.returned.is_none()).collect();

    let start = Configuration { low: 0, above: Vec::new(), open_used: Vec::new(), state: initial };
    let mut visited = HashSet::from([start.clone()]);
    let mut stack = vec![start];
    while let Some(configuration) = stack.pop() {
        if configuration.low == done.len() {
            return Verdict::Linearizable;
        }
        if visited.len() > max_configurations {
            return Verdict::Undecided;
        }
        // Whatever takes place next was called before any operation that is not in the order yet returned.
        let mut earliest_return = u64::MAX;
        let mut candidates = Vec::new();
        for (place, span) in done.iter().enumerate().skip(configuration.low) {
            if span.called > earliest_return {
                break;
            }
            if !configuration.above.contains(&place) {
                earliest_return = earliest_return.min(span.returned.expect("it is done"));
                candidates.push(place);
            }
        }
        for (place, span) in open.iter().enumerate() {
            if span.called <= earliest_return && !configuration.open_used.contains(&place) {
                let Some(state) = span.operation.apply(&configuration.state) else { continue };
                if state == configuration.state {
                    continue; // whatever can follow it can do without it
                }
                let mut next = configuration.clone();
                next.state = state;
                next.open_used.push(place);
                next.open_used.sort_unstable();
                if visited.insert(next.clone()) {
                    stack.push(next);
                }
            }
        }
        for &place in candidates.iter().rev() {
            if done[place].called > earliest_return {
                continue;
            }
            let Some(state) = done[place].operation.apply(&configuration.state) else { continue };
            let next = configuration.with(place, state);
            if visited.insert(next.clone()) {
                stack.push(next);
            }
        }
    }
    Verdict::Violation
}

/// A set of operations put in order, and the state they lead to.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration<S> {
    /// All finished operations before this place are in the order.
    low: usize,
    /// Those after it that are too, ascending.
    above: Vec<usize>,
    /// Operations without a result that are, ascending.
    open_used: Vec<usize>,
    state: S,
}

impl<S: Clone> Configuration<S> {
    fn with(&self, place: usize, state: S) -> Self {
        let mut above = self.above.clone();
        above.insert(above.partition_point(|other| *other < place), place);
        let run = above.iter().enumerate().take_while(|(offset, other)| **other == self.low + offset).count();
        above.drain(..run);
        Self { low: self.low + run, above, open_used: self.open_used.clone(), state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A register that holds a number.
    #[derive(Clone, Debug)]
    enum Register {
        Write(u8),
        Read(u8),
    }

    impl Operation<u8> for Register {
        fn apply(&self, state: &u8) -> Option<u8> {
            match self {
                Self::Write(value) => Some(*value),
                Self::Read(seen) => (seen == state).then_some(*state),
            }
        }
    }

    fn span(called: u64, returned: impl Into<Option<u64>>, operation: Register) -> Span<Register> {
        Span { called, returned: returned.into(), operation }
    }

    fn verdict(history: &[Span<Register>]) -> Verdict {
        check(history, 0, 10_000)
    }

    #[test]
    fn a_read_that_overlaps_a_write_may_see_either_value() {
        let write = span(0, 10, Register::Write(1));
        assert_eq!(verdict(&[write.clone(), span(5, 6, Register::Read(0))]), Verdict::Linearizable);
        assert_eq!(verdict(&[write, span(5, 6, Register::Read(1))]), Verdict::Linearizable);
    }

    #[test]
    fn a_read_after_a_write_returned_must_see_it() {
        let stale = [span(0, 10, Register::Write(1)), span(11, 12, Register::Read(0))];
        assert_eq!(verdict(&stale), Verdict::Violation);
    }

    #[test]
    fn a_reader_never_sees_an_older_value_after_a_newer_one() {
        let back = [span(0, 10, Register::Write(1)), span(1, 2, Register::Read(1)), span(3, 4, Register::Read(0))];
        assert_eq!(verdict(&back), Verdict::Violation);
    }

    #[test]
    fn a_write_without_an_answer_may_take_place_late_or_never_but_only_once() {
        let lost = span(0, None, Register::Write(1));
        let other = span(3, 4, Register::Write(2));
        let late = [lost.clone(), span(1, 2, Register::Read(0)), other.clone(), span(5, 6, Register::Read(1))];
        assert_eq!(verdict(&late), Verdict::Linearizable);
        assert_eq!(verdict(&[lost.clone(), span(1, 2, Register::Read(0))]), Verdict::Linearizable);
        let twice = [lost, span(1, 2, Register::Read(1)), other, span(5, 6, Register::Read(1))];
        assert_eq!(verdict(&twice), Verdict::Violation);
    }

    #[test]
    fn an_operation_cannot_take_place_before_its_call() {
        let early = [span(0, 1, Register::Read(1)), span(2, None, Register::Write(1))];
        assert_eq!(verdict(&early), Verdict::Violation);
    }
}
