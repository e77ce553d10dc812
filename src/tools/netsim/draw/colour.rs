//! Colours, by day and by night, as classes of a style sheet: `s-NAME` strokes with one and `f-NAME` fills.

use super::timeline::{Kind, Role, Words};

/// Which of the two a picture has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Theme {
    /// Dark where the reader's browser prefers that, else light
    #[default]
    Auto,
    /// On white
    Light,
    /// On black
    Dark,
}

/// A name, the colour on white, and on black. The kinds of messages can be told apart by those who see no red or no green.
const COLOURS: &[(&str, &str, &str)] = &[
    ("paper", "#ffffff", "#0d1117"),
    ("card", "#f4f6f8", "#161b22"),
    ("ink", "#1f2933", "#e6edf3"),
    ("soft", "#52606d", "#9da7b3"),
    ("grid", "#e4e7eb", "#262c36"),
    ("edge", "#9aa5b1", "#6e7681"),
    ("leader", "#7fc98f", "#238636"),
    ("candidate", "#f7d774", "#8a6100"),
    ("precandidate", "#fbefc6", "#4a3c12"),
    ("follower", "#d9e2ec", "#30363d"),
    ("vote", "#d55e00", "#ff8c42"),
    ("prevote", "#b8860b", "#e3b341"),
    ("append", "#0072b2", "#58a6ff"),
    ("heartbeat", "#9aa5b1", "#8b949e"),
    ("snapshot", "#8e44ad", "#bc8cff"),
    ("read", "#009e9e", "#39c5cf"),
    ("forward", "#8c6d46", "#d2a679"),
    ("transfer", "#c2185b", "#ff7bb0"),
    ("bad", "#c81e1e", "#f85149"),
    ("good", "#1f7a33", "#3fb950"),
    ("commit", "#14532d", "#56d364"),
    ("term0", "#d5eeee", "#1d4a4a"),
    ("term1", "#cfe3f7", "#1f3a5f"),
    ("term2", "#fbe3c0", "#5c3d10"),
    ("term3", "#d8efd0", "#23472b"),
    ("term4", "#ecd6f2", "#46285a"),
    ("term5", "#f8d3d3", "#5c2626"),
];

/// The style sheet.
pub(super) fn style(theme: Theme) -> String {
    let rules = |dark: bool| {
        let rule = |&(name, day, night): &(&str, &str, &str)| {
            let colour = if dark { night } else { day };
            format!(".s-{name}{{stroke:{colour}}}.f-{name}{{fill:{colour}}}")
        };
        COLOURS.iter().map(rule).collect::<Vec<_>>().join("\n")
    };
    match theme {
        Theme::Light => rules(false),
        Theme::Dark => rules(true),
        Theme::Auto => format!("{}\n@media (prefers-color-scheme:dark){{\n{}\n}}", rules(false), rules(true)),
    }
}

/// A family of messages: its colour, and its name.
const KINDS: [(Kind, &str, &str); 8] = [
    (Kind::PreVote, "prevote", "pre-vote"),
    (Kind::Vote, "vote", "vote"),
    (Kind::Append, "append", "entries"),
    (Kind::Heartbeat, "heartbeat", "heartbeat"),
    (Kind::Snapshot, "snapshot", "snapshot"),
    (Kind::Read, "read", "read"),
    (Kind::Forward, "forward", "forwarded write"),
    (Kind::Transfer, "transfer", "leadership transfer"),
];

/// A role: its colour, and its name.
const ROLES: [(Role, &str, &str); 5] = [
    (Role::Leader, "leader", "leader"),
    (Role::Candidate, "candidate", "candidate: asks for votes"),
    (Role::PreCandidate, "precandidate", "asks for pre-votes"),
    (Role::Follower, "follower", "follower"),
    (Role::Down, "paper", "down"),
];

/// Those of families that have none of their own.
const OTHERS: [&str; 7] = ["append", "vote", "snapshot", "read", "transfer", "prevote", "forward"];

/// Every family of messages that a picture may have.
pub(super) fn kinds(words: &Words) -> Vec<(Kind, &'static str, &str)> {
    let other = |(place, name)| (Kind::Other(place), of_kind(Kind::Other(place)), name);
    KINDS.into_iter().chain(words.types.iter().map(String::as_str).enumerate().map(other)).collect()
}

/// Every role that a picture may have.
pub(super) fn roles(words: &Words) -> Vec<(Role, String, &str)> {
    let known = ROLES.into_iter().map(|(role, colour, name)| (role, colour.to_owned(), name));
    let other = |(place, name)| (Role::Other(place), of_term(place as u64), name);
    known.chain(words.states.iter().map(String::as_str).enumerate().map(other)).collect()
}

pub(super) fn of_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Other(place) => OTHERS[place % OTHERS.len()],
        known => KINDS.iter().find(|(kind, _, _)| *kind == known).map_or("ink", |(_, colour, _)| colour),
    }
}

/// The colour and the name of a role; facts alone have no name.
pub(super) fn of_role(role: Role, words: &Words) -> (String, &str) {
    match role {
        Role::Plain(place) => (of_term(place as u64), ""),
        named => roles(words)
            .into_iter()
            .find(|(role, _, _)| *role == named)
            .map_or_else(|| ("paper".to_owned(), ""), |(_, colour, name)| (colour, name)),
    }
}

/// Terms that follow each other differ.
pub(super) fn of_term(term: u64) -> String {
    format!("term{}", term % 6)
}
