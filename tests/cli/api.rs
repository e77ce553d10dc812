//! The HTTP API, row by row, as its page promises it.

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::cluster::Cluster;
use crate::common::http::{Answer, Http, encoded, request, set_body};
use crate::common::{Node, eventually, node_in};

const MIB: usize = 1 << 20;

fn alone() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Node::alone(dir.path()), dir)
}

/// A member of two whose other one does not run.
fn without_leader() -> (Node, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n1");
    command.args(["--peer", "n2=127.0.0.1:1", "--peers-have-no-data"]);
    (Node::start(command), dir)
}

/// A request with headers on a connection of its own.
fn ask(node: &Node, method: &str, path: &str, headers: &[&str], body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    Http::connect(node.addr).unwrap().ask(method, path, headers, body.as_bytes()).unwrap()
}

fn post(node: &Node, body: &Value) -> Answer {
    ask(node, "POST", "/kv", &[], body)
}

#[test]
fn a_key_is_written_read_and_deleted() {
    let (node, _dir) = alone();
    let written = post(&node, &json!({ "key": "a", "value": "1" })).expect(200);
    assert_eq!(written.json(), json!({ "key": "a", "value": "1", "version": 1 }));
    assert_eq!(written.header("content-type"), Some("application/json"));
    assert!(written.body.ends_with(b"\n"), "one line, so that curl leaves the prompt alone");
    for path in ["/kv/a", "/kv/a?consistency=linearizable", "/kv/a?consistency=stale", "/kv/%61", "/kv/a?timeout=1s"] {
        assert_eq!(node.get(path).expect(200).json(), json!({ "key": "a", "value": "1", "version": 1 }), "{path}");
    }
    assert_eq!(node.ask("DELETE", "/kv/a", "").expect(200).json(), json!({ "key": "a", "deleted": true }));
    assert_eq!(node.ask("DELETE", "/kv/a", "").expect(200).json(), json!({ "key": "a", "deleted": false }));
    assert_eq!(node.get("/kv/a").expect(404).json(), json!({ "error": "key not found", "key": "a" }));
}

#[test]
fn a_listing_is_in_order_and_in_pages() {
    let (node, _dir) = alone();
    for key in ["b/2", "a", "b/1", "c", "b/3"] {
        node.set(key, "v");
    }
    let page = |path: &str| {
        let page = node.get(path).expect(200).json();
        let keys: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap().to_owned()).collect();
        (keys.join(" "), page["more"].as_bool().unwrap(), page["next"].clone())
    };
    assert_eq!(page("/kv"), ("a b/1 b/2 b/3 c".to_owned(), false, Value::Null));
    assert_eq!(page("/kv?prefix=b%2F&limit=2"), ("b/1 b/2".to_owned(), true, json!("b/2")));
    assert_eq!(page("/kv?prefix=b/&limit=2&after=b/2"), ("b/3".to_owned(), false, Value::Null));
    assert_eq!(page("/kv?after=b/3&consistency=stale"), ("c".to_owned(), false, Value::Null));
    assert_eq!(page("/kv?prefix=nothing"), (String::new(), false, Value::Null));
    let item = node.get("/kv?limit=1").json()["items"][0].clone();
    assert_eq!(item, json!({ "key": "a", "value": "v", "version": 2 }));
}

#[test]
fn a_write_with_if_value_happens_only_while_the_value_is_that() {
    let (node, _dir) = alone();
    let absent = json!({ "key": "a", "value": "1", "if_value": null });
    post(&node, &absent).expect(200);
    let failed = post(&node, &absent).expect(412);
    assert_eq!(failed.json(), json!({ "error": "condition failed", "key": "a", "value": "1", "version": 1 }));
    post(&node, &json!({ "key": "a", "value": "2", "if_value": "1" })).expect(200);
    post(&node, &json!({ "key": "a", "value": "3", "if_value": "1" })).expect(412);
    let missing = post(&node, &json!({ "key": "b", "value": "3", "if_value": "1" })).expect(412);
    assert_eq!(missing.json(), json!({ "error": "condition failed", "key": "b", "value": null, "version": null }));
    assert_eq!(node.value("a").as_deref(), Some("2"));
}

