//! Keys: written, read, listed, deleted, under conditions and once.

use serde_json::{Value, json};

use super::{alone, ask, post};
use crate::common::http::encoded;

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
