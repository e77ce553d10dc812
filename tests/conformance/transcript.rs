//! The form of the vectors: commands with `key=value` arguments, `----`, and what came of them.

use std::fs;
use std::path::Path;

/// One command and what it printed.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// Where it stands: `file:line`.
    pub(crate) at: String,
    pub(crate) command: String,
    /// What follows the command, without those of the form `key=value`.
    pub(crate) words: Vec<String>,
    /// `key=value`, the value without parentheses.
    pub(crate) options: Vec<(String, String)>,
    pub(crate) output: Vec<String>,
}

impl Case {
    pub(crate) fn option(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The numbers of a list such as `(1,2,3)`, with `_` for one that is missing; none when the option is.
    pub(crate) fn list(&self, key: &str) -> Vec<Option<&str>> {
        let list = self.option(key).unwrap_or_default().split(',').map(str::trim).filter(|item| !item.is_empty());
        list.map(|item| (item != "_").then_some(item)).collect()
    }
}

/// Every case of a file, in order.
pub(crate) fn read(path: &Path) -> Vec<Case> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let name = path.file_name().expect("a file").to_string_lossy();
    let mut cases = Vec::new();
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (words, options) = arguments(line);
        let mut words = words.into_iter();
        let command = words.next().unwrap_or_else(|| panic!("{name}:{number}: no command in '{line}'"));
        // Further lines belong to commands that no transcript here needs.
        lines.by_ref().find(|(line, _)| *line == "----");
        let mut output = Vec::new();
        while let Some((line, _)) = lines.next_if(|(line, _)| !line.is_empty()) {
            output.push(line.to_owned());
        }
        cases.push(Case { at: format!("{name}:{number}"), command, words: words.collect(), options, output });
    }
    assert!(!cases.is_empty(), "{name} has no cases");
    cases
}

/// Splits at spaces, save for those within parentheses or quotes.
fn arguments(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    let mut parts = vec![String::new()];
    let (mut depth, mut quoted) = (0, false);
    for c in line.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            '"' => quoted = !quoted,
            ' ' if depth == 0 && !quoted => parts.push(String::new()),
            c => parts.last_mut().expect("there is one").push(c),
        }
    }
    let (options, words): (Vec<_>, Vec<_>) =
        parts.into_iter().filter(|part| !part.is_empty()).partition(|part| part.contains('='));
    let option = |part: String| part.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    (words, options.into_iter().filter_map(option).collect())
}