#[test]
fn if_match_and_if_none_match_hold_for_writes_and_deletes() {
    let (node, _dir) = alone();
    let body = json!({ "key": "a", "value": "v" });
    ask(&node, "POST", "/kv", &["if-none-match: *"], &body).expect(200);
    ask(&node, "POST", "/kv", &["if-none-match: *"], &body).expect(412);
    let second = ask(&node, "POST", "/kv", &["if-match: \"1\""], &body).expect(200);
    assert_eq!(second.json()["version"], 2);
    let stale = ask(&node, "POST", "/kv", &["if-match: \"1\""], &body).expect(412);
    assert_eq!((&stale.json()["value"], &stale.json()["version"]), (&json!("v"), &json!(2)));
    ask(&node, "DELETE", "/kv/a", &["if-match: \"1\""], &Value::Null).expect(412);
    ask(&node, "DELETE", "/kv/a", &["if-match: \"2\""], &Value::Null).expect(200);
    for headers in [&["if-match: one"][..], &["if-none-match: \"1\""], &["if-match: \"1\"", "if-none-match: *"]] {
        ask(&node, "POST", "/kv", headers, &body).expect(400);
    }
    let twice = json!({ "key": "a", "value": "v", "if_value": "v" });
    assert!(ask(&node, "POST", "/kv", &["if-match: \"1\""], &twice).expect(400).error().contains("one condition"));
    assert_eq!(node.value("a"), None);
}

#[test]
fn a_request_with_an_idempotency_key_is_carried_out_once() {
    let (node, _dir) = alone();
    let set = |name: &str, value: &str| {
        let name = format!("Idempotency-Key: {name}");
        ask(&node, "POST", "/kv", &[&name], &json!({ "key": "a", "value": value }))
    };
    let delete = |name: &str| ask(&node, "DELETE", "/kv/a", &[&format!("idempotency-key: {name}")], &Value::Null);
    let first = set("shop:17:1", "1").expect(200).json();
    post(&node, &json!({ "key": "a", "value": "2" })).expect(200);
    assert_eq!(set("shop:17:1", "1").expect(200).json(), first, "the same answer");
    assert_eq!(node.value("a").as_deref(), Some("2"), "and no second write");
    set("shop:18:1", "3").expect(200);
    assert!(set("shop:18:1", "4").expect(422).error().contains("another request"));

    assert_eq!(delete("shop:18:2").expect(200).json()["deleted"], true);
    set("shop:18:3", "5").expect(200);
    assert_eq!(delete("shop:18:2").expect(200).json()["deleted"], true, "then, it was");
    assert_eq!(node.value("a").as_deref(), Some("5"));
    for number in 4..=12 {
        set(&format!("shop:18:{number}"), "6").expect(200);
    }
    assert!(set("shop:18:3", "5").expect(409).error().contains("not remembered"));
    assert_eq!(node.value("a").as_deref(), Some("6"));
}

#[test]
fn a_condition_that_failed_stays_failed_for_the_same_idempotency_key() {
    let (node, _dir) = alone();
    let only_if_red = || {
        let body = json!({ "key": "a", "value": "blue", "if_value": "red" });
        ask(&node, "POST", "/kv", &["idempotency-key: c:1"], &body).expect(412).json()
    };
    node.set("a", "green");
    assert_eq!(only_if_red()["value"], "green");
    node.set("a", "red");
    let earlier = json!({ "error": "condition failed", "key": "a", "value": null, "version": null, "earlier": true });
    assert_eq!(only_if_red(), earlier);
    assert_eq!(node.value("a").as_deref(), Some("red"));
}

#[test]
fn an_idempotency_key_that_is_none_is_400_and_says_what_one_is() {
    let (node, _dir) = alone();
    let long = format!("{}:1", "c".repeat(129));
    for name in ["", "c", "c:", ":1", "c:one", "c:-1", "c:18446744073709551616", "\u{e4}:1", &long] {
        let answer =
            ask(&node, "POST", "/kv", &[&format!("idempotency-key: {name}")], &json!({ "key": "a", "value": "1" }));
        assert!(answer.expect(400).error().contains("CLIENT:SEQ"), "{name}");
    }
    let longest = format!("idempotency-key: {}:{}", "c".repeat(128), u64::MAX);
    ask(&node, "POST", "/kv", &[&longest], &json!({ "key": "a", "value": "1" })).expect(200);
}

