//! Numbers: ids, terms, and the rule that compares ids.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Names a node by a number: "the highest leads" needs one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub u64);

/// Text that is no id.
#[derive(Debug, Error)]
#[error("'{0}' is no id: a node of bully-elect has a number from 0 to 18446744073709551615, such as 3")]
pub struct InvalidId(String);

impl FromStr for Id {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        let number = if is_number { text.parse().ok() } else { None }; // no sign
        number.map(Self).ok_or_else(|| InvalidId(text.chars().take(80).collect::<String>().escape_debug().to_string()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a leadership, and the fencing token of whoever acts as leader: what guards a resource refuses a lower one
/// than it has seen. Zero before the first election.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Term(pub u64);

impl Term {
    /// The term after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// Which id is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Rule {
    /// The highest living id leads (Garcia-Molina 1982).
    #[default]
    Highest,
    /// The lowest one does.
    Lowest,
}

impl Rule {
    /// Whether `a` is to lead rather than `b`.
    pub fn prefers(self, a: Id, b: Id) -> bool {
        match self {
            Self::Highest => a > b,
            Self::Lowest => a < b,
        }
    }
}

/// Text that names no rule.
#[derive(Debug, Error)]
#[error("there is no rule '{0}': the rules are highest and lowest")]
pub struct UnknownRule(String);

impl FromStr for Rule {
    type Err = UnknownRule;

    fn from_str(text: &str) -> Result<Self, UnknownRule> {
        match text {
            "highest" => Ok(Self::Highest),
            "lowest" => Ok(Self::Lowest),
            _ => Err(UnknownRule(text.chars().take(80).collect::<String>().escape_debug().to_string())),
        }
    }
}
