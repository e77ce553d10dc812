//! Many deadlines on one timer of a machine.

use std::collections::BTreeMap;

use crate::protocol::{Effects, Protocol, Time};

/// Deadlines by what they are of, and the timer that rings at the earliest. It may ring too early, when that one was removed.
#[derive(Clone, Debug)]
pub struct Deadlines<K, T> {
    timer: T,
    by_key: BTreeMap<K, Time>,
    rings_at: Option<Time>,
}

impl<K: Copy + Ord, T: Copy> Deadlines<K, T> {
    /// None yet, on this timer.
    pub const fn on(timer: T) -> Self {
        Self { timer, by_key: BTreeMap::new(), rings_at: None }
    }

    /// Sets the deadline of `key`, or moves it.
    pub fn set<P: Protocol<Timer = T>>(&mut self, now: Time, key: K, at: Time, out: &mut Effects<P>) {
        self.by_key.insert(key, at);
        if self.rings_at.is_none_or(|rings_at| at < rings_at) {
            self.ring(now, at, out);
        }
    }

    /// Removes the deadline of `key`.
    pub fn remove(&mut self, key: K) {
        self.by_key.remove(&key);
    }

    /// Lets the timer ring as soon as everything queued has been stepped, whatever is due.
    pub fn ring_soon<P: Protocol<Timer = T>>(&mut self, out: &mut Effects<P>) {
        self.ring(Time::ZERO, Time::ZERO, out);
    }

    /// The timer has rung: takes out what is due, in the order of the keys. Then [`Deadlines::rearm`].
    pub fn take_due(&mut self, now: Time) -> Vec<K> {
        self.by_key.extract_if(.., |_, at| *at <= now).map(|(key, _)| key).collect()
    }

    /// Sets the timer for the earliest of those that are left.
    pub fn rearm<P: Protocol<Timer = T>>(&mut self, now: Time, out: &mut Effects<P>) {
        match self.by_key.values().min() {
            Some(&earliest) => self.ring(now, earliest, out),
            None => self.rings_at = None,
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
    use std::time::Duration;

    use super::*;
    use crate::protocol::testing::Bench;
    use crate::protocol::{Input, NoRecord};

    /// Tells which of its deadlines has passed, and passes on what comes late as due.
    struct Alarms(Deadlines<char, ()>);

    impl Protocol for Alarms {
        type Peer = u8;
        type Message = char;
        type Command = (char, u64);
        type Timer = ();
        type Record = NoRecord;
        type Event = char;

        fn step(&mut self, now: Time, input: Input<Self>, out: &mut Effects<Self>) {
            match input {
                Input::Requested((key, seconds)) => self.0.set(now, key, now + Duration::from_secs(seconds), out),
                Input::Received { message: key, .. } => self.0.remove(key),
                Input::Elapsed(()) => {
                    self.0.take_due(now).into_iter().for_each(|key| out.emit(key));
                    self.0.rearm(now, out);
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
        let mut bench = Bench::start(Alarms(Deadlines::on(())));
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
}
