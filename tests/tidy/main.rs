//! The form of the code itself: who may import whom, and what a protocol room may not touch.

mod circles;
mod pages;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use circles::{Circle, Crate};
use source::{File, Named, reached_from};

/// Each room and the rooms it may import, lowest floor first: a room imports only what stands above its row. A folder or a
/// file in a room may have a row of its own (`sim/raft`); the rest of the room may then import it only if its row says so, so
/// that what is generic knows no Raft. A room that is missing here is a mistake; so is one that is gone, and a permission that
/// nothing uses.
const ROOMS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("node_id", &[]),
    ("quorum", &[]),
    ("defaults", &[]),
    ("deadlines", &["protocol"]),
    ("threads", &[]),
    ("wire", &[]),
    ("host", &["defaults", "protocol"]),
    ("founding", &[]),
    ("raft", &["defaults", "node_id", "protocol", "quorum", "wire"]),
    ("bully", &["defaults", "protocol", "quorum", "wire"]),
    ("kv", &["defaults", "wire"]),
    ("kv/raft_kv", &["deadlines", "defaults", "kv", "node_id", "protocol", "raft", "wire"]),
    ("sim", &["host", "protocol"]),
    ("sim/raft", &["founding", "host", "kv", "kv/raft_kv", "node_id", "protocol", "raft", "sim"]),
    ("net", &["defaults", "founding", "host", "protocol", "threads", "wire"]),
    ("http", &["defaults", "net", "node_id", "protocol", "wire"]),
    ("http/kv", &["defaults", "http", "kv", "net", "protocol", "wire"]),
    ("http/raft", &["defaults", "http", "http/kv", "kv", "kv/raft_kv", "net", "node_id", "raft"]),
    ("echo", &["defaults", "net", "threads", "wire"]),
    ("datagram", &["defaults", "net"]),
    ("pool", &["defaults", "threads"]),
    ("cli", &["threads"]),
    ("tools", &["cli", "datagram", "net", "threads"]),
    ("tools/node", &["cli", "net", "tools", "wire"]),
    ("tools/netsim/draw", &["cli"]),
    ("tools/netsim/results", &["cli", "sim"]),
    ("tools/netsim/sweep", &["cli", "sim", "threads", "tools/netsim/results"]),
    ("tools/netsim", &["cli", "sim", "sim/raft", "tools/netsim/draw", "tools/netsim/results", "tools/netsim/sweep"]),
    ("tools/backup_target", &["cli", "kv"]),
    (
        "tools/raft_node",
        &[
            "cli",
            "datagram",
            "defaults",
            "http",
            "http/raft",
            "kv",
            "kv/raft_kv",
            "net",
            "node_id",
            "raft",
            "tools",
            "tools/backup_target",
            "tools/node",
            "wire",
        ],
    ),
    (
        "tools/raft_ctl",
        &[
            "cli",
            "defaults",
            "http",
            "http/kv",
            "http/raft",
            "kv",
            "node_id",
            "threads",
            "tools",
            "tools/backup_target",
            "wire",
        ],
    ),
    ("tools/tcp_echo", &["cli", "defaults", "echo", "net", "threads", "tools", "wire"]),
    ("tools/udp_listen", &["cli", "datagram", "defaults", "net", "threads", "tools"]),
    ("tools/udp_send", &["cli", "datagram", "defaults", "threads", "tools"]),
    ("tools/worker_pool", &["cli", "defaults", "pool", "threads", "tools"]),
];

/// Rooms whose machines do no I/O, read no clock, draw no entropy and keep no unordered map.
const PURE: &[&str] =
    &["protocol", "deadlines", "node_id", "quorum", "wire", "host", "founding", "raft", "bully", "kv", "kv/raft_kv"];

/// Words and paths. An address is a value, so `std::net` stays open but for what opens sockets or looks up names.
const IMPURE: &[&str] = &[
    "tokio",
    "hyper",
    "rustix",
    "nix",
    "socket2",
    "getrandom",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "std::sync",
    "std::thread",
    "std::os",
    "std::time::Instant",
    "SystemTime",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "ToSocketAddrs",
    "HashMap",
    "HashSet",
    "println",
    "eprintln",
];

/// A file of more lines than this hardly holds one idea.
const LONGEST: usize = 700;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below `dir` whose name ends in `.extension`, in order.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The library's files but for its root, with or without what only tests see.
fn library(with_tests: bool) -> Vec<File> {
    let mut files = reached_from(&root().join("src/lib.rs"), &[], with_tests);
    files.remove(0);
    for file in &mut files {
        file.path = file.path.strip_prefix(root()).unwrap().to_owned();
    }
    files
}

/// The row of ROOMS that a module belongs to: the longest that names it or a folder around it.
fn room_of(module: &[String]) -> Option<&'static str> {
    let rooms = ROOMS.iter().map(|(room, _)| *room);
    let around = rooms
        .filter(|room| room.split('/').count() <= module.len() && room.split('/').zip(module).all(|(a, b)| a == b));
    around.max_by_key(|room| room.len())
}

