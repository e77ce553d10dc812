//! What may go wrong in a run, and how often.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// How often faults that come by chance are drawn.
pub const TICK: Duration = Duration::from_millis(10);

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
        let mut up_to =
            |most: u64| if rng.next_u64().is_multiple_of(4) { 0 } else { (rng.next_u64() % (most + 1)) as u32 };
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
