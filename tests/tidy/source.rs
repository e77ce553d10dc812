//! Rust text as far as the form of the code needs it: tokens, what `#[cfg(test)]` hides, `mod`, `use` and paths.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A word, a sign or a quoted string (which keeps its first quote), and its line.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// One file: where it is, which module it is, and its tokens without comments.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) module: Vec<String>,
    pub(crate) tokens: Vec<Token>,
}

/// A path that a file names, spelled from the crate's root if it is one of the crate's.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) line: usize,
    /// `crate`, a module, an item; or the name of another crate first.
    pub(crate) path: Vec<String>,
    /// The name it has in this file, if a `use` gives it one.
    pub(crate) alias: Option<String>,
    /// A `pub use`, which hands a name on and need not use it.
    pub(crate) handed_on: bool,
}

/// The words and signs of a Rust text. Comments and white space are left out; `::` is one sign.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let length = match bytes[at] {
            byte if byte.is_ascii_whitespace() => 1,
            b'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            b'"' => quoted(rest),
            b'\'' => match rest[1..].chars().next() {
                Some('\\') => 4 + rest[3..].find('\'').expect("a character ends"),
                Some(char) if rest[1 + char.len_utf8()..].starts_with('\'') => 2 + char.len_utf8(),
                _ => 1,
            },
            byte if byte.is_ascii_alphanumeric() || byte == b'_' => {
                let word = rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
                let hashes = rest[word..].bytes().take_while(|byte| *byte == b'#').count();
                if matches!(&rest[..word], "r" | "br") && rest[word + hashes..].starts_with('"') {
                    let end = format!("\"{}", "#".repeat(hashes));
                    let start = word + hashes + 1;
                    start + rest[start..].find(&end).expect("a raw string ends") + end.len()
                } else {
                    word
                }
            }
            _ if rest.starts_with("::") => 2,
            _ => rest.chars().next().expect("there is one").len_utf8(),
        };
        let text = &rest[..length];
        if !text.starts_with("//") && !text.trim().is_empty() {
            found.push(Token { text: text.to_owned(), line });
        }
        line += text.matches('\n').count();
        at += length;
    }
    found
}

/// How long the string is that `text` begins with.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return at + 1,
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    panic!("a string ends")
}

fn starts_with(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.text == *word)
}

/// How many tokens there are from `tokens[0]`, which opens something, to what closes it.
fn closed(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The tokens without the items that only tests see.
pub(crate) fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if !starts_with(&tokens[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        at += 7;
        while at < tokens.len() {
            match tokens[at].text.as_str() {
                ";" => break,
                "{" => {
                    at += closed(&tokens[at..]) - 1;
                    break;
                }
                "(" | "[" => at += closed(&tokens[at..]),
                _ => at += 1,
            }
        }
        at += 1;
    }
    kept
}

/// The file at `path` and all that its `mod` lines name, with or without what only tests see.
pub(crate) fn reached_from(path: &Path, module: &[String], with_tests: bool) -> Vec<File> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let all = tokens(&text);
    let tokens = if with_tests { all } else { without_tests(&all) };
    let stem = path.file_stem().unwrap().to_str().unwrap();
    let dir = path.parent().unwrap();
    let dir = if matches!(stem, "mod" | "main" | "lib") { dir.to_owned() } else { dir.join(stem) };
    let mut below = Vec::new();
    for (at, three) in tokens.windows(3).enumerate() {
        if three[0].text != "mod" || three[2].text != ";" {
            continue;
        }
        let name = &three[1].text;
        let given = at.checked_sub(6).filter(|at| starts_with(&tokens[*at..], &["#", "[", "path", "="]));
        let path = match given {
            Some(given) => dir.join(tokens[given + 4].text.trim_matches('"')),
            None if dir.join(name).join("mod.rs").exists() => dir.join(name).join("mod.rs"),
            None => dir.join(format!("{name}.rs")),
        };
        let module: Vec<_> = module.iter().chain([name]).cloned().collect();
        below.extend(reached_from(&path, &module, with_tests));
    }
    let mut files = vec![File { path: path.to_owned(), module: module.to_vec(), tokens }];
    files.append(&mut below);
    files
}

