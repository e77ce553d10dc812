//! Which file uses which, and the circles among them: A uses B, and B uses A by whatever way.
//!
//! A file uses another if it names something that is defined there; a name that a `mod.rs` only hands on is looked up where
//! it comes from. Two things are no use: a `pub use`, and a child's `impl` of its parent's type (`use super::Raft; impl Raft`):
//! one type in several files, each with some of its methods, is one thing told in parts, and its parts are exempt. A glob uses
//! the file it is of, whatever it takes from there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::source::{File, Named, tokens, without_tests};

/// The crate's files, by module, with what each names.
pub(crate) struct Crate<'a> {
    files: BTreeMap<&'a [String], (&'a File, Vec<Named>)>,
}

/// File A, file B, and the lines of A that name something of B.
type Uses<'a> = BTreeMap<(&'a [String], &'a [String]), BTreeMap<String, usize>>;

impl<'a> Crate<'a> {
    pub(crate) fn new(files: &'a [File]) -> Self {
        let modules = files.iter().map(|file| file.module.clone()).collect();
        let files = files.iter().map(|file| (file.module.as_slice(), (file, file.names(&modules))));
        Self { files: files.collect() }
    }

    /// Every file with what it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'a File, &[Named])> {
        self.files.values().map(|(file, names)| (*file, names.as_slice()))
    }

    /// The module in which `path` is defined, and what is left of the path there.
    pub(crate) fn home<'p>(&self, path: &'p [String], depth: usize) -> Option<(&'a [String], &'p [String])> {
        let path = path.strip_prefix(&["crate".to_owned()])?;
        let long = (0..=path.len()).rev().find(|long| self.files.contains_key(&path[..*long]))?;
        let (module, (_, names)) = self.files.get_key_value(&path[..long])?;
        let rest = &path[long..];
        let Some(name) = rest.first().filter(|name| *name != "*") else { return Some((module, rest)) };
        let handed = names.iter().find(|named| named.alias.as_ref() == Some(name));
        match handed {
            Some(handed) if depth < 9 && handed.path[0] == "crate" => {
                let (module, left) = self.home(&handed.path, depth + 1)?;
                // What is left of the way that the name was handed on is the name itself, or nothing: a module.
                Some((module, if left.is_empty() { &rest[1..] } else { rest }))
            }
            Some(_) => None,
            None if depth < 9 && !self.files[module].0.defines(name) => {
                let globs = names.iter().filter_map(|named| named.path.strip_suffix(&["*".to_owned()]));
                let mut homes =
                    globs.filter_map(|glob| self.home(&[glob, &rest[..1]].concat(), depth + 1).map(|home| home.0));
                Some((homes.find(|home| self.files[home].0.defines(name)).unwrap_or(*module), rest))
            }
            None => Some((module, rest)),
        }
    }

    /// Who uses whom.
    fn uses(&self) -> Uses<'a> {
        let mut uses = Uses::new();
        let macros: BTreeMap<_, _> = self
            .files
            .values()
            .flat_map(|(file, _)| file.macros().map(move |name| (name, file.module.as_slice())))
            .collect();
        for (&module, (file, names)) in &self.files {
            for two in file.tokens.windows(2).filter(|two| two[1].text == "!") {
                if let Some(&home) = macros.get(two[0].text.as_str()).filter(|home| **home != module) {
                    let lines = uses.entry((module, home)).or_default();
                    lines.entry(format!("{}!", two[0].text)).or_insert(two[0].line);
                }
            }
            let extended = file.extended();
            for named in names {
                let Some((home, rest)) = self.home(&named.path, 0) else { continue };
                let Some(item) = rest.first() else { continue };
                let parent = module.split_last().map(|(_, parent)| parent);
                let is_part = parent == Some(home) && extended.contains(item.as_str());
                let is_handed_on = named.handed_on && !named.alias.as_ref().is_some_and(|alias| file.says(alias));
                if home != module && !is_part && !is_handed_on {
                    let lines = uses.entry((module, home)).or_default();
                    lines.entry(item.clone()).or_insert(named.line);
                }
            }
        }
        uses
    }

    /// The sets of files each of which uses, in the end, itself; each told with the lines that close the circle.
    pub(crate) fn circles(&self) -> Vec<Circle<'a>> {
        let uses = self.uses();
        let reached: BTreeMap<_, _> = self.files.keys().map(|from| (*from, reach(from, &uses))).collect();
        let mut circles = Vec::new();
        let mut seen = BTreeSet::new();
        for (&from, reached_from) in &reached {
            let round: BTreeSet<_> = reached_from.iter().copied().filter(|to| reached[to].contains(from)).collect();
            if round.is_empty() || !seen.insert(round.clone()) {
                continue;
            }
            let inside = |(from, to): &(_, _)| round.contains(from) && round.contains(to);
            let lines = uses.iter().filter(|(two, _)| inside(two)).map(|((from, to), lines)| {
                let lines: Vec<_> = lines.iter().map(|(item, line)| format!("{item} (line {line})")).collect();
                format!("{} uses {}: {}", self.path(from).display(), self.path(to).display(), lines.join(", "))
            });
            let lines = lines.collect();
            circles.push(Circle { files: round.into_iter().map(|module| self.path(module)).collect(), lines });
        }
        circles
    }

    fn path(&self, module: &[String]) -> &'a Path {
        &self.files[module].0.path
    }
}

/// Files that use each other.
pub(crate) struct Circle<'a> {
    pub(crate) files: Vec<&'a Path>,
    /// For each two of them what the one names of the other.
    lines: Vec<String>,
}

