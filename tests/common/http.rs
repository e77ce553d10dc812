//! A small blocking HTTP/1.1 client, which sends whatever a test wants and reads what comes back.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::PATIENCE;

/// A connection.
#[derive(Debug)]
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

/// An answer, read to its end.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.status, self.text().chars().take(300).collect::<String>())
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reason it gives, as every error does.
    #[track_caller]
    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("an error says why: {self:?}")).to_owned()
    }

    /// Insists on a status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

impl Http {
    pub(crate) fn connect(addr: SocketAddr) -> io::Result<Self> {
        Self::connect_with(addr, PATIENCE)
    }

    /// A connection on which nothing takes longer than `patience`.
    pub(crate) fn connect_with(addr: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// Has the kernel keep little of what is not read.
    pub(crate) fn keep_little(&self) {
        socket2::SockRef::from(self.socket()).set_recv_buffer_size(4 << 10).expect("a socket has a buffer");
    }

    /// The connection itself.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Says that no more will be sent.
    pub(crate) fn finish_sending(&self) -> io::Result<()> {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// Sends a request and reads its answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> io::Result<Answer> {
        self.send(request(method, path, headers, body))?;
        self.answer(method == "HEAD")
    }

    /// Reads the next answer; that of a HEAD request has no body.
    pub(crate) fn answer(&mut self, of_head: bool) -> io::Result<Answer> {
        let bad = |what: &str| io::Error::new(ErrorKind::InvalidData, what.to_owned());
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status: u16 = status.ok_or_else(|| bad(&format!("no status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad("no header"))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer { status, headers, body: Vec::new() };
        if status == 100 {
            return self.answer(of_head);
        }
        if !of_head && status >= 200 && status != 204 && status != 304 {
            let length = answer.header("content-length").ok_or_else(|| bad("no content-length"))?;
            answer.body = vec![0; length.parse().map_err(|_| bad("bad content-length"))?];
            self.stream.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    /// Everything until the other side hangs up, be it politely or not.
    ///
    /// # Errors
    /// When it does not hang up in time.
    pub(crate) fn until_closed(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.read_until_closed(&mut all)?;
        Ok(all)
    }

    /// Like [`Http::until_closed`]; what has come before an error is in `all`.
    pub(crate) fn read_until_closed(&mut self, all: &mut Vec<u8>) -> io::Result<()> {
        match self.stream.read_to_end(all) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
    for header in headers {
        head += &format!("{header}\r\n");
    }
    if !body.is_empty() {
        head += &format!("content-length: {}\r\n", body.len());
    }
    [format!("{head}\r\n").as_bytes(), body].concat()
}

/// One request on a connection of its own.
pub(crate) fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    Http::connect(addr)?.ask(method, path, &["connection: close"], body.as_bytes())
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> io::Result<Answer> {
    ask(addr, "GET", path, "")
}

pub(crate) fn set_body(key: &str, value: &str) -> String {
    json!({ "key": key, "value": value }).to_string()
}

/// A key as it is written in a path.
pub(crate) fn encoded(key: &str) -> String {
    utf8_percent_encode(key, NON_ALPHANUMERIC).to_string()
}

/// The value in the answer to a read of one key.
#[track_caller]
pub(crate) fn value_in(answer: &Answer) -> Option<String> {
    match answer.status {
        200 => Some(answer.json()["value"].as_str().expect("a value is a string").to_owned()),
        404 => None,
        _ => panic!("{answer:?}"),
    }
}

/// Every key with its value and version, page by page.
pub(crate) fn listing(addr: SocketAddr, parameters: &str) -> io::Result<BTreeMap<String, (String, u64)>> {
    let mut connection = Http::connect(addr)?;
    let (mut all, mut after) = (BTreeMap::new(), String::new());
    loop {
        let path = format!("/kv?limit=1000{after}{parameters}");
        let page = connection.ask("GET", &path, &[], b"")?;
        if page.status != 200 {
            return Err(io::Error::other(format!("{page:?}")));
        }
        let page = page.json();
        for item in page["items"].as_array().expect("items") {
            let text = |name: &str| item[name].as_str().expect("a string").to_owned();
            let seen = all.insert(text("key"), (text("value"), item["version"].as_u64().expect("a version")));
            assert_eq!(seen, None, "no key comes twice");
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => return Ok(all),
        }
    }
}
