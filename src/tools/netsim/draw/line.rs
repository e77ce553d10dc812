//! A line of a trace.

use serde::Deserialize;
use serde_json::{Map, Value};

/// More nodes than this are no picture.
pub(super) const MOST_LANES: usize = 10_000;

/// A line of a trace. What is not known is passed over.
#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) event: String,
    #[serde(default)]
    pub(super) time_us: u64,
    #[serde(default)]
    pub(super) step: u64,
    #[serde(flatten)]
    facts: Map<String, Value>,
}

impl Line {
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.facts.get(name)?.as_u64()
    }

    /// A node, or another number that counts.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.number(name)?.try_into().ok()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.facts.get(name)?.as_bool()
    }

    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.facts.get(name)?.as_str()
    }

    /// The node that it is about.
    pub(super) fn id(&self) -> Result<usize, String> {
        lane(self.place("id").ok_or("it names no id")?)
    }

    pub(super) fn link(&self) -> Result<(usize, usize), String> {
        let (from, to) = self.place("from").zip(self.place("to")).ok_or("it names no from and to")?;
        Ok((lane(from)?, lane(to)?))
    }

    /// Entries of a log; none where other things have that name.
    pub(super) fn entries(&self) -> Option<Vec<EntryLine>> {
        Deserialize::deserialize(self.facts.get("entries")?).ok()
    }

    /// Everything else, in words.
    pub(super) fn facts(&self, but: &[&str]) -> String {
        let say = |(name, value): (&String, &Value)| match value {
            Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        };
        let facts = self.facts.iter().filter(|(name, _)| !but.contains(&name.as_str()));
        facts.map(say).collect::<Vec<_>>().join(", ")
    }
}

/// A node that can be drawn: there is a lane for each number up to the largest.
fn lane(node: usize) -> Result<usize, String> {
    if (1..=MOST_LANES).contains(&node) {
        Ok(node)
    } else {
        Err(format!("it names the node {node}: nodes have the numbers 1 to {MOST_LANES}"))
    }
}

#[derive(Deserialize)]
pub(super) struct EntryLine {
    pub(super) index: u64,
    #[serde(default)]
    pub(super) term: u64,
    pub(super) data: Option<String>,
}
