//! Many deadlines on one timer of a machine.

use crate::protocol::{Effects, Protocol, Time};

/// The timer of deadlines that stand beside what they are of. It rings at the earliest, or before, when that one is gone or was
/// moved: most deadlines never pass, and cost a comparison.
#[derive(Clone, Debug)]
pub struct Deadlines<T> {
    timer: T,
    rings_at: Option<Time>,
}

impl<T: Copy> Deadlines<T> {
    /// No deadline yet, on this timer.
    pub const fn on(timer: T) -> Self {
        Self { timer, rings_at: None }
    }

    /// There is a deadline at `at`.
    pub fn set<P: Protocol<Timer = T>>(&mut self, now: Time, at: Time, out: &mut Effects<P>) {
        if self.rings_at.is_none_or(|rings_at| at < rings_at) {
            self.ring(now, at, out);
        }
    }

    /// Lets the timer ring as soon as everything queued has been stepped, whatever is due.
    pub fn ring_soon<P: Protocol<Timer = T>>(&mut self, out: &mut Effects<P>) {
        self.ring(Time::ZERO, Time::ZERO, out);
    }

    /// The timer has rung: which of all `deadlines` are due, in their order. It is set for the earliest of the others.
    pub fn take_due<P: Protocol<Timer = T>, K>(
        &mut self,
        now: Time,
        deadlines: impl Iterator<Item = (K, Time)>,
        out: &mut Effects<P>,
    ) -> Vec<K> {
        let (due, left): (Vec<_>, Vec<_>) = deadlines.partition(|(_, at)| *at <= now);
        self.rearm(now, left.into_iter().map(|(_, at)| at), out);
        due.into_iter().map(|(key, _)| key).collect()
    }

    /// These are all that are left: the timer is set for the earliest of them, whatever it was set for.
    pub fn rearm<P: Protocol<Timer = T>>(
        &mut self,
        now: Time,
        deadlines: impl Iterator<Item = Time>,
        out: &mut Effects<P>,
    ) {
        self.rings_at = None;
        if let Some(earliest) = deadlines.min() {
            self.ring(now, earliest, out);
        }
    }

    fn ring<P: Protocol<Timer = T>>(&mut self, now: Time, at: Time, out: &mut Effects<P>) {
        self.rings_at = Some(at);
        let left = at.since(now);
        out.set_timer(self.timer, left..=left);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::protocol::testing::Bench;
    use crate::protocol::{Input, NoRecord};

    /// Tells which of its deadlines has passed.
    struct Alarms {
        by_key: BTreeMap<char, Time>,
        deadlines: Deadlines<()>,
    }

    impl Alarms {
        fn start() -> Bench<Self> {
            Bench::start(Self { by_key: BTreeMap::new(), deadlines: Deadlines::on(()) })
        }
    }

    impl Protocol for Alarms {
        type Peer = u8;
        type Message = char;
        type Command = (char, u64);
        type Timer = ();
        type Record = NoRecord;
        type Event = char;

        fn step(&mut self, now: Time, input: Input<Self>, out: &mut Effects<Self>) {
            match input {
                Input::Requested((key, seconds)) => {
                    let at = now + Duration::from_secs(seconds);
                    self.by_key.insert(key, at);
                    self.deadlines.set(now, at, out);
                }
                Input::Received { message: key, .. } => drop(self.by_key.remove(&key)),
                Input::Elapsed(()) => {
                    let all = self.by_key.iter().map(|(key, at)| (*key, *at));
                    for key in self.deadlines.take_due(now, all, out) {
                        self.by_key.remove(&key);
                        out.emit(key);
                    }
                }
                Input::Started | Input::Synced { .. } => {}
            }
        }
    }

    /// In how many seconds the timer rings, if it is set anew.
    fn set(bench: &mut Bench<Alarms>, key: char, seconds: u64) -> Option<u64> {
        let did = bench.step(Input::Requested((key, seconds)));
        did.timers.get(&()).map(|length| length.end().as_secs())
    }

    #[test]
    fn the_timer_is_set_for_the_earliest_and_no_oftener_than_it_must_be() {
        let mut bench = Alarms::start();
        assert_eq!(set(&mut bench, 'b', 5), Some(5));
        assert_eq!(set(&mut bench, 'a', 7), None);
        assert_eq!(set(&mut bench, 'c', 5), None);
        assert_eq!(set(&mut bench, 'd', 3), Some(3));
        bench.step(Input::Received { from: 0, message: 'd' });
        bench.pass(Duration::from_secs(3));
        let early = bench.fire(());
        assert_eq!((early.told, early.timers[&()].end().as_secs()), (vec![], 2));
        assert_eq!(set(&mut bench, 'b', 9), None, "moved");
        bench.pass(Duration::from_secs(4));
        assert_eq!(bench.fire(()).told, ['a', 'c']);
        bench.pass(Duration::from_secs(5));
        let last = bench.fire(());
        assert_eq!((last.told, last.timers.len()), (vec!['b'], 0));
        assert_eq!(set(&mut bench, 'b', 1), Some(1), "it does not run any more");
    }

    #[test]
    fn what_is_due_is_taken_and_the_timer_rings_again_for_what_is_left_and_for_what_is_set_later() {
        let mut bench = Alarms::start();
        set(&mut bench, 'a', 1);
        set(&mut bench, 'b', 5);
        bench.pass(Duration::from_secs(1));
        let first = bench.fire(());
        assert_eq!((first.told, first.timers[&()].end().as_secs()), (vec!['a'], 4));
        assert_eq!(set(&mut bench, 'c', 2), Some(2));
        bench.pass(Duration::from_secs(4));
        assert_eq!(bench.fire(()).told, ['b', 'c']);
        assert_eq!(set(&mut bench, 'd', 9), Some(9), "nothing was left");
    }
}