impl fmt::Display for Circle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} files in a circle:", self.files.len())?;
        self.lines.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// The files that `from` uses, and those that they use, and so on.
fn reach<'a>(from: &'a [String], uses: &Uses<'a>) -> BTreeSet<&'a [String]> {
    let mut reached = BTreeSet::new();
    let mut next = vec![from];
    while let Some(from) = next.pop() {
        next.extend(uses.keys().filter(|(user, to)| *user == from && reached.insert(*to)).map(|(_, to)| *to));
    }
    reached
}

/// A made-up crate of the files given as module and text: the circles in it.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<_> = files
        .iter()
        .map(|(module, text)| File {
            path: format!("{module}.rs").into(),
            module: module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect(),
            tokens: without_tests(&tokens(text)),
        })
        .collect();
    Crate::new(&files).circles().iter().map(Circle::to_string).collect()
}

#[test]
fn two_files_that_use_each_other_are_a_circle_told_with_its_lines() {
    let circles = circles_of(&[
        ("", "mod room;"),
        ("room", "mod desk; mod lamp; pub use lamp::Lamp;"),
        ("room::desk", "use super::{Lamp, chair::Leg};\n\nfn on(lamp: &Lamp) {}"),
        ("room::lamp", "// A lamp.\npub struct Lamp;\nfn under() { crate::room::desk::on(&Lamp) }"),
    ]);
    let told = "2 files in a circle:\n    room::desk.rs uses room::lamp.rs: Lamp (line 1)\n    \
                room::lamp.rs uses room::desk.rs: on (line 3)\n";
    assert_eq!(circles, [told], "a name that the parent hands on belongs to the file that defines it");
}

#[test]
fn a_child_that_uses_what_its_parent_defines_is_a_circle_if_the_parent_uses_the_child() {
    let parent = "mod child;\nuse child::Toy;\npub struct Home { toy: Toy }\npub struct Street;";
    let circle = circles_of(&[("", ""), ("home", parent), ("home::child", "use super::Street;\npub struct Toy;")]);
    assert_eq!(circle.len(), 1, "{circle:?}");
    let part = "use super::Home;\npub struct Toy;\nimpl<'a> Home {\n fn play(&self) -> Home { Home::new() }\n}";
    assert_eq!(circles_of(&[("", ""), ("home", parent), ("home::child", part)]), [""; 0], "one type in two files");
    let cousin = [("", ""), ("home", "mod a;\nuse a::b::Toy;\npub struct Home;"), ("home::a", "mod b;")];
    let cousin: Vec<_> = cousin.into_iter().chain([("home::a::b", "use super::super::Home; impl Home {}")]).collect();
    assert_eq!(circles_of(&cousin).len(), 1, "only a child is part of its parent");
}

#[test]
fn a_circle_is_found_by_whatever_way_and_through_several_files() {
    let files = [
        ("", "mod a; mod b; mod c;"),
        ("a", "use crate::b as bee; fn a() { bee::b(); }"),
        ("b", "mod hive { pub fn c() { super::super::c::c(); } }\npub fn b() { hive::c() }"),
        ("c", "pub fn c() -> crate::a::A {}"),
    ];
    let circles = circles_of(&files);
    assert!(circles.len() == 1 && circles[0].starts_with("3 files in a circle:\n"), "{circles:?}");
}

#[test]
fn comments_strings_tests_and_names_handed_on_close_no_circle() {
    let files = [
        ("", "mod room; use std::fmt;"),
        ("room", "mod a; pub use a::A; mod b; pub use b::{B, c};\n#[cfg(test)]\nmod tests { use super::a::A; }"),
        ("room::a", "/// Unlike `super::B`.\npub struct A(char);\n#[cfg(test)]\nuse super::B;\nconst C: A = A('\\'');"),
        ("room::b", "use super::A;\npub struct B<'a>(&'a A);\npub fn c() -> &'static str { r#\"super::B \"q\" \"# }"),
    ];
    assert_eq!(circles_of(&files), [""; 0]);
}

#[test]
fn ranges_structs_filled_up_globs_and_macros_close_a_circle() {
    let back = "pub const N: u8 = 1;\nfn b() { crate::a::f() }";
    let there = [
        "fn f() { for _ in 0..crate::b::N {} }",
        "fn f() { A { ..crate::b::N } }",
        "fn f() { x.0..=crate::b::N }",
        "use crate::b::*;",
        "use crate::c::N;",
    ];
    for a in there {
        let files = [("", "mod a; mod b;"), ("a", a), ("b", back), ("c", "pub use crate::b::*;")];
        assert_eq!(circles_of(&files).len(), 1, "{a}");
    }
    let globs = [("", "mod a; mod b;"), ("a", "use crate::b::*;"), ("b", "use crate::a::*;")];
    assert_eq!(circles_of(&globs).len(), 1, "each takes what the other has");
    let told = "macro_rules! told { () => { crate::b::N } }";
    let macros = [("", "#[macro_use] mod a; mod b;"), ("a", told), ("b", "const N: u8 = told!();")];
    assert_eq!(circles_of(&macros).len(), 1, "a macro uses what it writes, and is used where it is called");
    let field = [("", ""), ("a", "fn f(x: X) { x.b::<N>() }\nuse crate::b;"), ("b", "fn g(x: X) { x.a.f() }")];
    assert_eq!(circles_of(&field), [""; 0], "behind one dot stands what belongs to a value");
}
