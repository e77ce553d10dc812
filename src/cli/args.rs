//! Argument types.

use std::ops::RangeInclusive;
use std::time::Duration;

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

/// A number of things of which there must be one.
///
/// # Errors
/// Says which numbers there may be.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("'{text}' is no number from 1 on"))
}

/// `host:port`, with a host and a port in range.
///
/// # Errors
/// Says what is missing.
pub fn address(text: &str) -> Result<String, String> {
    let explain = |what| Err(format!("'{text}' {what}: write HOST:PORT, such as 127.0.0.1:7001 or [::1]:7001"));
    match text.rsplit_once(':') {
        Some(("", _)) => explain("has no host"),
        Some((host, _)) if host.contains(':') && !host.starts_with('[') => {
            explain("has an IPv6 address without brackets")
        }
        Some((host, _)) if host.starts_with('[') != host.ends_with(']') => explain("has one bracket without the other"),
        Some((_, port)) if port.parse::<u16>().is_err() => explain("has no valid port"),
        Some(_) => Ok(text.to_owned()),
        None => explain("has no port"),
    }
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

    #[test]
    fn an_address_needs_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "localhost:7001", "[::1]:7001", "n2.example:65535"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in ["localhost", ":7001", "::1:7001", "[::1", "[::1:7001", "::1]:7001", "localhost:70000", "localhost:"]
        {
            assert!(address(bad).unwrap_err().contains("HOST:PORT"), "{bad}");
        }
    }
}
