//! A measurement: a warm-up, then the measured time, with a live line on a terminal, and an early end on a signal.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::signals::{Signal, Signals};
use super::{Failure, Output, args};

/// How long to measure.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Period {
    /// How long to measure
    #[arg(long, short, default_value = "10s", value_parser = args::duration)]
    pub duration: Duration,
    /// How long to run before measuring
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = args::duration_or_zero)]
    pub warm_up: Duration,
}

/// So many a second; nothing, where no time was measured.
pub fn per_second(count: f64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count / seconds)
}

/// Seconds as they are told: to the millisecond.
pub fn rounded_seconds(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// Nanoseconds as they are told: in microseconds, to a tenth.
pub fn microseconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 100.0).round() / 10.0
}

/// A measurement that is over.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Seconds measured.
    pub seconds: f64,
    /// The signal that ended it early.
    pub signal: Option<u8>,
}

impl Period {
    /// Waits for the warm-up, calls `start`, and waits for the measured time. On a terminal a line tells, each second, how
    /// many `unit` a second there were, by the count that `done` gives; SIGUSR1 prints the same as an interval.
    ///
    /// # Errors
    /// When a signal cannot be handled or an interval cannot be printed.
    pub async fn measure(
        &self,
        unit: &str,
        output: &Output,
        start: impl FnOnce(),
        done: impl Fn() -> u64,
    ) -> Result<Measured, Failure> {
        let mut signals = Signals::new()?;
        let live = Live(std::io::stderr().is_terminal() && !output.is_json());
        let warm = tokio::time::sleep(self.warm_up);
        tokio::pin!(warm);
        live.show("warming up");
        loop {
            tokio::select! {
                () = &mut warm => break,
                signal = signals.next() => if let Signal::Stop(signal) = signal {
                    live.show("");
                    return Ok(Measured { seconds: 0.0, signal: Some(signal) });
                },
            }
        }
        start();
        let started = Instant::now();
        let end = tokio::time::sleep(self.duration); // however long: it does not overflow
        tokio::pin!(end);
        let mut tick = tokio::time::interval_at(started + Duration::from_secs(1), Duration::from_secs(1));
        let (mut before, mut since) = (0, started);
        let signal = loop {
            let asked = tokio::select! {
                () = &mut end => break None,
                _ = tick.tick(), if live.0 => false,
                signal = signals.next() => match signal {
                    Signal::Stop(signal) => break Some(signal),
                    Signal::Interval => true,
                },
            };
            let count = done();
            let rate = (count - before) as f64 / since.elapsed().as_secs_f64();
            (before, since) = (count, Instant::now());
            let seconds = started.elapsed().as_secs_f64();
            if asked {
                let interval =
                    json!({ "event": "interval", "seconds": seconds, "ops": count, "ops_per_s": rate.round() });
                output.result(&interval, || format!("{seconds:.1} s: {count} {unit}, {rate:.0}/s"))?;
            } else {
                live.show(&format!("{seconds:>5.0} of {:.0} s  {rate:>9.0} {unit}/s", self.duration.as_secs_f64()));
            }
        };
        live.show("");
        Ok(Measured { seconds: started.elapsed().as_secs_f64(), signal })
    }
}

/// A line on a terminal that is written over and over.
struct Live(bool);

impl Live {
    fn show(&self, text: &str) {
        if self.0 {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}"); // a terminal that went away is no failure
        }
    }
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)];

/// Adds `{prefix}p50_us` to `{prefix}p999_us` and `{prefix}max_us` to a JSON object: the quantiles of latencies counted in
/// nanoseconds, in microseconds to a tenth; null when there are none.
pub fn quantiles(into: &mut Value, prefix: &str, latency: &Histogram<u64>) {
    // Nothing measured is no latency of zero.
    let micros = |nanoseconds: u64| match latency.len() {
        0 => Value::Null,
        _ => json!(microseconds(nanoseconds)),
    };
    for (name, quantile) in QUANTILES {
        into[format!("{prefix}{name}_us")] = micros(latency.value_at_quantile(quantile));
    }
    into[format!("{prefix}max_us")] = micros(latency.max());
}

/// The quantiles for people: `p50 25.1 us  p90 ...  max 1.20 ms`.
pub fn quantiles_text(latency: &Histogram<u64>) -> String {
    if latency.is_empty() {
        return "no latency was measured".to_owned();
    }
    let each = QUANTILES.iter().map(|(name, quantile)| (*name, latency.value_at_quantile(*quantile)));
    let each = each.chain([("max", latency.max())]);
    each.map(|(name, value)| format!("{name} {}", time(value))).collect::<Vec<_>>().join("  ")
}

