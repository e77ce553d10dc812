//! A line for each datagram, as text or JSON.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::cli::escape::push_escaped;
use crate::datagram::hex;
use crate::datagram::receiver::Datagram;

/// Makes lines, all in one form.
#[derive(Debug)]
pub(super) struct Lines {
    json: bool,
    hex: bool,
    port: u16,
    clock: Clock,
    from: Address,
    to: Address,
    scratch: String,
}

#[derive(Serialize)]
struct Packet<'a> {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ts: Option<&'a str>,
    from: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    len: usize,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<&'a str>,
}

impl Lines {
    /// Lines in that form, for a socket on that port.
    pub(super) fn new(json: bool, hex: bool, port: u16) -> Self {
        Self {
            json,
            hex,
            port,
            clock: Clock::default(),
            from: Address::default(),
            to: Address::default(),
            scratch: String::new(),
        }
    }

    /// Appends a line.
    pub(super) fn append(&mut self, datagram: &Datagram<'_>, out: &mut Vec<u8>) {
        let text = if self.hex { None } else { text(datagram) };
        self.scratch.clear();
        if text.is_none() {
            hex::push(datagram.bytes, &mut self.scratch);
        }
        let from = self.from.show(datagram.from);
        if self.json {
            let packet = Packet {
                event: "packet",
                ts: datagram.at.map(|at| self.clock.show(at)),
                from,
                to: datagram.to.map(|to| self.to.show(SocketAddr::new(to.ip, self.port))),
                len: datagram.len,
                truncated: datagram.is_truncated(),
                text,
                hex: text.is_none().then_some(&self.scratch),
            };
            serde_json::to_writer(&mut *out, &packet).expect("a Vec takes all");
        } else {
            let plural = if datagram.len == 1 { "" } else { "s" };
            write!(out, "Received {} byte{plural} from {from}", datagram.len).expect("a Vec takes all");
            if datagram.is_truncated() {
                write!(out, " ({} kept)", datagram.bytes.len()).expect("a Vec takes all");
            }
            match text {
                Some(text) => {
                    push_escaped(text, &mut self.scratch);
                    out.extend_from_slice(b": ");
                }
                None => out.extend_from_slice(b": hex "),
            }
            out.extend_from_slice(self.scratch.as_bytes());
        }
        out.push(b'\n');
    }
}

