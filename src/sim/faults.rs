//! What may go wrong in a run, and how often.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// How often faults that come by chance are drawn.
pub const TICK: Duration = Duration::from_millis(10);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Messages are lost.
    Loss,
    /// Messages arrive twice.
    Dup,
    /// Messages travel long, and overtake each other.
    Delay,
    /// Links are cut, in one direction or both, and nodes cut off.
    Partition,
    /// Nodes stop and lose what is not durable.
    Crash,
    /// Nodes stop and go on as if nothing had been.
    Pause,
    /// Disks are slow.
    Disk,
    /// What a scenario does to its nodes by itself, under this name.
    Own(&'static str),
}

impl Kind {
    /// Those that happen to any protocol.
    pub const ALL: [Self; 7] =
        [Self::Loss, Self::Dup, Self::Delay, Self::Partition, Self::Crash, Self::Pause, Self::Disk];

    /// Its name at the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Dup => "dup",
            Self::Delay => "delay",
            Self::Partition => "partition",
            Self::Crash => "crash",
            Self::Pause => "pause",
            Self::Disk => "disk",
            Self::Own(name) => name,
        }
    }

    /// Its place in [`Kind::ALL`], unless it is a scenario's own.
    const fn place(self) -> Option<usize> {
        match self {
            Self::Loss => Some(0),
            Self::Dup => Some(1),
            Self::Delay => Some(2),
            Self::Partition => Some(3),
            Self::Crash => Some(4),
            Self::Pause => Some(5),
            Self::Disk => Some(6),
            Self::Own(_) => None,
        }
    }
}

/// How often faults of each kind happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those of [`Kind::ALL`], in that order: some are counted with every message.
    shared: [u64; Kind::ALL.len()],
    own: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// One more.
    pub fn count(&mut self, kind: Kind) {
        *match kind.place() {
            Some(place) => &mut self.shared[place],
            None => self.own.entry(kind.as_str()).or_default(),
        } += 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.shared.iter_mut().zip(&other.shared) {
            *count += more;
        }
        for (name, more) in &other.own {
            *self.own.entry(name).or_default() += more;
        }
    }

    /// How often faults of this kind happened.
    pub fn of(&self, kind: Kind) -> u64 {
        match kind.place() {
            Some(place) => self.shared[place],
            None => self.own.get(kind.as_str()).copied().unwrap_or_default(),
        }
    }
}

/// Rates of faults. Probabilities are in millionths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Of a message to be lost.
    pub loss: u32,
    /// Of a message to arrive twice.
    pub duplication: u32,
    /// How long a message travels; what differs re-orders.
    pub delay: RangeInclusive<Duration>,
    /// A tick, of one link to be cut in one direction; of as many in both; of one node to be cut off.
    pub cut: u32,
    /// How long a cut lasts.
    pub cut_for: RangeInclusive<Duration>,
    /// A tick, of one node to crash and lose what it has not synced.
    pub crash: u32,
    /// Of a node to crash as soon as its disk has finished a write, which is when it has most to regret.
    pub crash_on_sync: u32,
    /// How long it stays down.
    pub down_for: RangeInclusive<Duration>,
    /// A tick, of one node to stop for a while and go on as if nothing had been.
    pub pause: u32,
    /// How long it stops.
    pub pause_for: RangeInclusive<Duration>,
    /// Of a disk write to be slow.
    pub slow_disk: u32,
}

impl Faults {
    /// A quiet local network and healthy disks.
    pub const fn none() -> Self {
        Self {
            loss: 0,
            duplication: 0,
            delay: Duration::from_micros(100)..=Duration::from_millis(2),
            cut: 0,
            cut_for: Duration::ZERO..=Duration::ZERO,
            crash: 0,
            crash_on_sync: 0,
            down_for: Duration::ZERO..=Duration::ZERO,
            pause: 0,
            pause_for: Duration::ZERO..=Duration::ZERO,
            slow_disk: 0,
        }
    }