/// The other room that a file of `room` imports by this name: where it is defined, whoever hands it on. A room may hand on
/// what is defined in a room inside it.
fn imported(named: &Named, room: &str, library: &Crate<'_>) -> Option<&'static str> {
    let (module, _) = library.home(&named.path, 0)?;
    let is_inside = |target: &str| target.strip_prefix(room).is_some_and(|rest| rest.starts_with('/'));
    room_of(module).filter(|target| *target != room && !(named.handed_on && is_inside(target)))
}

#[test]
fn rooms_import_only_the_rooms_they_may() {
    let library = library(false);
    let found: BTreeSet<_> = library.iter().map(|file| room_of(&file.module).ok_or(&file.path)).collect();
    let rows: BTreeSet<_> = ROOMS.iter().map(|(room, _)| Ok(*room)).collect();
    assert_eq!(found, rows, "the rooms in src/ are the rooms listed here");

    let mut wrong = Vec::new();
    let mut unused: BTreeSet<_> =
        ROOMS.iter().flat_map(|(room, allowed)| allowed.iter().map(move |other| (*room, *other))).collect();
    for (at, (room, allowed)) in ROOMS.iter().enumerate() {
        let above = |other: &&str| ROOMS[..at].iter().any(|(room, _)| room == other);
        wrong.extend(allowed.iter().filter(|other| !above(other)).map(|other| format!("{room} stands above {other}")));
    }
    let library = Crate::new(&library);
    for (file, names) in library.files() {
        let room = room_of(&file.module).unwrap();
        let (_, allowed) = ROOMS.iter().find(|(row, _)| *row == room).unwrap();
        let mut imports: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (named, other) in names.iter().filter_map(|named| Some((named, imported(named, room, &library)?))) {
            imports.entry(other).or_default().push(named.line);
        }
        for (other, mut lines) in imports {
            unused.remove(&(room, other));
            lines.sort_unstable();
            lines.dedup();
            if !allowed.contains(&other) {
                wrong.push(format!("{} imports {other}: lines {lines:?}", file.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(unused.is_empty(), "permissions that nothing uses: {unused:#?}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let library = library(false);
    let wrong: Vec<_> = Crate::new(&library).circles().iter().map(Circle::to_string).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn protocol_rooms_touch_no_clock_no_disk_no_network_and_no_unordered_map() {
    let library = library(false);
    let mut wrong = BTreeSet::new();
    for (file, names) in Crate::new(&library).files() {
        if !room_of(&file.module).is_some_and(|room| PURE.contains(&room)) {
            continue;
        }
        for bad in IMPURE {
            let path: Vec<_> = bad.split("::").collect();
            let words = file.tokens.iter().filter(|token| token.text == *bad).map(|token| token.line);
            let paths = names.iter().filter(|named| {
                named.path.len() >= path.len() && path.iter().zip(&named.path).all(|(bad, name)| bad == name)
            });
            let lines = words.chain(paths.map(|named| named.line));
            wrong.extend(lines.map(|line| format!("{}:{line}: {bad}", file.path.display())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_protocol_stands_in_a_room_that_is_kept_pure() {
    let is_protocol = |two: &[source::Token]| two[0].text == "Protocol" && two[1].text == "for";
    let library = library(false);
    let protocols = library.iter().filter(|file| file.tokens.windows(2).any(is_protocol));
    let (pure, wrong): (Vec<_>, Vec<_>) =
        protocols.partition(|file| room_of(&file.module).is_some_and(|room| PURE.contains(&room)));
    let wrong: Vec<_> = wrong.iter().map(|file| &file.path).collect();
    assert!(wrong.is_empty() && pure.len() >= 2, "a protocol outside of PURE: {wrong:?}");
}

#[test]
fn every_source_file_is_named_by_a_mod() {
    let mut tops = vec![root().join("src/lib.rs")];
    tops.extend(files(&root().join("src/bin"), "rs"));
    for entry in fs::read_dir(root().join("tests")).unwrap() {
        let path = entry.unwrap().path();
        tops.push(if path.is_dir() { path.join("main.rs") } else { path });
    }
    let tops = tops.iter().filter(|top| top.extension().is_some_and(|extension| extension == "rs") && top.exists());
    let named: BTreeSet<_> =
        tops.flat_map(|top| reached_from(top, &[], true)).map(|file| file.path.canonicalize().unwrap()).collect();
    let mut stray = files(&root().join("src"), "rs");
    stray.extend(files(&root().join("tests"), "rs"));
    stray.retain(|path| !named.contains(&path.canonicalize().unwrap()));
    assert!(stray.is_empty(), "{stray:#?}");
    let folder = |path: &Path| path.file_name().is_some_and(|name| name != "main.rs").then(|| path.with_extension(""));
    let beside = |path: &&PathBuf| folder(path).is_some_and(|dir| dir.is_dir() && !files(&dir, "rs").is_empty());
    let beside: Vec<_> = named.iter().filter(beside).collect();
    assert!(beside.is_empty(), "a module with a folder is the folder's mod.rs: {beside:#?}");
}

#[test]
fn no_file_is_too_long_to_hold_in_the_head() {
    let lines = |path: &Path| fs::read_to_string(path).unwrap().lines().count();
    let all = ["src", "tests", "benches"].into_iter().flat_map(|dir| files(&root().join(dir), "rs"));
    let long: Vec<_> = all.filter(|path| lines(path) > LONGEST).collect();
    assert!(long.is_empty(), "more than {LONGEST} lines: {long:#?}");
}

#[test]
fn binaries_only_parse_and_call_the_library() {
    for path in files(&root().join("src/bin"), "rs") {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 99, "{} has {lines} lines", path.display());
    }
}
