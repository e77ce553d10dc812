//! Web pages and their browsers: none may act on a node, whatever the browser can reach. curl and libraries notice nothing.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::http::{Answer, Http, set_body};
use crate::common::{Node, Process, node_in, raft_ctl, run, within};

fn alone() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Node::alone(dir.path()), dir)
}

/// A request with exactly these headers.
fn send(addr: SocketAddr, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    for header in headers {
        request += &format!("{header}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n{body}", body.len());
    let mut connection = Http::connect(addr).unwrap();
    connection.send(request).unwrap();
    connection.answer(method == "HEAD").unwrap()
}

#[test]
fn a_page_of_another_host_or_port_is_403_whatever_it_asks() {
    let (node, _dir) = alone();
    let host = format!("host: {}", node.addr);
    let others = [
        vec!["sec-fetch-site: cross-site"],
        vec!["sec-fetch-site: same-site"],
        vec!["origin: http://evil.example"],
        vec!["origin: null"],
        vec!["origin: https://127.0.0.1"],
        vec!["origin: http://127.0.0.1:1", "sec-fetch-site: same-origin"],
        vec!["origin: http://localhost"],
        vec!["origin: chrome-extension://abcdefgh"],
        vec!["origin: http://evil.example:80@127.0.0.1"],
        vec!["origin: \u{e4}"],
    ];
    let member = json!({ "id": "evil", "addr": "127.0.0.1:1" }).to_string();
    let write = set_body("evil", "1");
    for other in others {
        let headers: Vec<_> = [host.as_str()].into_iter().chain(other).collect();
        for (method, path, body) in [
            ("POST", "/kv", write.as_str()),
            ("DELETE", "/kv/good", ""),
            ("GET", "/kv/good", ""),
            ("POST", "/members", &member),
            ("POST", "/leader", ""),
            ("POST", "/snapshot", ""),
            ("GET", "/watch", ""),
            ("OPTIONS", "/kv", ""),
            ("GET", "/peer", ""),
            ("GET", "/nothing", ""),
        ] {
            let answer = send(node.addr, method, path, &headers, body).expect(403);
            assert!(answer.error().contains("no page may act on a node"), "{method} {path} {headers:?}: {answer:?}");
        }
    }
    assert_eq!(node.value("evil"), None);
    assert_eq!(node.get("/members").json()["members"].as_array().map(Vec::len), Some(1));
}

#[test]
fn programs_and_a_page_of_the_node_itself_are_served_as_ever() {
    let (node, _dir) = alone();
    let port = node.addr.port();
    let localhost = format!("localhost:{port}");
    let rows = [
        vec![format!("host: {}", node.addr)],
        vec![format!("host: {localhost}"), format!("origin: http://{localhost}")],
        vec![
            format!("host: {localhost}"),
            format!("origin: http://LOCALHOST:{port}"),
            "sec-fetch-site: same-origin".into(),
        ],
        vec![format!("host: {}", node.addr), "sec-fetch-site: none".into()], // typed by a person
        vec!["host: localhost".into(), "origin: https://localhost".into()],  // through a proxy that speaks https
        vec!["host: 127.0.0.1".into(), "origin: http://127.0.0.1:80".into()],
        vec!["host: [::1]:7001".into()],
        vec!["host: LocalHost.:1".into()],
        vec!["host: n1:7001".into()], // its own name
    ];
    for headers in rows {
        let mut headers: Vec<_> = headers.iter().map(String::as_str).collect();
        headers.push("content-type: application/x-www-form-urlencoded"); // as `curl -d` says
        send(node.addr, "POST", "/kv", &headers, &set_body("a", "1")).expect(200);
        send(node.addr, "GET", "/kv/a", &headers, "").expect(200);
    }
}

#[test]
fn on_loopback_a_strange_name_is_421_and_one_that_the_node_was_given_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--advertise", "kv.example:7001"]);
    let node = Node::start(command);
    node.wait_healthy();
    node.set("secret", "1");
    for host in
        ["evil.example", "evil.example:80", "127.0.0.1.evil.example:7001", "localhost.evil.example", "localhost-"]
    {
        let header = format!("host: {host}");
        for (method, path) in [("GET", "/kv/secret"), ("DELETE", "/kv/secret"), ("GET", "/status"), ("POST", "/leader")]
        {
            let answer = send(node.addr, method, path, &[&header], "").expect(421);
            assert!(answer.error().contains("--advertise") && answer.error().contains("localhost"), "{answer:?}");
        }
        // A page that came from there would be one of the same origin.
        let same = [header.as_str(), &format!("origin: http://{host}"), "sec-fetch-site: same-origin"];
        send(node.addr, "GET", "/kv/secret", &same, "").expect(421);
    }
    send(node.addr, "GET", "/kv/secret", &["host: kv.example"], "").expect(200);
    // Peers are asked who they are instead; a browser cannot be made to send this header.
    let peer = ["host: evil.example", "connection: upgrade", "upgrade: netbelt-raft/2"];
    send(node.addr, "GET", "/peer", &peer, "").expect(400);
    send(node.addr, "GET", "/kv/secret", &peer, "").expect(421);
    send(node.addr, "GET", "/peer", &["host: evil.example", "connection: upgrade", "upgrade: websocket"], "")
        .expect(421);
    // The whole address counts more than the header.
    send(node.addr, "GET", "http://evil.example/kv/secret", &["host: localhost"], "").expect(421);
    // Whatever name leads here, raft-ctl may use it.
    let mut ctl = raft_ctl();
    ctl.args(["--nodes", &format!("localhost:{}", node.addr.port()), "get", "secret"]);
    assert_eq!(run(ctl).expect(0).stdout, "1\n");
}

