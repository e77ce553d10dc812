//! Argument types.

use std::ops::RangeInclusive;
use std::time::Duration;

pub use super::address::{address, node_address};

/// `150ms..300ms`: a range of durations.
///
/// # Errors
/// Says what a range looks like.
pub fn duration_range(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let explain = || format!("'{text}' is no range of durations such as 150ms..300ms");
    let (from, to) = text.split_once("..").ok_or_else(explain)?;
    let parse = |text| humantime::parse_duration(text).map_err(|_| explain());
    let (from, to) = (parse(from)?, parse(to)?);
    if from <= to {
        Ok(from..=to)
    } else {
        Err(format!("'{text}' ends before it begins: the shorter duration comes first"))
    }
}

/// `500ms`, `5s`, `2m`: a duration above zero.
///
/// # Errors
/// Says what a duration looks like.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration = duration_or_zero(text)?;
    if duration.is_zero() { Err("it must be above zero".to_owned()) } else { Ok(duration) }
}

/// `0s`, `500ms`, `5s`, `2m`: a duration.
///
/// # Errors
/// Says what a duration looks like.
pub fn duration_or_zero(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| format!("'{text}' is no duration such as 500ms, 5s or 2m"))
}

/// `64`, `64KiB`, `1MiB`, `1.5MB`: a number of bytes that this machine can address.
///
/// # Errors
/// Says what a size looks like.
pub fn size(text: &str) -> Result<usize, String> {
    let size = parse_size::parse_size(text).map_err(|_| format!("'{text}' is no size such as 512, 64KiB or 1MiB"))?;
    usize::try_from(size).map_err(|_| format!("'{text}' is more than this machine can address"))
}

/// A switch that a variable may set, too: `1`, `yes`, `true`, `on`, or `0`, `no`, `false`, `off` and nothing.
///
/// # Errors
/// Says what turns it on and off.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "yes" | "true" | "on" => Ok(true),
        "" | "0" | "no" | "false" | "off" => Ok(false),
        _ => Err("it is 1 or 0".to_owned()),
    }
}

/// The number of a port.
///
/// # Errors
/// Says which there are.
pub fn port(text: &str) -> Result<u16, String> {
    text.trim().parse().map_err(|_| "a port is a number from 0 to 65535".to_owned())
}

/// A number of things of which there must be one.
///
/// # Errors
/// Says which numbers there may be.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("'{text}' is no number from 1 on"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_durations_are_read_as_people_write_them() {
        let ms = Duration::from_millis;
        assert_eq!(duration_range("150ms..300ms"), Ok(ms(150)..=ms(300)));
        assert_eq!(duration_range("1s..2s"), Ok(ms(1000)..=ms(2000)));
        assert!(duration_range("300ms..150ms").unwrap_err().contains("shorter duration comes first"));
        assert!(duration_range("300ms").unwrap_err().contains("150ms..300ms"));
        assert!(duration("0s").is_err() && duration("5").is_err() && duration("2m") == Ok(ms(120_000)));
    }

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("64", 64), ("64KiB", 65536), ("1MiB", 1 << 20), ("2kB", 2000), ("0", 0)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for bad in ["", "-1", "1 potato", "99999999999999999999GiB"] {
            assert!(size(bad).unwrap_err().contains("64KiB"), "{bad}");
        }
    }
}
