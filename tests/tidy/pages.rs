//! What the pages name is there: files, links, headings and modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

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

/// Whether a module path such as `net::driver` leads to a module, or to a word that its last module says. What begins with no
/// module of ours is of another crate.
fn leads_somewhere(path: &str, library: &[crate::File]) -> bool {
    let path: Vec<_> = path.split("::").collect();
    let starts = library.iter().filter(|file| file.module.last().is_some_and(|last| last == path[0]));
    let mut starts = starts.peekable();
    starts.peek().is_none()
        || starts.any(|start| {
            let inside = |file: &crate::File, long: usize| {
                file.module.starts_with(&start.module) && file.module[start.module.len()..].iter().eq(&path[1..long])
            };
            (1..=path.len()).rev().any(|long| {
                let mut at_home = library.iter().filter(|file| inside(file, long));
                at_home.any(|file| long == path.len() || file.tokens.iter().any(|token| token.text == path[long]))
            })
        })
}

#[test]
fn what_pages_name_is_there() {
    let tree = tree();
    let library = library(true);
    let mut wrong = Vec::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap();
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
            let is_path = word.contains("::") && word.starts_with(|first: char| first.is_ascii_lowercase());
            if is_path && !leads_somewhere(word, &library) {
                missing.insert(word.to_owned());
            }
        }
        for link in links(&page) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
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
