//! The lines of a script.

use std::time::Duration;

use super::answer::Field;
use crate::sim::raft::observe::MESSAGE_TYPES;

/// The longest time that passes in one line.
pub const LONGEST_ELAPSE: Duration = Duration::from_secs(3600);

/// The most nodes a script may have.
pub const MOST_NODES: usize = 99;

/// One line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A cluster of so many nodes.
    Nodes {
        /// How many.
        count: usize,
        /// What is unusual about all of them, or about one.
        settings: Vec<(Option<usize>, Setting)>,
    },
    /// A timer of a node runs out, now.
    Fire(usize, Alarm),
    /// Virtual time passes, for all or for one.
    Elapse(Duration, Option<usize>),
    /// A node is asked to replicate a command.
    Propose(usize, String),
    /// A node is asked for a linearizable read.
    Read(usize),
    /// The oldest messages of a link arrive; of one kind, or of all.
    Deliver(Link, Option<&'static str>, usize),
    /// Messages arrive, oldest first, until none is in flight.
    DeliverAll,
    /// The oldest messages of a link are lost; of one kind, or of all.
    Drop(Link, Option<&'static str>, usize),
    /// All messages in flight are lost.
    DropAll,
    /// The oldest message of a link is sent a second time.
    Dup(Link),
    /// The messages of a link turn round: the newest arrives first.
    Reorder(Link),
    /// A link takes nothing.
    Cut(Link),
    /// A link works again.
    Join(Link),
    /// All links between these nodes and the others are cut.
    Isolate(Vec<usize>),
    /// All links work again.
    Heal,
    /// A node's disk makes nothing durable until `sync`.
    HoldDisk(usize),
    /// A held disk does its work.
    Sync(usize),
    /// A node stops, and loses what is not durable.
    Crash(usize),
    /// A node starts again from its disk, set up as before but for this.
    Restart(usize, Vec<Setting>),
    /// A node loses its disk and starts as a new one.
    Wipe(usize),
    /// A node takes a snapshot and forgets the log it replaces.
    Snapshot(usize),
    /// A leader hands its leadership over.
    Transfer(usize, usize),
    /// The leader is asked to add a node, set up like the others but for this.
    Add(usize, Vec<Setting>),
    /// The leader is asked to remove a node.
    Remove(usize),
    /// Shows one node or all.
    State(Option<usize>),
    /// Shows the messages in flight.
    Pending,
    /// Shows what a leader knows of the others.
    Progress(usize),
    /// What must be true of a node.
    Expect(usize, Vec<(Field, String)>),
}

/// Something about a node that can be set up in another way than usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Whether elections are tried out first (thesis §9.6).
    PreVote(bool),
    /// Whether leaders without a majority step down, and nobody votes while he hears a leader (thesis §4.2.3, §6.2).
    CheckQuorum(bool),
    /// Bytes after which an append is full; with 1, each carries one entry.
    MaxAppend(usize),
}

/// From one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// The sender.
    pub from: usize,
    /// The receiver.
    pub to: usize,
}

/// A timer that a script may let run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// The election timeout.
    Election,
    /// The leader's heartbeat.
    Heartbeat,
}

