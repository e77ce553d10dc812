//! What is lost is counted.

use super::{listener, send, summary};

#[test]
fn what_came_and_what_was_dropped_is_all_that_was_sent() {
    for mode in [&["--rcvbuf", "16KiB"][..], &["--rcvbuf", "16KiB", "--quiet"]] {
        let mut server = listener(mode);
        server.process.signal("STOP");
        send(&[&server.addr.to_string(), "--size", "64", "--count", "5000"]).expect(0);
        server.process.signal("CONT");
        let summary = summary(&mut server);
        let [packets, dropped] = ["packets", "dropped"].map(|field| summary[field].as_u64().unwrap());
        assert!(packets > 0 && dropped > 0, "{summary}");
        assert_eq!(packets + dropped, 5000, "{summary}");
        if mode.len() == 2 {
            server.process.err.line_with("--rcvbuf");
        }
    }
}

#[test]
fn a_thousand_in_one_blast_are_not_too_many() {
    let mut server = listener(&[]);
    let sent = send(&["--json", &server.addr.to_string(), "--size", "64", "--count", "1000"]).expect(0).json();
    assert_eq!((&sent["sent"], &sent["bytes"]), (&1000.into(), &64_000.into()));
    let summary = summary(&mut server);
    assert_eq!(
        (&summary["packets"], &summary["bytes"], &summary["dropped"]),
        (&1000.into(), &64_000.into(), &0.into())
    );
    let packets = super::events(&server.process, "packet");
    for (number, packet) in packets.iter().enumerate() {
        let expected = format!("{:.<64}", number + 1);
        assert_eq!(packet["text"], expected);
    }
}
