//! Requests as HTTP has them, whatever they ask for.

use super::alone;
use crate::common::http::{Http, request, set_body};

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