#[test]
fn a_request_that_names_no_host_or_two_is_400() {
    let (node, _dir) = alone();
    for headers in [
        &[][..],
        &["host: localhost", "host: localhost"],
        &["host: localhost", "host: evil.example"],
        &["host:"],
        &["host: a b"],
        &["host: localhost/kv"],
        &["host: user@localhost"],
        &["host: localhost:port"],
        &["host: localhost:65536"],
        &["host: [::1"],
        &["host: [evil.example]"],
        &["host: localhost, evil.example"],
        &["host: \u{e4}.example"],
    ] {
        let answer = send(node.addr, "POST", "/kv", headers, &set_body("a", "1")).expect(400);
        assert!(answer.error().contains("Host"), "{headers:?}: {answer:?}");
    }
    assert_eq!(node.value("a"), None);
}

// A real browser

/// Passes on what comes for a node, and keeps the lines with which requests and answers begin.
struct Recorder {
    addr: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    fn before(node: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let recorder = Self { addr: listener.local_addr().unwrap(), lines: Arc::default() };
        let lines = Arc::clone(&recorder.lines);
        std::thread::spawn(move || {
            for browser in listener.incoming().map_while(Result::ok) {
                let lines = Arc::clone(&lines);
                std::thread::spawn(move || exchange(browser, node, &lines));
            }
        });
        recorder
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One connection, a request at a time: `POST /kv 403`.
fn exchange(mut browser: TcpStream, node: SocketAddr, lines: &Mutex<Vec<String>>) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let request = read_request(&mut browser, &mut buffer)?;
        let line = String::from_utf8_lossy(&request).lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
        let mut connection = TcpStream::connect(node).ok()?;
        connection.write_all(&request).ok()?;
        let mut answer = Vec::new();
        connection.shutdown(std::net::Shutdown::Write).ok()?;
        connection.read_to_end(&mut answer).ok()?;
        let status = String::from_utf8_lossy(&answer).split(' ').nth(1)?.to_owned();
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{line} {status}"));
        browser.write_all(&answer).ok()?;
    }
}

fn read_request(browser: &mut TcpStream, buffer: &mut [u8]) -> Option<Vec<u8>> {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                return Some(request);
            }
        }
        let count = browser.read(buffer).ok().filter(|count| *count > 0)?;
        request.extend_from_slice(&buffer[..count]);
    }
}