/// The datagram as text, if it is UTF-8. Where it was cut off, a character that was cut in two is left out.
fn text<'a>(datagram: &Datagram<'a>) -> Option<&'a str> {
    match std::str::from_utf8(datagram.bytes) {
        Ok(text) => Some(text),
        Err(error) if datagram.is_truncated() && error.error_len().is_none() => {
            std::str::from_utf8(&datagram.bytes[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    }
}

/// Shows addresses. The next datagram often has that of the last one.
#[derive(Debug, Default)]
struct Address {
    of: Option<SocketAddr>,
    shown: String,
}

impl Address {
    fn show(&mut self, addr: SocketAddr) -> &str {
        if self.of != Some(addr) {
            self.of = Some(addr);
            self.shown = match addr.ip().to_canonical() {
                ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()).to_string(),
                IpAddr::V6(_) => addr.to_string(), // with its scope
            };
        }
        &self.shown
    }
}

/// Shows times as RFC 3339 with nanoseconds, in UTC. The calendar is asked once a second only.
#[derive(Debug, Default)]
struct Clock {
    second: Option<u64>,
    shown: String,
}

impl Clock {
    fn show(&mut self, at: Duration) -> &str {
        const SECOND: usize = "2026-01-02T03:04:05".len();
        if self.second != Some(at.as_secs()) {
            self.second = Some(at.as_secs());
            let second = UNIX_EPOCH + Duration::from_secs(at.as_secs());
            self.shown = humantime::format_rfc3339_seconds(second).to_string();
        }
        self.shown.truncate(SECOND);
        write!(self.shown, ".{:09}Z", at.subsec_nanos()).expect("a String takes all");
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::datagram::receiver::Destination;

    fn datagram(bytes: &[u8]) -> Datagram<'_> {
        let ip = [127, 0, 0, 1].into();
        let to = Some(Destination { ip, local: ip, interface: 1 });
        let at = Some(Duration::new(1_767_323_045, 123_456_789));
        Datagram { bytes, len: bytes.len(), from: ([127, 0, 0, 1], 40000).into(), to, at }
    }

    fn line(json: bool, hex: bool, datagram: &Datagram<'_>) -> String {
        let mut out = Vec::new();
        Lines::new(json, hex, 9000).append(datagram, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_forms_are_those_that_scripts_are_written_against() {
        assert_eq!(line(false, false, &datagram(b"hello")), "Received 5 bytes from 127.0.0.1:40000: hello\n");
        assert_eq!(
            line(true, false, &datagram(b"hello")),
            r#"{"event":"packet","ts":"2026-01-02T03:04:05.123456789Z","from":"127.0.0.1:40000","to":"127.0.0.1:9000","len":5,"text":"hello"}"#
                .to_owned()
                + "\n"
        );
        assert_eq!(line(false, true, &datagram(b"hi")), "Received 2 bytes from 127.0.0.1:40000: hex 6869\n");
        assert_eq!(line(false, false, &datagram(b"\xff")), "Received 1 byte from 127.0.0.1:40000: hex ff\n");
        assert_eq!(line(false, false, &datagram(b"")), "Received 0 bytes from 127.0.0.1:40000: \n");
        assert!(line(true, true, &datagram(b"hi")).ends_with("\"len\":2,\"hex\":\"6869\"}\n"));
    }

    #[test]
    fn a_truncated_datagram_says_so_and_keeps_its_real_length() {
        let cut = Datagram { len: 1000, ..datagram("grün".as_bytes()) };
        assert_eq!(line(false, false, &cut), "Received 1000 bytes from 127.0.0.1:40000 (5 kept): grün\n");
        assert!(line(true, false, &cut).ends_with("\"len\":1000,\"truncated\":true,\"text\":\"grün\"}\n"));
        let within_a_character = Datagram { len: 1000, ..datagram(b"gr\xc3") };
        assert!(line(true, false, &within_a_character).contains("\"text\":\"gr\""));
        assert!(line(true, false, &datagram(b"gr\xc3")).contains("\"hex\":\"6772c3\""));
    }

    #[test]
    fn a_mapped_address_is_shown_as_what_it_is_and_a_scope_is_kept() {
        let mapped = Datagram { from: "[::ffff:192.0.2.1]:5".parse().unwrap(), ..datagram(b"") };
        assert!(line(false, false, &mapped).contains("from 192.0.2.1:5:"));
        let scoped = Datagram { from: "[fe80::1%3]:5".parse().unwrap(), ..datagram(b"") };
        assert!(line(false, false, &scoped).contains("from [fe80::1%3]:5:"));
    }

    #[test]
    fn an_address_is_not_mistaken_for_the_one_before() {
        let mut lines = Lines::new(false, false, 9000);
        let mut out = Vec::new();
        for port in [1, 1, 2, 1] {
            lines.append(&Datagram { from: ([127, 0, 0, 1], port).into(), ..datagram(b"") }, &mut out);
        }
        let shown = String::from_utf8(out).unwrap();
        let ports: Vec<_> = shown.lines().map(|line| line.rsplit(':').nth(1).unwrap()).collect();
        assert_eq!(ports, ["1", "1", "2", "1"]);
    }

    #[test]
    fn controls_are_shown_not_obeyed() {
        let shown = line(false, false, &datagram("a\nb\t\x1b[31m\0\\n\u{85}\u{202e}é".as_bytes()));
        assert!(shown.ends_with(": a\\nb\\t\\x1b[31m\\x00\\\\n\\u{85}\\u{202e}é\n"), "{shown}");
    }

    proptest! {
        #[test]
        fn text_is_one_line_without_controls(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let shown = line(false, false, &datagram(&bytes));
            prop_assert!(shown.ends_with('\n'));
            prop_assert!(!shown.trim_end_matches('\n').chars().any(char::is_control));
        }

        #[test]
        fn json_gives_back_every_byte(bytes in proptest::collection::vec(any::<u8>(), 0..64), hex: bool) {
            let shown = line(true, hex, &datagram(&bytes));
            prop_assert_eq!(shown.matches('\n').count(), 1);
            let packet: Value = serde_json::from_str(&shown).unwrap();
            let back = match (packet["text"].as_str(), packet["hex"].as_str()) {
                (Some(text), None) => text.as_bytes().to_vec(),
                (None, Some(hex)) => hex::parse(hex.as_bytes()).unwrap(),
                _ => panic!("{packet}"),
            };
            prop_assert_eq!(back, bytes.clone());
            prop_assert_eq!(&packet["len"], &json!(bytes.len()));
        }

        #[test]
        fn a_clock_that_remembers_its_second_shows_what_one_that_does_not_shows(
            times in proptest::collection::vec((0..4_102_444_800_u64, 0..1_000_000_000_u32), 1..8),
        ) {
            let mut clock = Clock::default();
            for (seconds, nanos) in times {
                let at = Duration::new(seconds, nanos);
                let expected = humantime::format_rfc3339_nanos(UNIX_EPOCH + at).to_string();
                prop_assert_eq!(clock.show(at), expected);
            }
        }
    }
}
