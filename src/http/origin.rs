//! Requests that a browser makes for the page of somebody else. A node answers programs and its own host, and no such page.
//!
//! A page of any site can have a browser send to a node that only the browser's machine can reach. The browser says so, in
//! `Origin` or `Sec-Fetch-Site`, which no page can change, and which curl and libraries do not send. A page of another port of
//! the same host is another page, too (`same-site`): what is served there may be anything.
//!
//! A page can also lead a name of its own to 127.0.0.1 and then read, as a page of the same origin (DNS rebinding). So on
//! loopback a node answers to addresses and to names that are its own: a name of somebody else gives itself away in `Host`.
//! Elsewhere names are the network's affair.
//!
//! Peers are let in by [`super::upgrade`], in whose way this is not.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderName, HeaderValue, ORIGIN};
use hyper::{Request, StatusCode, Version};

use super::reply::Refusal;
use super::upgrade::{self, PeerProtocol};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a page of another host is behind; `addr` is where the node serves, `names` are its own, and with its peers it
/// speaks `protocol`.
pub(super) fn check<B>(
    request: &Request<B>,
    on_loopback: bool,
    addr: &str,
    names: &[String],
    protocol: PeerProtocol,
) -> Result<(), Refusal> {
    if is_plain(request, addr) || upgrade::is_from_peer(request, protocol) {
        return Ok(());
    }
    let headers = request.headers();
    let host = host_of(request)?;
    let site = headers.get_all(SEC_FETCH_SITE).iter().find(|site| *site != "same-origin" && *site != "none");
    if let Some(site) = site {
        return Err(other_page(&format!("a browser calls it {}", shown(site.as_bytes()))));
    }
    let is_other = |origin: &&HeaderValue| !host.is_some_and(|host| is_origin_of(origin.as_bytes(), host));
    if let Some(origin) = headers.get_all(ORIGIN).iter().find(is_other) {
        return Err(other_page(&format!("its origin is {}", shown(origin.as_bytes()))));
    }
    let Some(Authority { host, .. }) = host else { return Ok(()) };
    if on_loopback && !is_address(host) && !is_called(host, names) {
        let names: String = names.iter().map(|name| format!(", {name}")).collect();
        let message = format!(
            "on loopback this node answers to an IP address, localhost{names}, and not to {}: a web page may have led its own \
             name here; use the address, or start the node with that name in --advertise",
            shown(host.as_bytes())
        );
        return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, &message));
    }
    Ok(())
}

/// Whether no browser has a part in it, and it names the node as the node names itself: nearly every request is one of these,
/// and to look once at each header is a fraction of the whole rule.
fn is_plain<B>(request: &Request<B>, addr: &str) -> bool {
    let mut hosts = 0;
    let is_plain = request.headers().iter().all(|(name, value)| match name {
        &HOST => {
            hosts += 1;
            value == addr
        }
        &ORIGIN => false,
        name => *name != SEC_FETCH_SITE,
    });
    is_plain && hosts == 1 && request.uri().authority().is_none()
}

fn other_page(why: &str) -> Refusal {
    let message = format!(
        "a web page of another host or port has sent this ({why}), and no page may act on a node: use curl, raft-ctl or a \
         server of your own"
    );
    Refusal::new(StatusCode::FORBIDDEN, &message)
}

/// To whom a request is addressed: the host, and the port if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Authority<'a> {
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// `HOST`, `HOST:PORT`, `[IPv6]` or `[IPv6]:PORT` (RFC 3986 §3.2, without the user).
    fn parse(text: &'a str) -> Option<Self> {
        let end = match text.strip_prefix('[') {
            Some(inside) => 1 + inside.find(']')? + 1,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(end);
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_host = match inside {
            Some(inside) => inside.split('%').next()?.parse::<Ipv6Addr>().is_ok(), // a zone may stand behind it
            None => host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)),
        };
        let port = match rest.strip_prefix(':') {
            None => None,
            Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => Some(port.parse().ok()?),
            Some(_) => return None,
        };
        (!host.is_empty() && is_host).then_some(Self { host, port })
    }
}

/// The host that a request names (RFC 9112 §3.2): only one of HTTP/1.0 may name none.
fn host_of<B>(request: &Request<B>) -> Result<Option<Authority<'_>>, Refusal> {
    let refuse = |message: &str| Err(Refusal::new(StatusCode::BAD_REQUEST, message));
    let mut hosts = request.headers().get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_10 => return Ok(None),
        (None, _) => return refuse("a request names its host once, in the header Host, and this one does not"),
        (Some(_), Some(_)) => {
            return refuse("a request names its host once, in the header Host, and this one does twice");
        }
        (Some(host), None) => host.to_str().ok(),
    };
    // A proxy may be sent the whole address; then that counts.
    let named = request.uri().authority().map(hyper::http::uri::Authority::as_str).or(named);
    match named.and_then(Authority::parse) {
        Some(host) => Ok(Some(host)),
        None => refuse("the header Host takes HOST or HOST:PORT"),
    }
}

/// Whether `origin`, such as `http://127.0.0.1:7001`, is a page of `host`.
fn is_origin_of(origin: &[u8], host: Authority<'_>) -> bool {
    let Some((scheme, authority)) = std::str::from_utf8(origin).ok().and_then(|origin| origin.split_once("://")) else {
        return false; // null is nobody's
    };
    // The node itself speaks http; a proxy before it may speak https.
    let usual = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    let port = |of: Authority<'_>| of.port.unwrap_or(usual);
    Authority::parse(authority)
        .is_some_and(|page| page.host.eq_ignore_ascii_case(host.host) && port(page) == port(host))
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok()
}

fn is_called(host: &str, names: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || names.iter().any(|name| host.eq_ignore_ascii_case(name))
}

/// The beginning of what somebody else wrote.
fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes).chars().take(80).collect::<String>())
}