#[test]
fn an_unknown_path_is_404_and_a_wrong_method_405_with_those_allowed() {
    let (node, _dir) = alone();
    for path in ["/", "/kvs", "/status/", "/KV", "/favicon.ico", "/kv%2Fa"] {
        assert_eq!(node.get(path).expect(404).error(), "not found", "{path}");
    }
    let rows = [
        ("PUT", "/kv", "GET, HEAD, POST"),
        ("DELETE", "/kv", "GET, HEAD, POST"),
        ("PUT", "/kv/a", "DELETE, GET, HEAD"),
        ("POST", "/kv/a", "DELETE, GET, HEAD"),
        ("POST", "/status", "GET, HEAD"),
        ("DELETE", "/health", "GET, HEAD"),
        ("POST", "/livez", "GET, HEAD"),
        ("POST", "/readyz", "GET, HEAD"),
        ("POST", "/metrics", "GET, HEAD"),
        ("PUT", "/debug", "GET, HEAD"),
        ("POST", "/peer", "GET, HEAD"),
        ("BREW", "/status", "GET, HEAD"),
    ];
    for (method, path, allowed) in rows {
        let answer = node.ask(method, path, "").expect(405);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
        assert!(answer.error().starts_with("method not allowed: "), "{answer:?}");
    }
    for (method, path, to_use) in [
        ("PUT", "/kv/a", r#"POST /kv {"key","value"} sets it"#),
        ("PUT", "/kv", r#"POST /kv {"key","value"} sets a key"#),
        ("PUT", "/leader", "POST /leader"),
        ("POST", "/members/n2", "DELETE /members/ID"),
        ("POST", "/status", "GET /status"),
        ("PATCH", "/snapshot", "POST /snapshot"),
    ] {
        let answer = node.ask(method, path, "").expect(405);
        assert!(answer.error().contains(to_use), "{method} {path}: {answer:?}");
    }
}

#[test]
fn a_bad_body_is_400_and_says_what_is_wrong_with_it() {
    let (node, _dir) = alone();
    let rows = [
        ("", "bad JSON"),
        ("{", "bad JSON"),
        ("null", "bad JSON"),
        ("[]", "bad JSON"),
        (r#"["a","1"]"#, "an object with names"),
        (r#" ["a","1",null]"#, "an object with names"),
        (r#"{"key":"a"}"#, "missing field `value`"),
        (r#"{"value":"a"}"#, "missing field `key`"),
        (r#"{"key":"a","value":1}"#, "expected a string"),
        (r#"{"key":["a"],"value":"1"}"#, "expected a string"),
        (r#"{"key":"a","value":null}"#, "expected a string"),
        (r#"{"key":"a","value":"1","if_value":1}"#, "expected a string"),
        (r#"{"key":"a","value":"1","ttl":5}"#, "unknown field `ttl`"),
        (r#"{"key":"a","key":"b","value":"1"}"#, "duplicate field"),
        (r#"{"key":"a","value":"1"} x"#, "trailing characters"),
        (r#"{"key":"a","value":"\ud800"}"#, "bad JSON"),
        (r#"{"key":"","value":"1"}"#, "1 to 1024 bytes"),
    ];
    for (body, why) in rows {
        let error = node.ask("POST", "/kv", body).expect(400).error();
        assert!(error.contains(why), "{body}: {error}");
    }
    let not_utf8 = Http::connect(node.addr).unwrap().ask("POST", "/kv", &[], b"{\"key\":\"\xff\",\"value\":\"1\"}");
    not_utf8.unwrap().expect(400);
    assert_eq!(node.get("/kv").json()["items"], json!([]), "nothing was written");
}

#[test]
fn keys_are_limited_and_the_limit_is_told() {
    let (node, _dir) = alone();
    let (longest, too_long) = ("k".repeat(1024), "k".repeat(1025));
    node.set(&longest, "v");
    assert_eq!(node.value(&longest).as_deref(), Some("v"));
    let answers = [
        node.ask("POST", "/kv", &set_body(&too_long, "v")),
        node.ask("POST", "/kv", &set_body(&"é".repeat(513), "v")),
        node.get(&format!("/kv/{too_long}")),
        node.ask("DELETE", &format!("/kv/{too_long}"), ""),
        node.get("/kv/"),
        node.ask("DELETE", "/kv/", ""),
    ];
    for answer in answers {
        assert!(answer.clone().expect(400).error().contains("1 to 1024 bytes"), "{answer:?}");
    }
    assert!(node.get("/kv/%ff").expect(400).error().contains("UTF-8"));
}

#[test]
fn a_percent_sign_that_encodes_no_byte_is_400_and_no_part_of_a_key() {
    let (node, _dir) = alone();
    node.set("%zz", "v");
    node.get("/kv/%25zz").expect(200);
    for wrong in ["%zz", "%", "%4", "a%", "%%41", "%+1", "%e"] {
        for path in [format!("/kv/{wrong}"), format!("/kv?prefix={wrong}"), format!("/kv?after={wrong}")] {
            assert!(node.get(&path).expect(400).error().contains("%25"), "{path}");
        }
        node.ask("DELETE", &format!("/kv/{wrong}"), "").expect(400);
        node.ask("DELETE", &format!("/members/{wrong}"), "").expect(400);
    }
    assert_eq!(node.value("%zz").as_deref(), Some("v"));
}

#[test]
fn what_is_said_twice_is_400_and_nothing_is_done() {
    let (node, _dir) = alone();
    for path in ["/kv?limit=1&limit=2", "/kv?prefix=a&prefix=a", "/kv/a?timeout=1s&timeout=1s"] {
        assert!(node.get(path).expect(400).error().contains("given twice"), "{path}");
    }
    let body = json!({ "key": "a", "value": "v" });
    for headers in [
        ["if-match: \"1\"", "if-match: \"2\""],
        ["if-match: \"1\"", "if-match: \"1\""],
        ["if-none-match: *", "if-none-match: *"],
        ["if-none-match: *", "if-match: \"1\""],
        ["idempotency-key: a:1", "idempotency-key: a:2"],
    ] {
        ask(&node, "POST", "/kv", &headers, &body).expect(400);
        ask(&node, "DELETE", "/kv/a", &headers, &Value::Null).expect(400);
    }
    node.ask("POST", "/kv?timeout=1s&timeout=2s", &body.to_string()).expect(400);
    assert_eq!(node.value("a"), None);
}

#[test]
fn an_array_is_no_body_of_any_request() {
    let (node, _dir) = alone();
    for (path, body) in
        [("/kv", r#"["a","1"]"#), ("/members", r#"["n2","127.0.0.1:1",null]"#), ("/leader", r#"["n1"]"#)]
    {
        assert!(node.ask("POST", path, body).expect(400).error().contains("an object with names"), "{path}");
    }
    assert_eq!(node.get("/members").json()["members"].as_array().map(Vec::len), Some(1));
}

#[test]
fn values_are_limited_to_a_mebibyte_and_the_limit_is_told() {
    let (node, _dir) = alone();
    let largest = "v".repeat(MIB);
    node.set("large", &largest);
    assert!(node.value("large").as_deref() == Some(&largest));
    // The largest body there is: every character escaped.
    let escaped = format!(r#"{{"key":"escaped","value":"{}"}}"#, "\\u0000".repeat(MIB));
    node.ask("POST", "/kv", &escaped).expect(200);
    assert_eq!(node.value("escaped").map(|value| value.len()), Some(MIB));
    let over = node.ask("POST", "/kv", &set_body("over", &"v".repeat(MIB + 1))).expect(413);
    assert!(over.error().contains("1048576 bytes"), "{over:?}");
    let of_2_mb = node.ask("POST", "/kv", &set_body("over", &"v".repeat(2_000_000))).expect(413).error();
    assert_eq!(of_2_mb, "a value has at most 1048576 bytes, this one has 2000000");
    assert_eq!(node.value("over"), None);
    let condition = json!({ "key": "a", "value": "v", "if_value": "v".repeat(MIB + 1) });
    post(&node, &condition).expect(413);
}

#[test]
fn a_body_that_is_announced_as_huge_is_refused_before_it_is_sent() {
    let (node, _dir) = alone();
    let announce = |length: &str| {
        let mut connection = Http::connect(node.addr).unwrap();
        connection.send(format!("POST /kv HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")).unwrap();
        connection.answer(false).unwrap()
    };
    for length in ["6298625", "99999999999", "9223372036854775807"] {
        let answer = announce(length).expect(413);
        let error = answer.error();
        assert!(error.contains(&format!("has {length} bytes")) && error.contains("at most 6298624"), "{error}");
    }
    for length in ["18446744073709551615", "18446744073709551616", "-1", "1x", "1, 2"] {
        let status = announce(length).status; // hyper's own: 431 for what it cannot count, 400 for no number
        assert!(matches!(status, 400 | 431), "{length}: {status}");
    }
    let mut endless = Http::connect(node.addr).unwrap();
    endless.send("POST /kv HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    // The node may hang up while there is still something to send.
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; MIB], b"\r\n"].concat();
    let sent = (0..64).take_while(|_| endless.send(&chunk).is_ok()).count();
    if let Ok(answer) = endless.answer(false) {
        answer.expect(413);
    }
    assert!(sent < 64, "the node read on and on");
    node.set("a", "1");
}

#[test]
fn bad_parameters_are_400_and_name_the_good_ones() {
    let (node, _dir) = alone();
    let rows = [
        ("/kv?limit=0", "from 1 to 1000"),
        ("/kv?limit=1001", "from 1 to 1000"),
        ("/kv?limit=ten", "from 1 to 1000"),
        ("/kv?limit=", "from 1 to 1000"),
        ("/kv?prefx=a", "prefix"),
        ("/kv?prefix=%ff", "UTF-8"),
        ("/kv/a?consistency=eventual", "linearizable or stale"),
        ("/kv/a?consistency=", "linearizable or stale"),
        ("/kv/a?timeout=5", "500ms"),
        ("/kv/a?timeout=0s", "500ms"),
        ("/kv/a?timeout=1ns", "at least 1ms"),
        ("/kv/a?timeout=999us", "at least 1ms"),
        ("/kv/a?timeout=61s", "at most 60s"),
        ("/kv/a?timeout=-1s", "500ms"),
        ("/kv/a?limit=1", "consistency, timeout"),
    ];
    for (path, why) in rows {
        let error = node.get(path).expect(400).error();
        assert!(error.contains(why), "{path}: {error}");
    }
    node.ask("POST", "/kv?consistency=stale", &set_body("a", "1")).expect(400);
    node.ask("DELETE", "/kv/a?timeout=soon", "").expect(400);
    node.ask("POST", "/kv?timeout=soon", &set_body("a", "1")).expect(400);
    assert_eq!(node.value("a"), None);
}

#[test]
fn head_answers_as_get_does_without_the_body() {
    let (node, _dir) = alone();
    node.set("a", "1");
    let mut connection = Http::connect(node.addr).unwrap();
    for (path, status) in
        [("/kv/a", 200), ("/kv/b", 404), ("/kv", 200), ("/status", 200), ("/health", 200), ("/x", 404)]
    {
        let get = connection.ask("GET", path, &[], b"").unwrap().expect(status);
        let head = connection.ask("HEAD", path, &[], b"").unwrap().expect(status);
        assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
    }
}

#[test]
fn requests_in_one_packet_are_answered_in_order() {
    let (node, _dir) = alone();
    let mut connection = Http::connect(node.addr).unwrap();
    let requests = [
        request("POST", "/kv", &[], set_body("a", "1").as_bytes()),
        request("GET", "/kv/a", &[], b""),
        request("POST", "/kv", &[], b"{"),
        request("PUT", "/kv/a", &[], b"ignored"),
        request("DELETE", "/kv/a", &[], b""),
        request("GET", "/kv/a", &[], b""),
    ];
    connection.send(requests.concat()).unwrap();
    for status in [200, 200, 400, 405, 200, 404] {
        connection.answer(false).unwrap().expect(status);
    }
}

#[test]
fn a_body_in_chunks_is_as_good_as_a_whole_one() {
    let (node, _dir) = alone();
    let mut connection = Http::connect(node.addr).unwrap();
    connection.send("POST /kv HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
    for part in [r#"{"key":"#, r#""chunked","#, r#""value":"1"}"#] {
        connection.send(format!("{:x}\r\n{part}\r\n", part.len())).unwrap();
    }
    connection.send("0\r\n\r\n").unwrap();
    connection.answer(false).unwrap().expect(200);
    assert_eq!(connection.ask("GET", "/kv/chunked", &[], b"").unwrap().expect(200).json()["value"], "1");
}

#[test]
fn a_client_that_asks_whether_to_go_on_is_told_to() {
    let (node, _dir) = alone();
    let body = set_body("a", "1");
    let mut connection = Http::connect(node.addr).unwrap();
    let head = format!(
        "POST /kv HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.send(head).unwrap();
    connection.send(body).unwrap();
    connection.answer(false).unwrap().expect(200);
}

#[test]
fn http_1_0_is_answered_and_hung_up_on() {
    let (node, _dir) = alone();
    let mut connection = Http::connect(node.addr).unwrap();
    connection.send("GET /health HTTP/1.0\r\n\r\n").unwrap();
    connection.answer(false).unwrap().expect(200);
    assert_eq!(connection.until_closed().unwrap(), b"");
}

#[test]
fn a_client_that_has_sent_all_it_had_still_gets_its_answer() {
    let (node, _dir) = alone();
    let mut connection = Http::connect(node.addr).unwrap();
    connection.send(request("POST", "/kv", &[], set_body("a", "1").as_bytes())).unwrap();
    connection.finish_sending().unwrap();
    connection.answer(false).expect("`nc -N` shuts down its side after the request").expect(200);
}

#[test]
fn keys_of_any_characters_have_a_path() {
    let (node, _dir) = alone();
    for key in ["a/b", "a b", "%", "%41", "?", "#", "ü", "日本語", "\u{0}", "..", "a+b", "\"", "\\"] {
        node.set(key, "v");
        assert_eq!(node.get(&format!("/kv/{}", encoded(key))).expect(200).json()["key"], key);
        let listed = node.get(&format!("/kv?prefix={}&limit=1", encoded(key))).expect(200).json();
        assert_eq!(listed["items"][0]["key"], key);
        node.ask("DELETE", &format!("/kv/{}", encoded(key)), "").expect(200);
    }
    node.set("a/b/c", "v");
    node.get("/kv/a/b/c").expect(200);
    node.set("a+b", "v");
    node.get("/kv/a+b").expect(200);
}

#[test]
fn the_status_tells_everything_that_is_promised() {
    let (node, _dir) = alone();
    node.set("a", "1");
    node.set("b", "2");
    let mut status = node.get("/status").expect(200).json();
    let mut debug = node.get("/debug").expect(200).json();
    assert_eq!(debug["stateMachine"], json!({ "a": "1", "b": "2" }));
    assert_eq!(debug["stateMachineTruncated"], false);
    for field in ["stateMachine", "stateMachineTruncated"] {
        debug.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(debug, status);
    let version = status.as_object_mut().unwrap().remove("netbelt").unwrap();
    let data_format = status.as_object_mut().unwrap().remove("dataFormat").unwrap();
    assert_eq!((&version, data_format.is_u64()), (&json!(env!("CARGO_PKG_VERSION")), true));
    assert!(status.as_object_mut().unwrap().remove("protocol").unwrap().is_u64());
    let own = json!({ "id": "n1", "addr": node.addr.to_string(), "voter": true, "netbelt": version, "dataFormat": data_format });
    let members = json!([own]);
    for random in ["clusterId", "incarnation"] {
        let token = status.as_object_mut().unwrap().remove(random);
        assert!(token.as_ref().and_then(Value::as_str).is_some_and(|token| token.len() == 16), "{random}: {token:?}");
    }
    let term = status.as_object_mut().unwrap().remove("term").and_then(|term| term.as_u64());
    assert!(term.is_some_and(|term| term >= 1));
    // The leader's first entry, the cluster's id, two writes.
    let expected = json!({
        "nodeId": "n1", "state": "leader", "leaderId": "n1", "votedFor": "n1", "logLength": 4, "firstIndex": 1,
        "lastIndex": 4, "commitIndex": 4, "lastApplied": 4, "snapshotIndex": 0, "members": members, "health": "ok",
        "warnings": [], "keys": 2, "version": 2,
    });
    assert_eq!(status, expected);
    for path in ["/health", "/readyz", "/livez"] {
        assert_eq!(node.get(path).expect(200).json(), json!({ "status": "ok" }));
    }
}

#[test]
fn a_node_without_a_leader_is_alive_and_not_ready_and_warns_of_who_is_away() {
    let (node, _dir) = without_leader();
    assert_eq!(node.get("/livez").expect(200).json(), json!({ "status": "ok" }), "a restart would not help");
    assert_eq!(node.get("/readyz").expect(503).json(), json!({ "status": "no leader" }));
    assert_eq!(node.get("/status").json()["warnings"], json!(["n2 at 127.0.0.1:1 is not connected"]));
    assert!(node.get("/metrics").text().contains("\nnetbelt_raft_warnings 1\n"));
}

#[test]
fn a_member_that_is_refused_is_a_warning_on_both_sides_until_it_is_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::of_three();
    let (leader, victim) = (cluster.leader(), (cluster.leader() + 1) % 3);
    let warnings = |cluster: &Cluster, number: usize| cluster.node(number).get("/status").json()["warnings"].clone();
    eventually("no warnings", || match warnings(&cluster, leader) {
        none if none == json!([]) => Ok(()),
        some => Err(some),
    });
    cluster.kill(victim);
    let data = cluster.dir().join(Cluster::id(victim));
    std::fs::rename(&data, dir.path().join("kept")).unwrap();
    cluster.restart(victim);
    let (id, refuser) = (Cluster::id(victim), Cluster::id(leader));
    eventually("a warning at the leader", || {
        let warnings = warnings(&cluster, leader);
        let is_told =
            warnings[0].as_str().is_some_and(|w| w.starts_with(&format!("{id} at ")) && w.contains("is refused: "));
        if is_told { Ok(()) } else { Err(warnings) }
    });
    eventually("a warning at the one that is refused", || {
        let all = warnings(&cluster, victim);
        let told = all.as_array().unwrap().iter().filter_map(Value::as_str);
        let is_told =
            told.clone().any(|w| w.starts_with(&format!("{refuser} at ")) && w.contains(" refuses this node: "));
        if is_told { Ok(()) } else { Err(all) }
    });
    cluster.kill(victim);
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(dir.path().join("kept"), &data).unwrap();
    cluster.restart(victim);
    for number in [leader, victim] {
        eventually("no warnings", || match warnings(&cluster, number) {
            none if none == json!([]) => Ok(()),
            some => Err(some),
        });
    }
}

#[test]
fn the_metrics_are_prometheus_text() {
    let (node, _dir) = alone();
    node.set("a", "1");
    node.value("a");
    let answer = node.get("/metrics").expect(200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("application/openmetrics-text")));
    let text = answer.text();
    for line in [
        "netbelt_raft_is_leader 1",
        "netbelt_raft_keys 1",
        "netbelt_raft_proposals_total 1",
        "netbelt_raft_reads_total 1",
        "netbelt_raft_forwarded_total 0",
        "netbelt_raft_elections_total 1",
        "netbelt_raft_snapshots_total 0",
        "netbelt_raft_term 1",
        "netbelt_raft_role{role=\"leader\"} 1",
        "netbelt_raft_role{role=\"follower\"} 0",
        "netbelt_raft_commit_index 3",
        "netbelt_raft_apply_lag 0",
        "netbelt_raft_sessions 0",
        "netbelt_raft_members 1",
        "netbelt_raft_log_segments 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    for histogram in ["netbelt_raft_fsync_seconds_bucket{", "netbelt_raft_fsync_entries_bucket{"] {
        assert!(text.contains(histogram), "no {histogram} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn without_a_leader_requests_end_in_503_in_their_time_and_reports_go_on() {
    let (node, _dir) = without_leader();
    let body = set_body("a", "1");
    for answer in [
        node.get("/kv/a?timeout=300ms"),
        node.get("/kv?timeout=300ms"),
        node.ask("POST", "/kv?timeout=300ms", &body),
        node.ask("DELETE", "/kv/a?timeout=300ms", ""),
    ] {
        assert_eq!(answer.clone().expect(503).json(), json!({ "error": "no leader" }));
        assert!(answer.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), "{answer:?}");
    }
    node.get("/kv/a?consistency=stale").expect(404);
    assert_eq!(node.get("/kv?consistency=stale").expect(200).json()["items"], json!([]));
    assert_eq!(node.get("/health").expect(503).json(), json!({ "status": "no leader" }));
    let status = node.get("/status").expect(200).json();
    assert_eq!((&status["leaderId"], &status["health"]), (&Value::Null, &json!("no leader")));
    assert_eq!(status["members"][1], json!({ "id": "n2", "addr": "127.0.0.1:1", "voter": true, "connected": false }));
}

#[test]
fn a_short_timeout_is_kept_behind_a_long_one() {
    let (node, _dir) = without_leader();
    let mut patient = Http::connect(node.addr).unwrap();
    patient.send(request("GET", "/kv/a?timeout=60s", &[], b"")).unwrap();
    eventually("the patient request", || {
        let metrics = node.get("/metrics").text();
        if metrics.contains("netbelt_raft_requests_in_hand 1") { Ok(()) } else { Err(metrics) }
    });
    // The connection itself is patient for 20 s only: far less than 60 s, far more than 300 ms.
    node.get("/kv/b?timeout=300ms").expect(503);
}

// Members

#[test]
fn a_cluster_of_one_tells_its_only_member_and_cannot_lose_it() {
    let (node, _dir) = alone();
    let members = node.get("/members").expect(200).json();
    let member = &members["members"][0];
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1));
    assert_eq!((&member["id"], &member["addr"]), (&json!("n1"), &json!(node.addr.to_string())));
    assert_eq!((&member["voter"], &member["netbelt"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))));
    let refused = node.ask("DELETE", "/members/n1", "").expect(409);
    assert_eq!(refused.error(), "it is the only voter");
    assert_eq!(node.ask("DELETE", "/members/n2", "").expect(404).error(), "it is not a member");
    assert!(node.ask("POST", "/leader", "").expect(409).error().contains("not a voter"));
    let again = json!({ "id": "n1", "addr": node.addr.to_string() }).to_string();
    let again = node.ask("POST", "/members", &again).expect(200).json();
    assert_eq!((&again["voter"], again["cluster"].as_str().map(str::len)), (&json!(true), Some(16)), "{again}");
}

#[test]
fn without_a_leader_the_members_are_told_only_as_the_node_remembers_them() {
    let (node, _dir) = without_leader();
    assert_eq!(node.get("/members?timeout=300ms").expect(503).error(), "no leader");
    let members = node.get("/members?consistency=stale").expect(200).json();
    assert_eq!(members["members"][1], json!({ "id": "n2", "addr": "127.0.0.1:1", "voter": true, "connected": false }));
    node.get("/members?consistency=old").expect(400);
    node.get("/members?prefix=n").expect(400);
}

#[test]
fn a_node_in_no_cluster_says_so_at_once_to_who_asks_for_its_members() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = node_in(dir.path(), "n4");
    command.args(["--join", "127.0.0.1:1"]);
    let node = Node::start(command);
    let member = json!({ "id": "n5", "addr": "127.0.0.1:2" }).to_string();
    for (method, path, body) in [
        ("GET", "/members?timeout=60s", ""),
        ("POST", "/members?timeout=60s", member.as_str()),
        ("DELETE", "/members/n1?timeout=60s", ""),
        ("POST", "/leader?timeout=60s", ""),
    ] {
        let answer = node.ask(method, path, body).expect(503);
        assert!(answer.error().contains("n4 is not in a cluster"), "{method} {path}: {answer:?}");
        assert!(answer.header("retry-after").is_some(), "{method} {path}");
    }
    assert_eq!(node.get("/members?consistency=stale").expect(200).json(), json!({ "members": [] }));
}

#[test]
fn nobody_is_added_where_another_member_is_and_a_member_that_is_there_is_not_moved() {
    let (node, _dir) = alone();
    let own = node.addr.to_string();
    let add = |id: &str, addr: &str| node.ask("POST", "/members", &json!({ "id": id, "addr": addr }).to_string());
    let refused = |id: &str, addr: &str, texts: [&str; 2]| {
        let answer = add(id, addr).expect(409);
        assert!(texts.iter().all(|text| answer.error().contains(text)), "{id} at {addr}: {answer:?}");
    };
    refused("n2", &own, ["the address of n1", "raft-ctl members remove n1"]);
    add("n2", "127.0.0.1:1").expect(201);
    add("n2", "127.0.0.1:1").expect(200);
    refused("n3", "127.0.0.1:1", ["the address of n2", "raft-ctl members remove n2"]);
    add("n2", "127.0.0.1:2").expect(200); // it does not run: the address may have been wrong
    add("n3", "127.0.0.1:1").expect(201);
    refused("n1", "127.0.0.1:3", ["n1 is a member, and connected at", "another name"]);
    let members = node.get("/members").expect(200).json();
    let addrs: Vec<_> = members["members"].as_array().unwrap().iter().map(|member| &member["addr"]).collect();
    assert_eq!(addrs, [own.as_str(), "127.0.0.1:2", "127.0.0.1:1"]);
}

#[test]
fn a_bad_request_for_a_member_is_refused_and_changes_nothing() {
    let (node, _dir) = alone();
    for (body, why) in [
        ("", "bad JSON"),
        ("{", "bad JSON"),
        (r#"{"id":"n2"}"#, "addr"),
        (r#"{"id":"n2","addr":"127.0.0.1:1","vote":true}"#, "vote"),
        (r#"{"id":"a b","addr":"127.0.0.1:1"}"#, "cannot name a node"),
        (r#"{"id":"n2","addr":"127.0.0.1"}"#, "HOST:PORT"),
        (r#"{"id":"n2","addr":"127.0.0.1:0"}"#, "HOST:PORT"),
        (r#"{"id":"n2","addr":"a#b:1"}"#, "HOST:PORT"),
        (r#"{"id":"n2","addr":"127.0.0.1:1","incarnation":"7"}"#, "16 hexadecimal digits"),
    ] {
        let answer = node.ask("POST", "/members", body).expect(400);
        assert!(answer.error().contains(why), "{body}: {answer:?}");
    }
    assert!(node.ask("POST", "/leader", r#"{"to":7}"#).expect(400).error().contains("bad JSON"));
    node.ask("DELETE", "/members/%ff", "").expect(400);
    for (method, path, allowed) in
        [("PUT", "/members", "GET, HEAD, POST"), ("GET", "/leader", "POST"), ("GET", "/members/n1", "DELETE")]
    {
        assert_eq!(node.ask(method, path, "").expect(405).header("allow"), Some(allowed), "{method} {path}");
    }
    assert_eq!(node.get("/members").json()["members"].as_array().map(Vec::len), Some(1));
}
