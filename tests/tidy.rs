//! The form of the code itself: who may import whom, and what a protocol room may not touch.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room and the rooms it may import. A room that is missing here is a mistake; so is a room that is gone.
const ROOMS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("node_id", &[]),
    ("quorum", &[]),
    ("defaults", &[]),
    ("threads", &[]),
    ("wire", &["defaults"]),
    ("host", &["protocol", "defaults"]),
    ("founding", &[]),
    ("raft", &["protocol", "defaults", "node_id", "quorum", "wire"]),
    ("bully", &["protocol", "defaults", "quorum", "wire"]),
    ("kv", &["protocol", "defaults", "node_id", "raft", "wire"]),
    ("sim", &["protocol", "founding", "host", "kv", "node_id", "raft"]),
    ("net", &["protocol", "defaults", "founding", "host", "threads", "wire"]),
    ("http", &["defaults", "kv", "net", "node_id", "raft", "wire"]),
    ("echo", &["defaults", "net", "threads", "wire"]),
    ("datagram", &["defaults", "net", "threads"]),
    ("pool", &["defaults", "threads"]),
    ("cli", &["threads"]),
    (
        "tools",
        &[
            "cli", "datagram", "defaults", "echo", "http", "kv", "net", "node_id", "pool", "raft", "sim", "threads",
            "wire",
        ],
    ),
];

/// Rooms whose machines do no I/O, read no clock, draw no entropy and keep no unordered map.
const PURE: &[&str] = &["protocol", "node_id", "quorum", "wire", "host", "founding", "raft", "bully", "kv"];

const IMPURE: &[&str] = &[
    "tokio",
    "std::fs",
    "std::net",
    "std::io",
    "std::thread",
    "std::time::Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "getrandom",
    "hyper",
    "std::env",
    "std::process",
    "println!",
    "std::sync",
];

/// A file of more lines than this hardly holds one idea.
const LONGEST: usize = 700;

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Every source file by room, with its text: comments and the tests at its end left out.
fn rooms() -> BTreeMap<String, Vec<(PathBuf, String)>> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut rooms: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).unwrap();
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
        if room == "lib"
            || room == "bin"
            || inside.ends_with("tests.rs")
            || inside.components().any(|part| part.as_os_str() == "tests")
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        rooms.entry(room).or_default().push((path, code.join("\n")));
    }
    rooms
}

#[test]
fn rooms_import_only_the_rooms_they_may() {
    let rooms = rooms();
    let known: Vec<_> = ROOMS.iter().map(|(room, _)| *room).collect();
    let found: Vec<_> = rooms.keys().map(String::as_str).collect();
    let mut sorted = known.clone();
    sorted.sort_unstable();
    assert_eq!(found, sorted, "the rooms in src/ are the rooms listed here");

    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        for (path, code) in &rooms[*room] {
            for import in code.split("crate::").skip(1) {
                let target: String = import.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                if known.contains(&target.as_str()) && target != *room && !allowed.contains(&target.as_str()) {
                    wrong.push(format!("{} imports {target}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn protocol_rooms_touch_no_clock_no_disk_no_network_and_no_unordered_map() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for room in PURE {
        for (path, code) in &rooms[*room] {
            wrong.extend(
                IMPURE.iter().filter(|bad| code.contains(**bad)).map(|bad| format!("{}: {bad}", path.display())),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_is_too_long_to_hold_in_the_head() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    let long: Vec<_> = sources(&src).into_iter().filter(|path| lines(path) > LONGEST).collect();
    assert!(long.is_empty(), "more than {LONGEST} lines: {long:#?}");
}

#[test]
fn binaries_only_parse_and_call_the_library() {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    for path in sources(&bin) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 99, "{} has {lines} lines", path.display());
    }
}
