//! What the pages name is there: files, links, headings and modules.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use crate::source::{File, Named, Token, is_word};
use crate::{files, library, root};

/// Folders whose files a page names from the repository's root.
const FOLDERS: &[&str] = &["benches/", "docs/", "scripts/", "src/", "tests/"];

/// The words of `text`, without the marks of a page or a sentence around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|char: char| char.is_whitespace() || "`()[]<>{}\"'|,;".contains(char));
    words.map(|word| word.trim_start_matches("./").trim_end_matches(['.', ':', '/']))
}

/// What stands between single backticks, outside of blocks.
fn quoted(page: &str) -> impl Iterator<Item = &str> {
    let outside = page.split("\n```").step_by(2);
    outside.flat_map(|text| text.split('`').skip(1).step_by(2)).filter(|text| !text.contains('\n'))
}

/// The targets of the page's links.
fn links(page: &str) -> impl Iterator<Item = &str> {
    page.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains("://"))
}

/// The anchor of every heading, as GitHub spells it.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let kept = |char: &char| char.is_alphanumeric() || "-_ ".contains(*char);
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>())
        .map(|heading| heading.replace(' ', "-"))
        .collect()
}

/// Every file and folder that a page may name.
fn tree() -> Vec<String> {
    let mut found = Vec::new();
    let mut dirs = vec![root().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let inside = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if inside.starts_with(".git") || inside == "target" {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            }
            found.push(inside);
        }
    }
    found
}

fn pages() -> Vec<PathBuf> {
    let mut pages = files(&root().join("docs"), "md");
    pages.extend(["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(|page| root().join(page)));
    pages
}

/// The crates that a page may name: those of Cargo.toml, and Rust's own.
fn foreign() -> BTreeSet<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let tables = manifest.split("\n[").filter(|table| table.split(']').next().unwrap().ends_with("dependencies"));
    let crates = tables.flat_map(str::lines).filter_map(|line| line.split_once(" = "));
    crates.map(|(name, _)| name.replace('-', "_")).chain(["core", "std"].map(str::to_owned)).collect()
}

/// The parts of a path such as `net::driver` or `Log::append`; nothing for another word, nor for an address.
fn path(word: &str) -> Option<Vec<&str>> {
    let parts: Vec<_> = word.split("::").collect();
    let is_name = |part: &&str| is_word(part) && part.chars().all(|char| char.is_alphanumeric() || char == '_');
    (parts.len() > 1 && parts.iter().all(is_name) && word.parse::<Ipv6Addr>().is_err()).then_some(parts)
}

/// Whether the file defines `name`, or hands it on.
fn offers(file: &File, name: &str) -> bool {
    let handed_on = |named: &Named| named.handed_on && named.alias.as_deref() == Some(name);
    file.defines(name)
        || file.tokens.iter().any(|token| token.text == name) && file.names(&BTreeSet::new()).iter().any(handed_on)
}

/// Whether `item` is a method, a variant, a constant or a field of `of`: a file that defines or extends the one names the other.
fn has(of: &str, item: &str, library: &[File]) -> bool {
    let homes = library.iter().filter(|file| file.defines(of) || file.extended().contains(of));
    let is_told = |two: &[Token]| two[1].text == item && !matches!(two[0].text.as_str(), "." | "::");
    homes.into_iter().any(|file| file.tokens.windows(2).any(is_told))
}

/// Whether a path leads to a module, to an item that its last module defines or hands on, or to what belongs to such an item.
/// The modules are as many as there can be. A path may begin anywhere in the crate, or with a type.
fn leads_somewhere(path: &[&str], library: &[File], foreign: &BTreeSet<String>) -> bool {
    if foreign.contains(path[0]) {
        return true;
    }
    let starts = library.iter().filter(|file| file.module.last().is_some_and(|last| last == path[0]));
    let ends = starts.flat_map(|start| {
        library.iter().filter_map(|file| {
            let below = file.module.strip_prefix(start.module.as_slice())?;
            path[1..]
                .starts_with(&below.iter().map(String::as_str).collect::<Vec<_>>())
                .then_some((1 + below.len(), file))
        })
    });
    let mut ends: Vec<_> = ends.collect();
    let long = ends.iter().map(|(long, _)| *long).max().unwrap_or(0);
    ends.retain(|(of, _)| *of == long);
    let item = path.get(long);
    let is_there = item.is_none_or(|item| match ends.as_slice() {
        [] => library.iter().any(|file| offers(file, item)),
        ends => ends.iter().any(|(_, file)| offers(file, item)),
    });
    is_there && path[long..].windows(2).all(|two| has(two[0], two[1], library))
}

#[test]
fn what_pages_name_is_there() {
    let tree = tree();
    let (library, foreign) = (library(true), foreign());
    let mut wrong = Vec::new();
    for at in pages() {
        let page = fs::read_to_string(&at).unwrap();
        let name = at.strip_prefix(root()).unwrap().to_str().unwrap();
        let mut missing = BTreeSet::new();
        for word in words(&page).filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder))) {
            let named = word.split(['#', '*']).next().unwrap().trim_end_matches('/');
            if !tree.iter().any(|file| file == named || word.contains('*') && file.starts_with(named)) {
                missing.insert(word.to_owned());
            }
        }
        for word in quoted(&page).flat_map(words) {
            let is_source = [".rs", ".sh"].iter().any(|end| word.len() > end.len() && word.ends_with(end));
            if is_source && !tree.iter().any(|file| Path::new(file).ends_with(word)) {
                missing.insert(word.to_owned());
            }
            if path(word).is_some_and(|path| !leads_somewhere(&path, &library, &foreign)) {
                missing.insert(word.to_owned());
            }
        }
        for link in links(&page) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { at.clone() } else { at.parent().unwrap().join(file) };
            let is_there = match fs::read_to_string(&target) {
                Ok(text) => anchor.is_empty() || anchors(&text).contains(anchor),
                Err(_) => target.is_dir(),
            };
            if !is_there {
                missing.insert(format!("link to {link}"));
            }
        }
        if !missing.is_empty() {
            wrong.push((name.to_owned(), missing));
        }
    }
    assert!(wrong.is_empty(), "named and not there: {wrong:#?}");
}

#[test]
fn a_path_that_leads_nowhere_is_found() {
    let (library, foreign) = (library(true), foreign());
    let leads = |word: &str| leads_somewhere(&path(word).unwrap(), &library, &foreign);
    let there =
        ["net::driver", "net::disk::Log", "driver::Handle", "raft::Raft::step", "Log::append", "tokio::net::Any"];
    for word in there {
        assert!(leads(word), "{word} is there");
    }
    let gone = [
        "wire::raft",
        "net::disk::beginning",
        "story::Band",
        "kv::raft_kv::nowhere",
        "net::disk::ANYTHING",
        "net::nowhere::Log",
        "Raft::gathers",
        "raft::Raft::gathers",
        "Nobody::step",
        "net::disk::Log::gathers",
    ];
    for word in gone {
        assert!(!leads(word), "{word} is not there");
    }
    let no_paths = ["ff02::fb", "fe80::1", "::1", "net", "a::b-c"];
    assert!(no_paths.iter().all(|word| path(word).is_none()));
}
