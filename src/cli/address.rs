//! Addresses on the command line: what is one, and what to write in place of what is none.

use std::net::Ipv6Addr;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue};

/// `HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets, which may name its interface
/// (`[fe80::1%eth0]:7000`). Blanks around it are left out.
///
/// # Errors
/// Says what is missing, and what to write.
pub fn address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let explain = |what: &str, write: &str| Err(format!("'{text}' {what}: write HOST:PORT, such as {write}"));
    if text.is_empty() {
        return explain("is no address", "127.0.0.1:7001");
    }
    if let Some((_, rest)) = text.split_once("://") {
        return explain("is a URL", rest.split('/').next().unwrap_or(rest));
    }
    if text.contains(char::is_whitespace) {
        return explain("has a blank in it", &text.split_whitespace().collect::<Vec<_>>().join(":"));
    }
    if let Some(inside) = text.strip_prefix('[') {
        let Some((host, rest)) = inside.split_once(']') else {
            return explain("has one bracket without the other", "[::1]:7001");
        };
        return match rest.strip_prefix(':') {
            _ if !is_ipv6(host) => explain("has brackets around what is no IPv6 address", "[::1]:7001"),
            Some(port) => checked_port(text, port),
            None => explain("has no port", &format!("[{host}]:7001")),
        };
    }
    if text.contains(['[', ']']) {
        return explain("has one bracket without the other", "[::1]:7001");
    }
    match text.rsplit_once(':') {
        None if text.parse::<u16>().is_ok() => explain("has no host", &format!("127.0.0.1:{text}")),
        None => explain("has no port", &format!("{text}:7001, in one word")),
        Some((host, port)) if host.contains(':') => {
            let written = match (is_ipv6(host), port.parse::<u16>(), is_ipv6(text)) {
                (true, Ok(port), _) => format!("[{host}]:{port}"),
                (_, _, true) => format!("[{text}]:7001"),
                (_, _, false) => "[::1]:7001".to_owned(),
            };
            explain("has an IPv6 address without brackets", &written)
        }
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
            explain("has no host", &format!("127.0.0.1:{port}, or [::]:{port} to listen on every address"))
        }
        Some((_, port)) => checked_port(text, port),
    }
}

/// The address of a node, which may be written as a URL: `HOST:PORT` or `http://HOST:PORT`.
///
/// # Errors
/// As [`address`].
pub fn node_address(text: &str) -> Result<String, String> {
    let text = text.trim();
    let rest = match text.split_once("://") {
        None => return address(text),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, rest)) => {
            return Err(format!("'{text}': nodes do not speak {scheme}: write http://{rest}"));
        }
    };
    match rest.split_once('/') {
        None | Some((_, "")) => address(rest.trim_end_matches('/')),
        Some((host, _)) => Err(format!("'{text}' has a path: write http://{host}")),
    }
}

/// `--listen HOST PORT`: the parser blames the port, which belongs to the word before it.
pub(super) fn amend(error: &mut clap::Error) {
    let Some(ContextValue::String(blamed)) = error.get(ContextKind::InvalidArg) else { return };
    let words: Vec<_> = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok()).collect();
    let together = words.windows(2).find(|pair| pair[1] == *blamed).map(|pair| format!("{}:{}", pair[0], pair[1]));
    if let Some(together) = together
        && error.kind() == clap::error::ErrorKind::UnknownArgument
        && address(&together).is_ok()
    {
        let tip = StyledStr::from(format!("an address is one word: {together}"));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
    }
}

fn is_ipv6(host: &str) -> bool {
    match host.split_once('%') {
        Some((_, "")) => false,
        Some((ip, _)) => ip.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<Ipv6Addr>().is_ok(),
    }
}

fn checked_port(text: &str, port: &str) -> Result<String, String> {
    match port.parse::<u16>() {
        // What str::parse takes beside digits would not be understood elsewhere.
        Ok(_) if port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(text.to_owned()),
        Ok(_) | Err(_) => Err(format!(
            "'{text}' has no valid port: write HOST:PORT, such as 127.0.0.1:7001; a port is a number from 0 to 65535"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_needs_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "localhost:7001", "[::1]:7001", "[fe80::1%eth0]:7001", "n2.example:65535"] {
            assert_eq!(address(good).as_deref(), Ok(good));
            assert_eq!(address(&format!(" {good} ")).as_deref(), Ok(good));
        }
        for bad in
            ["localhost:70000", "localhost:", "localhost:+1", "[::1]:x", "[::1]:", "[localhost]:1", "[::1%]:1", ""]
        {
            assert!(address(bad).unwrap_err().contains("HOST:PORT"), "{bad}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_what_to_write() {
        for (bad, what, write) in [
            ("localhost", "no port", "localhost:7001, in one word"),
            ("9000", "no host", "127.0.0.1:9000"),
            (":9000", "no host", "127.0.0.1:9000, or [::]:9000 to listen on every address"),
            ("*:9000", "no host", "127.0.0.1:9000, or [::]:9000"),
            ("::1", "without brackets", "[::1]:7001"),
            ("::1:9000", "without brackets", "[::1]:9000"),
            (":::9000", "without brackets", "[::]:9000"),
            ("fe80::1%eth0:9000", "without brackets", "[fe80::1%eth0]:9000"),
            ("[::1]", "no port", "[::1]:7001"),
            ("[::1", "one bracket", "[::1]:7001"),
            ("::1]:7001", "one bracket", "[::1]:7001"),
            ("127.0.0.1 9000", "a blank", "127.0.0.1:9000"),
            ("http://127.0.0.1:9000/x", "a URL", "127.0.0.1:9000"),
        ] {
            let said = address(bad).unwrap_err();
            assert!(said.contains(what) && said.contains(&format!("such as {write}")), "{bad}: {said}");
        }
    }

    #[test]
    fn a_node_may_be_written_as_a_url() {
        for good in ["n1:7001", "http://n1:7001", "HTTP://n1:7001/", " http://n1:7001 "] {
            assert_eq!(node_address(good).as_deref(), Ok("n1:7001"));
        }
        assert!(node_address("https://n1:7001").unwrap_err().contains("write http://n1:7001"));
        assert!(node_address("http://n1:7001/kv").unwrap_err().contains("has a path: write http://n1:7001"));
        assert!(node_address("http://n1").unwrap_err().contains("no port"));
    }
}