impl Command {
    /// Reads a line; None when it is blank or a comment.
    ///
    /// # Errors
    /// Says what is wrong with it, and how it is written.
    pub fn parse(line: &str) -> Result<Option<Self>, String> {
        let comment = line.match_indices('#').find(|(at, _)| line[..*at].ends_with(char::is_whitespace) || *at == 0);
        let line = comment.map_or(line, |(at, _)| &line[..at]).trim();
        if line.is_empty() {
            return Ok(None);
        }
        let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let mut words = Words { usage: usage(name), words: rest.split_whitespace().collect(), taken: 0 };
        let command = match name {
            "nodes" => nodes(&mut words)?,
            "fire" => Self::Fire(words.node()?, words.alarm()?),
            "elapse" => Self::Elapse(words.milliseconds()?, words.optional(Words::node)?),
            "propose" => return Self::propose(&words, rest).map(Some),
            "read" => Self::Read(words.node()?),
            "deliver" if words.is_all() => Self::DeliverAll,
            "deliver" => Self::Deliver(words.link()?, words.kind(), words.optional(Words::count)?.unwrap_or(1)),
            "drop" if words.is_all() => Self::DropAll,
            "drop" => Self::Drop(words.link()?, words.kind(), words.optional(Words::count)?.unwrap_or(1)),
            "dup" => Self::Dup(words.link()?),
            "reorder" => Self::Reorder(words.link()?),
            "cut" => Self::Cut(words.link()?),
            "join" => Self::Join(words.link()?),
            "isolate" => Self::Isolate(words.nodes()?),
            "heal" => Self::Heal,
            "hold-disk" => Self::HoldDisk(words.node()?),
            "sync" => Self::Sync(words.node()?),
            "crash" => Self::Crash(words.node()?),
            "restart" => Self::Restart(words.node()?, words.settings()?),
            "wipe" => Self::Wipe(words.node()?),
            "snapshot" => Self::Snapshot(words.node()?),
            "transfer" => Self::Transfer(words.node()?, words.node()?),
            "add" => Self::Add(words.node()?, words.settings()?),
            "remove" => Self::Remove(words.node()?),
            "state" => Self::State(words.optional(Words::node)?),
            "pending" => Self::Pending,
            "progress" => Self::Progress(words.node()?),
            "expect" => Self::Expect(words.node()?, words.expectations()?),
            _ => return Err(no_command(name)),
        };
        words.end()?;
        Ok(Some(command))
    }

    /// The command is all the rest of the line, with the spaces in it.
    fn propose(words: &Words<'_>, rest: &str) -> Result<Self, String> {
        let (node, text) = rest.trim_start().split_once(char::is_whitespace).ok_or_else(|| words.expected("TEXT"))?;
        let mut words = Words { words: vec![node], ..*words };
        Ok(Self::Propose(words.node()?, text.trim_start().to_owned()))
    }
}

/// How each command is written.
const USAGES: &[&str] = &[
    "nodes COUNT [prevote=off] [checkquorum=off] [maxappend=BYTES] [N:OPTION=..]",
    "fire N election|heartbeat",
    "elapse MS [N]",
    "propose N TEXT",
    "read N",
    "deliver A B [TYPE] [COUNT] | deliver all",
    "drop A B [TYPE] [COUNT] | drop all",
    "dup A B",
    "reorder A B",
    "cut A B",
    "join A B",
    "isolate N [M..]",
    "heal",
    "hold-disk N",
    "sync N",
    "crash N",
    "restart N [OPTION=..]",
    "wipe N",
    "snapshot N",
    "transfer N M",
    "add N [OPTION=..]",
    "remove N",
    "state [N]",
    "pending",
    "progress N",
    "expect N FIELD=VALUE..",
];

fn usage(name: &str) -> &'static str {
    USAGES.iter().find(|usage| usage.split(' ').next() == Some(name)).copied().unwrap_or_default()
}

fn no_command(name: &str) -> String {
    let names: Vec<_> = USAGES.iter().filter_map(|usage| usage.split(' ').next()).collect();
    format!("there is no command '{name}': there are {}", names.join(", "))
}

/// `3 prevote=off n2:maxappend=1`.
fn nodes(words: &mut Words<'_>) -> Result<Command, String> {
    let count = words.count()?;
    if count > MOST_NODES {
        return Err(format!("{count} nodes are too many: there can be {MOST_NODES} (write {})", words.usage));
    }
    let mut settings = Vec::new();
    while let Some(option) = words.optional(Words::word)? {
        let (node, option) = match option.split_once(':') {
            Some((node, option)) => (Some(words.number(node)?), option),
            None => (None, option),
        };
        if node.is_some_and(|node| node > count) {
            return Err(format!("there is no node {} among {count} (write {})", node.unwrap_or_default(), words.usage));
        }
        settings.push((node, words.setting(option)?));
    }
    Ok(Command::Nodes { count, settings })
}

/// The words after a command's name.
struct Words<'a> {
    usage: &'static str,
    words: Vec<&'a str>,
    taken: usize,
}

impl<'a> Words<'a> {
    fn expected(&self, what: &str) -> String {
        format!("{what} is missing (write {})", self.usage)
    }