/// Serves one page to whoever asks.
fn page(html: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut browser in listener.incoming().map_while(Result::ok) {
            if read_request(&mut browser, &mut vec![0; 64 << 10]).is_some() {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n";
                let _ = write!(browser, "{head}content-length: {}\r\n\r\n{html}", html.len());
            }
        }
    });
    addr
}

/// What has a browser print what it shows, and end.
const PRINT: &str = "--dump-dom";
/// What has it stay.
const STAY: &str = "--remote-debugging-port=0";

/// A browser that opens `url`; names that end in `.example` lead to this machine.
fn browse(profile: &Path, what_for: &str, url: &str) -> Option<Process> {
    let browser = ["chromium", "chromium-browser"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))?;
    let mut command = Command::new(browser);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP *.example 127.0.0.1",
    ]);
    command.arg(format!("--user-data-dir={}", profile.display())).arg(what_for).arg(url);
    Some(Process::start(command))
}

#[test]
fn a_page_in_a_real_browser_cannot_write_to_a_node_nor_read_from_it() {
    const SLOW_START: Duration = Duration::from_secs(90);
    let (node, dir) = alone();
    node.set("secret", "of the node");
    let recorder = Recorder::before(node.addr);
    let script = r#"<script>
        const tries = [["/kv", '{"key":"evil","value":"1"}'], ["/members", '{"id":"evil","addr":"127.0.0.1:1"}'], ["/leader", ""],
            ["/snapshot", ""]];
        (async () => {
            for (const [path, body] of tries) await fetch("NODE" + path, {method: "POST", mode: "no-cors", body}).catch(() => 0);
            await fetch("NODE/kv", {mode: "no-cors"}).catch(() => 0);
            await fetch("NODE/kv?limit=1").catch(() => 0);
        })();
    </script>"#;
    let page = page(script.replace("NODE", &format!("http://{}", recorder.addr)));
    let wanted: BTreeSet<_> = [
        "POST /kv 403",
        "POST /members 403",
        "POST /leader 403",
        "POST /snapshot 403",
        "GET /kv 403",
        "GET /kv?limit=1 403",
    ]
    .map(str::to_owned)
    .into();
    // Of another site, and of another port of the same host.
    for (name, from) in [("site", format!("http://evil.example:{}/", page.port())), ("port", format!("http://{page}/"))]
    {
        recorder.lines.lock().unwrap().clear();
        let Some(browser) = browse(&dir.path().join(name), STAY, &from) else {
            eprintln!("SKIPPED: there is no chromium here, so no real browser tried to reach a node");
            return;
        };
        within(SLOW_START, "all that the page tries", || {
            let seen: BTreeSet<_> = recorder.lines().into_iter().filter(|line| !line.contains("favicon")).collect();
            if seen == wanted { Ok(()) } else { Err(format!("{seen:?}; {}", browser.err.text())) }
        });
    }
    assert_eq!(node.value("evil"), None);
    assert_eq!(node.get("/members").json()["members"].as_array().map(Vec::len), Some(1));

    // A name of somebody else that leads to the node: what the page shows is no secret.
    let url = format!("http://rebound.example:{}/kv", recorder.addr.port());
    let browser = browse(&dir.path().join("rebound"), PRINT, &url).expect("it was there");
    within(SLOW_START, "what the browser shows", || {
        let shown = browser.out.text();
        if shown.contains("on loopback this node answers to") {
            Ok(())
        } else {
            Err(format!("{shown}{}", browser.err.text()))
        }
    });
    assert!(!browser.out.text().contains("of the node"), "{}", browser.out.text());
    // The same with the address itself is a person who looks.
    let browser =
        browse(&dir.path().join("person"), PRINT, &format!("http://{}/kv", recorder.addr)).expect("it was there");
    within(SLOW_START, "what the browser shows", || {
        let shown = browser.out.text();
        if shown.contains("of the node") { Ok(()) } else { Err(format!("{shown}{}", browser.err.text())) }
    });
    let _: Value = node.get("/status").expect(200).json();
}