    /// Draws rates: each kind is absent in some runs and rare or frequent in others.
    pub fn draw(rng: &mut ChaCha8Rng) -> Self {
        let mut up_to = |most| draw_rate(rng, most);
        Self {
            loss: up_to(300_000),
            duplication: up_to(500_000),
            delay: Duration::from_micros(100)..=Duration::from_micros(500 + u64::from(up_to(500_000))),
            cut: up_to(30_000),
            cut_for: Duration::from_millis(50)..=Duration::from_secs(3),
            crash: up_to(10_000),
            crash_on_sync: up_to(50_000),
            down_for: Duration::from_millis(1)..=Duration::from_millis(1 + u64::from(up_to(3_000))),
            pause: up_to(10_000),
            pause_for: Duration::from_millis(10)..=Duration::from_millis(1500),
            slow_disk: up_to(100_000),
        }
    }
}

impl Faults {
    /// Only faults of some kinds, at the same rates.
    #[must_use]
    pub fn only(self, may_be: impl Fn(Kind) -> bool) -> Self {
        let none = Self::none();
        let keep = |kind: Kind, rate: u32| if may_be(kind) { rate } else { 0 };
        Self {
            loss: keep(Kind::Loss, self.loss),
            duplication: keep(Kind::Dup, self.duplication),
            delay: if may_be(Kind::Delay) { self.delay } else { none.delay },
            cut: keep(Kind::Partition, self.cut),
            crash: keep(Kind::Crash, self.crash),
            crash_on_sync: keep(Kind::Crash, self.crash_on_sync),
            pause: keep(Kind::Pause, self.pause),
            slow_disk: keep(Kind::Disk, self.slow_disk),
            ..self
        }
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |length: &Duration| length.as_secs_f64() * 1e3;
        write!(
            f,
            "loss {:.1} %, duplication {:.1} %, delay {:.1} to {:.1} ms, cuts {:.2} %, crashes {:.2} % and {:.1} % of disk \
             writes (down up to {:.0} ms), pauses {:.2} %, slow disk writes {:.1} %",
            percent(self.loss),
            percent(self.duplication),
            ms(self.delay.start()),
            ms(self.delay.end()),
            percent(self.cut),
            percent(self.crash),
            percent(self.crash_on_sync),
            ms(self.down_for.end()),
            percent(self.pause),
            percent(self.slow_disk),
        )
    }
}

/// A rate in percent.
pub fn percent(millionths: u32) -> f64 {
    f64::from(millionths) / 10_000.0
}

/// A rate in millionths: none in some runs, and up to `most` in others.
pub fn draw_rate(rng: &mut ChaCha8Rng, most: u64) -> u32 {
    if rng.next_u64().is_multiple_of(4) { 0 } else { (rng.next_u64() % (most + 1)) as u32 }
}

/// Whether something of that probability, in millionths, happens.
pub fn happens(rng: &mut ChaCha8Rng, millionths: u32) -> bool {
    millionths > 0 && rng.next_u64() % 1_000_000 < u64::from(millionths)
}

/// A length drawn from the range, to the microsecond.
pub fn draw_within(rng: &mut ChaCha8Rng, range: &RangeInclusive<Duration>) -> Duration {
    let spread = range.end().saturating_sub(*range.start()).as_micros() as u64;
    *range.start() + Duration::from_micros(rng.next_u64() % (spread + 1))
}

/// One of `items`.
pub fn pick<T: Copy>(rng: &mut ChaCha8Rng, items: &[T]) -> T {
    items[(rng.next_u64() % items.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_counted_for_itself() {
        let (own, other) = (Kind::Own("members"), Kind::Own("others"));
        let kinds: Vec<_> = Kind::ALL.into_iter().chain([own, other]).collect();
        for kind in &kinds {
            let mut tally = Tally::default();
            tally.count(*kind);
            tally.add(&tally.clone());
            assert!(kinds.iter().all(|of| tally.of(*of) == if of == kind { 2 } else { 0 }), "{kind:?}: {tally:?}");
        }
    }
}