/// A time as people read it: three digits and a unit.
pub fn time(nanoseconds: u64) -> String {
    let (value, unit) = match nanoseconds as f64 {
        few if few < 1e6 => (few / 1e3, "us"),
        some if some < 1e9 => (some / 1e6, "ms"),
        many => (many / 1e9, "s"),
    };
    let digits = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.digits$} {unit}")
}

/// Columns that the longest bar of a drawing has.
const WIDTH: usize = 50;

/// Draws latencies (in nanoseconds) as bars, one a range; each range is up to a half longer than the one before. Ranges
/// before the first and after the last latency are left out.
pub fn draw(latency: &Histogram<u64>) -> Vec<String> {
    const EDGES: [u64; 4] = [10, 15, 20, 30]; // and so on, times ten, times a hundred ...
    const LAST: [u64; 2] = [50, 70];
    let edges: Vec<u64> =
        (0..9).flat_map(|power| EDGES.iter().chain(&LAST).map(move |edge| edge * 10u64.pow(power + 2))).collect();
    let ends = edges.iter().copied().chain([u64::MAX]);
    let mut rows: Vec<_> = [0].iter().chain(&edges).copied().zip(ends).map(|(from, to)| (from, to, 0)).collect();
    for recorded in latency.iter_recorded() {
        let row = edges.partition_point(|edge| *edge <= recorded.value_iterated_to());
        rows[row].2 += recorded.count_at_value();
    }
    let first = rows.iter().position(|row| row.2 > 0);
    let last = rows.iter().rposition(|row| row.2 > 0);
    let (Some(first), Some(last)) = (first, last) else { return Vec::new() };
    let most = rows.iter().map(|row| row.2).max().unwrap_or(1);
    let total = latency.len() as f64;
    let draw = |&(from, to, count): &(u64, u64, u64)| {
        let eighths = (count as f64 / most as f64 * (WIDTH * 8) as f64).ceil() as usize;
        let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        let bar = "█".repeat(eighths / 8) + part;
        let to = if to == u64::MAX { "".to_owned() } else { time(to) };
        format!("{:>8} - {to:<8} {:>6.2} %  {bar}", time(from), count as f64 / total * 100.0).trim_end().to_owned()
    };
    rows[first..=last].iter().map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(100, 120_000_000_000, 3).unwrap();
        values.iter().for_each(|value| histogram.record(*value).unwrap());
        histogram
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        for (nanoseconds, text) in [
            (1_234, "1.23 us"),
            (12_345, "12.3 us"),
            (123_456, "123 us"),
            (1_500_000, "1.50 ms"),
            (2_000_000_000, "2.00 s"),
        ] {
            assert_eq!(time(nanoseconds), text);
        }
    }

    #[test]
    fn every_latency_is_in_one_bar_and_the_bars_tell_how_many() {
        let latency = histogram(&[12_000, 12_500, 18_000, 45_000]);
        let rows = draw(&latency);
        assert_eq!(rows.len(), 4, "{rows:#?}");
        assert!(rows[0].starts_with(" 10.0 us - 15.0 us   50.00 %  ██"), "{}", rows[0]);
        assert!(rows[2].contains("0.00 %") && rows[3].contains("25.00 %"), "{rows:#?}");
        assert_eq!(rows[0].matches('█').count(), WIDTH);
        assert!(draw(&histogram(&[])).is_empty());
        let many = histogram(&(1..10_000).map(|number| number * 997).collect::<Vec<_>>());
        let share = |row: &String| row[20..27].trim().parse::<f64>().unwrap();
        let shares: f64 = draw(&many).iter().map(share).sum();
        assert!((shares - 100.0).abs() < 0.2, "{shares}");
    }

    #[test]
    fn quantiles_are_in_microseconds() {
        let mut json = json!({});
        quantiles(&mut json, "", &histogram(&[25_000; 100]));
        assert_eq!((&json["p50_us"], &json["max_us"]), (&json!(25.0), &json!(25.0)));
        assert!(quantiles_text(&histogram(&[25_000; 100])).starts_with("p50 25.0 us  p90 25.0 us"));
    }

    #[test]
    fn nothing_measured_is_not_zero() {
        assert!(!quantiles_text(&histogram(&[])).contains('0'));
        assert_eq!((per_second(0.0, 0.0), per_second(0.0, 2.0), per_second(3.0, 2.0)), (None, Some(0.0), Some(1.5)));
    }
}
