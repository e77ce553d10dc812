//! What is refused, and the limits that are told.

use serde_json::{Value, json};

use super::{MIB, alone, ask, post};
use crate::common::http::{Http, set_body};

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