impl File {
    /// Every path in this file: those of `use`, and those in its code. `modules` are all the crate's.
    pub(crate) fn names(&self, modules: &BTreeSet<Vec<String>>) -> Vec<Named> {
        let mut used = Vec::new();
        let mut code = Vec::new();
        // The modules inside the file that stand open here, and the depth at which each closes.
        let mut inner: Vec<(String, usize)> = Vec::new();
        let (mut at, mut depth) = (0, 0);
        while at < self.tokens.len() {
            let here = &self.tokens[at..];
            let before = at.checked_sub(1).map_or("", |at| self.tokens[at].text.as_str());
            match here[0].text.as_str() {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    inner.pop_if(|(_, opened)| *opened == depth);
                }
                "mod" if here.get(2).is_some_and(|token| token.text == "{") => {
                    inner.push((here[1].text.clone(), depth));
                }
                "use" if !starts_with(&here[1..], &["<"]) => {
                    let mut tree =
                        Tree { tokens: here, at: 1, inner: &inner, handed_on: before == "pub" || before == ")" };
                    tree.read(&[], &mut used);
                    at += tree.at;
                    continue;
                }
                // What stands behind one dot belongs to a value; behind two, it ends a range or fills up a struct.
                _ if before != "::" && (before != "." || at > 1 && self.tokens[at - 2].text == ".") => {
                    let mut path = vec![here[0].text.clone()];
                    while starts_with(&here[path.len() * 2 - 1..], &["::"])
                        && here.get(path.len() * 2).is_some_and(|token| is_word(&token.text))
                    {
                        path.push(here[path.len() * 2].text.clone());
                    }
                    if path.len() > 1 && is_word(&path[0]) {
                        let inner = inner.len();
                        code.push((inner, Named { line: here[0].line, path, alias: None, handed_on: false }));
                    }
                }
                _ => {}
            }
            at += 1;
        }
        let aliases: BTreeMap<_, _> =
            used.iter().filter_map(|(_, named)| Some((named.alias.clone()?, named.path.clone()))).collect();
        let mut names = Vec::new();
        for (inner, mut named) in used.into_iter().chain(code) {
            // A name that stands for itself (`use std;`) must not be looked up for ever.
            if let Some(path) = aliases.get(&named.path[0])
                && named.alias.as_ref() != Some(&named.path[0])
            {
                named.path.splice(..1, path.iter().cloned());
            }
            named.path = self.absolute(named.path, inner, modules);
            names.push(named);
        }
        names
    }

    /// `path`, as it is written inside `inner` modules of this file, from the crate's root.
    fn absolute(&self, path: Vec<String>, inner: usize, modules: &BTreeSet<Vec<String>>) -> Vec<String> {
        let mut base = self.module.clone();
        base.extend((0..inner).map(|_| "inner".to_owned()));
        let mut rest = path.as_slice();
        match rest[0].as_str() {
            "crate" => base.clear(),
            "self" | "super" => {}
            child => {
                let is_child = modules.contains(&[base.as_slice(), &[child.to_owned()]].concat());
                return if is_child { [&["crate".to_owned()], &*base, rest].concat() } else { path };
            }
        }
        while let Some(first) = rest.first().filter(|first| matches!(first.as_str(), "crate" | "self" | "super")) {
            if first == "super" {
                base.pop();
            }
            rest = &rest[1..];
        }
        [&["crate".to_owned()], &*base, rest].concat()
    }

    /// Whether the file's code says `word`, its `use` lines left out.
    pub(crate) fn says(&self, word: &str) -> bool {
        let mut in_use = false;
        self.tokens.windows(2).any(|two| {
            in_use = two[0].text == "use" || in_use && two[0].text != ";";
            !in_use && two[0].text != "." && two[1].text == word
        })
    }

    /// Whether `name` is an item of this file.
    pub(crate) fn defines(&self, name: &str) -> bool {
        const WORDS: &[&str] = &["fn", "struct", "enum", "trait", "type", "const", "static", "mod"];
        self.tokens.windows(2).any(|two| two[1].text == name && WORDS.contains(&two[0].text.as_str()))
            || self.macros().any(|word| word == name)
    }

    /// The names of its `macro_rules!`.
    pub(crate) fn macros(&self) -> impl Iterator<Item = &str> {
        let rules = self.tokens.windows(3).filter(|three| starts_with(three, &["macro_rules", "!"]));
        rules.map(|three| three[2].text.as_str())
    }

    /// The last names of the types that this file has an `impl` of.
    pub(crate) fn extended(&self) -> BTreeSet<&str> {
        let starts = self.tokens.iter().enumerate().filter(|(_, token)| token.text == "impl");
        starts.filter_map(|(at, _)| implemented(&self.tokens[at + 1..])).collect()
    }
}

/// The last name of the type that an `impl` is for, from what comes after the word.
fn implemented(tokens: &[Token]) -> Option<&str> {
    let mut angles = 0;
    let mut name = None;
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "<" => angles += 1,
            ">" if tokens[at - 1].text != "-" => angles -= 1,
            "{" | "where" if angles == 0 => return name,
            "(" | ")" | "," | ";" | "=" if angles == 0 => return None,
            word if angles == 0 && is_word(word) => name = Some(word),
            _ => {}
        }
    }
    None
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// What comes after the word `use`.
struct Tree<'a> {
    tokens: &'a [Token],
    at: usize,
    inner: &'a [(String, usize)],
    handed_on: bool,
}

impl Tree<'_> {
    /// Reads one branch that begins with `stem`, and stands behind it afterwards.
    fn read(&mut self, stem: &[String], found: &mut Vec<(usize, Named)>) {
        let mut path = stem.to_vec();
        let line = self.tokens[self.at].line;
        loop {
            let token = &self.tokens[self.at];
            self.at += 1;
            match token.text.as_str() {
                "{" => {
                    while self.tokens[self.at].text != "}" {
                        self.read(&path, found);
                        if self.tokens[self.at].text == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "::" => {}
                word => path.push(word.to_owned()),
            }
            if matches!(self.tokens[self.at].text.as_str(), "," | "}" | ";" | "as") {
                break;
            }
        }
        path.pop_if(|last| last == "self" && !stem.is_empty());
        let mut alias = path.last().cloned();
        if self.tokens[self.at].text == "as" {
            alias = Some(self.tokens[self.at + 1].text.clone());
            self.at += 2;
        }
        found.push((self.inner.len(), Named { line, path, alias, handed_on: self.handed_on }));
    }
}