    fn wrong(&self, word: &str, what: &str) -> String {
        format!("'{word}' is no {what} (write {})", self.usage)
    }

    fn word(&mut self) -> Result<&'a str, String> {
        let word = *self.words.get(self.taken).ok_or_else(|| self.expected("something"))?;
        self.taken += 1;
        Ok(word)
    }

    fn optional<T>(&mut self, take: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<Option<T>, String> {
        if self.taken == self.words.len() { Ok(None) } else { take(self).map(Some) }
    }

    fn is_all(&mut self) -> bool {
        let all = self.words == ["all"];
        self.taken += usize::from(all);
        all
    }

    fn node(&mut self) -> Result<usize, String> {
        let word = self.word()?;
        self.number(word)
    }

    fn nodes(&mut self) -> Result<Vec<usize>, String> {
        let mut nodes = vec![self.node()?];
        while let Some(node) = self.optional(Self::node)? {
            nodes.push(node);
        }
        Ok(nodes)
    }

    /// `3`, or `n3`.
    fn number(&self, word: &str) -> Result<usize, String> {
        let number = word.strip_prefix('n').unwrap_or(word).parse().ok();
        let node = number.filter(|number| (1..=MOST_NODES).contains(number));
        node.ok_or_else(|| self.wrong(word, &format!("node from n1 to n{MOST_NODES}")))
    }

    fn settings(&mut self) -> Result<Vec<Setting>, String> {
        let mut settings = Vec::new();
        while let Some(option) = self.optional(Self::word)? {
            settings.push(self.setting(option)?);
        }
        Ok(settings)
    }

    fn setting(&self, option: &str) -> Result<Setting, String> {
        let is_on = |value: &str| match value {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        let setting = option.split_once('=').and_then(|(name, value)| match name {
            "prevote" => is_on(value).map(Setting::PreVote),
            "checkquorum" => is_on(value).map(Setting::CheckQuorum),
            "maxappend" => value.parse().ok().filter(|bytes| *bytes > 0).map(Setting::MaxAppend),
            _ => None,
        });
        setting.ok_or_else(|| {
            let options = "prevote=on|off, checkquorum=on|off and maxappend=BYTES";
            format!("'{option}' is no option: there are {options} (write {})", self.usage)
        })
    }

    /// The next word, when it is a kind of message and no count.
    fn kind(&mut self) -> Option<&'static str> {
        let word = *self.words.get(self.taken)?;
        let kind = MESSAGE_TYPES.iter().find(|kind| **kind == word);
        self.taken += usize::from(kind.is_some());
        kind.copied()
    }

    /// `term=2 data=a b,c`: what begins no field is more of the value before.
    fn expectations(&mut self) -> Result<Vec<(Field, String)>, String> {
        let mut fields: Vec<(Field, String)> = Vec::new();
        while let Some(word) = self.optional(Self::word)? {
            let field = word.split_once('=').and_then(|(name, value)| Some((Field::named(name)?, value)));
            match (field, fields.last_mut()) {
                (Some((field, value)), _) => fields.push((field, value.to_owned())),
                (None, Some((Field::Data | Field::Read, value))) => *value += &format!(" {word}"),
                (None, _) => {
                    let names: Vec<_> = Field::ALL.iter().map(|(_, name)| *name).collect();
                    let names = names.join(", ");
                    return Err(format!("'{word}' is no FIELD=VALUE: fields are {names} (write {})", self.usage));
                }
            }
        }
        if fields.is_empty() { Err(self.expected("FIELD=VALUE")) } else { Ok(fields) }
    }

    fn link(&mut self) -> Result<Link, String> {
        let link = Link { from: self.node()?, to: self.node()? };
        if link.from == link.to {
            return Err(format!("node {} has no link to itself (write {})", link.from, self.usage));
        }
        Ok(link)
    }

    fn count(&mut self) -> Result<usize, String> {
        let word = self.word()?;
        word.parse().ok().filter(|count| *count > 0).ok_or_else(|| {
            let what = "count from 1 on";
            if self.usage.contains("TYPE") {
                let kinds = MESSAGE_TYPES.join(", ");
                return self.wrong(word, &format!("{what}, and no TYPE of message: those are {kinds}"));
            }
            self.wrong(word, what)
        })
    }

    fn milliseconds(&mut self) -> Result<Duration, String> {
        let word = self.word()?;
        let number = word.strip_suffix("ms").unwrap_or(word).parse::<u64>().ok();
        let time = number.map(Duration::from_millis).filter(|time| *time <= LONGEST_ELAPSE);
        time.ok_or_else(|| self.wrong(word, "number of milliseconds up to an hour"))
    }

    fn alarm(&mut self) -> Result<Alarm, String> {
        match self.word()? {
            "election" => Ok(Alarm::Election),
            "heartbeat" => Ok(Alarm::Heartbeat),
            word => Err(self.wrong(word, "timer")),
        }
    }

    fn end(&self) -> Result<(), String> {
        match self.words.get(self.taken) {
            Some(word) => Err(format!("'{word}' is too much (write {})", self.usage)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_and_comments_are_nothing() {
        for line in ["", "   ", "# nodes 3", "  # fire"] {
            assert_eq!(Command::parse(line), Ok(None));
        }
    }

    #[test]
    fn every_usage_has_a_command() {
        for usage in USAGES {
            for form in usage.split(" | ") {
                let line = form
                    .replace("[M..]", "n3 4")
                    .replace("[TYPE] [COUNT]", "heartbeat 2")
                    .replace(" [N:OPTION=..]", " n2:prevote=on")
                    .replace("[OPTION=..]", "prevote=off checkquorum=on")
                    .replace("FIELD=VALUE..", "term=1 state=leader")
                    .replace("COUNT", "3")
                    .replace("MS", "10")
                    .replace("TEXT", "a b")
                    .replace("BYTES", "1");
                let line = line
                    .replace("A B", "1 2")
                    .replace(" M", " 3")
                    .replace("election|", "")
                    .replace("[N]", "2")
                    .replace('N', "1");
                let line = line.replace(['[', ']'], "");
                assert!(matches!(Command::parse(&line), Ok(Some(_))), "{line}: {:?}", Command::parse(&line));
            }
        }
    }

    #[test]
    fn a_proposal_keeps_its_spaces() {
        assert_eq!(
            Command::parse(" propose 2  set x#1  to 1  # a comment"),
            Ok(Some(Command::Propose(2, "set x#1  to 1".to_owned())))
        );
    }

    #[test]
    fn nodes_are_known_by_number_or_name_and_a_value_keeps_its_spaces() {
        let expect =
            |value: &str| Command::Expect(2, vec![(Field::Data, value.to_owned()), (Field::Term, "1".to_owned())]);
        assert_eq!(Command::parse("expect n2 data=set x 1,y term=1"), Ok(Some(expect("set x 1,y"))));
        assert_eq!(Command::parse("cut n1 2"), Command::parse("cut 1 n2"));
    }

    #[test]
    fn a_mistake_names_the_word_and_shows_how_it_is_written() {
        for (line, said) in [
            ("frie 1", "there is no command 'frie'"),
            ("fire 1 lunch", "'lunch' is no timer (write fire N election|heartbeat)"),
            ("fire 0 election", "'0' is no node from n1 to n99"),
            ("nodes n3", "'n3' is no count"),
            ("nodes 100", "100 nodes are too many"),
            ("nodes 3 n4:prevote=off", "no node 4 among 3"),
            ("deliver 1", "is missing (write deliver A B [TYPE] [COUNT]"),
            ("deliver 1 2 vote", "'vote' is no count from 1 on, and no TYPE of message: those are pre_vote, "),
            ("expect 1", "FIELD=VALUE is missing"),
            ("expect 1 mood=good", "'mood=good' is no FIELD=VALUE: fields are up, state"),
            ("expect 1 term=1 2", "'2' is no FIELD=VALUE"),
            ("restart 1 maxappend=0", "'maxappend=0' is no option: there are prevote=on|off"),
            ("cut 1 1", "no link to itself"),
            ("nodes 3 prevote=maybe", "'prevote=maybe' is no option"),
            ("crash 1 2", "'2' is too much (write crash N)"),
            ("propose 1", "TEXT is missing"),
            ("elapse soon", "'soon' is no number of milliseconds"),
        ] {
            let error = Command::parse(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
    }
}
