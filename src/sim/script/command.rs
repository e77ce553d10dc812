//! The lines of a script.

use std::time::Duration;

/// The most nodes a script may have.
pub const MOST_NODES: usize = 99;

/// One line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A cluster of so many nodes.
    Nodes {
        /// How many.
        count: usize,
        /// Whether elections are tried out first (thesis §9.6).
        pre_vote: bool,
        /// Whether leaders without a majority step down, and nobody votes while he hears a leader (thesis §4.2.3, §6.2).
        check_quorum: bool,
        /// Bytes after which an append is full; with 1, each carries one entry.
        max_append: Option<usize>,
    },
    /// A timer of a node runs out, now.
    Fire(usize, Alarm),
    /// Virtual time passes, for all or for one.
    Elapse(Duration, Option<usize>),
    /// A node is asked to replicate a command.
    Propose(usize, String),
    /// A node is asked for a linearizable read.
    Read(usize),
    /// The oldest messages of a link arrive.
    Deliver(Link, usize),
    /// Messages arrive, oldest first, until none is in flight.
    DeliverAll,
    /// The oldest messages of a link are lost.
    Drop(Link, usize),
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
    /// All links of a node are cut.
    Isolate(usize),
    /// All links work again.
    Heal,
    /// A node's disk makes nothing durable until `sync`.
    HoldDisk(usize),
    /// A held disk does its work.
    Sync(usize),
    /// A node stops, and loses what is not durable.
    Crash(usize),
    /// A node starts again from its disk.
    Restart(usize),
    /// A node takes a snapshot and forgets the log it replaces.
    Snapshot(usize),
    /// A leader hands its leadership over.
    Transfer(usize, usize),
    /// The leader is asked to add a node.
    Add(usize),
    /// The leader is asked to remove a node.
    Remove(usize),
    /// Shows one node or all.
    State(Option<usize>),
    /// Shows the messages in flight.
    Pending,
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
        let mut words = Words { usage: usage(name)?, words: rest.split_whitespace().collect(), taken: 0 };
        let command = match name {
            "nodes" => nodes(&mut words)?,
            "fire" => Self::Fire(words.node()?, words.alarm()?),
            "elapse" => Self::Elapse(words.milliseconds()?, words.optional(Words::node)?),
            "propose" => return Self::propose(&words, rest).map(Some),
            "read" => Self::Read(words.node()?),
            "deliver" if words.is_all() => Self::DeliverAll,
            "deliver" => Self::Deliver(words.link()?, words.optional(Words::count)?.unwrap_or(1)),
            "drop" if words.is_all() => Self::DropAll,
            "drop" => Self::Drop(words.link()?, words.optional(Words::count)?.unwrap_or(1)),
            "dup" => Self::Dup(words.link()?),
            "reorder" => Self::Reorder(words.link()?),
            "cut" => Self::Cut(words.link()?),
            "join" => Self::Join(words.link()?),
            "isolate" => Self::Isolate(words.node()?),
            "heal" => Self::Heal,
            "hold-disk" => Self::HoldDisk(words.node()?),
            "sync" => Self::Sync(words.node()?),
            "crash" => Self::Crash(words.node()?),
            "restart" => Self::Restart(words.node()?),
            "snapshot" => Self::Snapshot(words.node()?),
            "transfer" => Self::Transfer(words.node()?, words.node()?),
            "add" => Self::Add(words.node()?),
            "remove" => Self::Remove(words.node()?),
            "state" => Self::State(words.optional(Words::node)?),
            "pending" => Self::Pending,
            _ => unreachable!("every name with a usage is here"),
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
    "nodes COUNT [prevote=off] [checkquorum=off] [maxappend=BYTES]",
    "fire N election|heartbeat",
    "elapse MS [N]",
    "propose N TEXT",
    "read N",
    "deliver A B [COUNT] | deliver all",
    "drop A B [COUNT] | drop all",
    "dup A B",
    "reorder A B",
    "cut A B",
    "join A B",
    "isolate N",
    "heal",
    "hold-disk N",
    "sync N",
    "crash N",
    "restart N",
    "snapshot N",
    "transfer N M",
    "add N",
    "remove N",
    "state [N]",
    "pending",
];

fn usage(name: &str) -> Result<&'static str, String> {
    let named = USAGES.iter().find(|usage| usage.split(' ').next() == Some(name));
    named.copied().ok_or_else(|| {
        let names: Vec<_> = USAGES.iter().filter_map(|usage| usage.split(' ').next()).collect();
        format!("there is no command '{name}': there are {}", names.join(", "))
    })
}

fn nodes(words: &mut Words<'_>) -> Result<Command, String> {
    let count = words.node()?;
    let (mut pre_vote, mut check_quorum, mut max_append) = (true, true, None);
    while let Some(option) = words.optional(Words::word)? {
        match option {
            "prevote=on" => pre_vote = true,
            "prevote=off" => pre_vote = false,
            "checkquorum=on" => check_quorum = true,
            "checkquorum=off" => check_quorum = false,
            _ => {
                let bytes = option.strip_prefix("maxappend=").and_then(|bytes| bytes.parse().ok());
                let bytes = bytes.ok_or_else(|| format!("'{option}' is no option (write {})", words.usage))?;
                max_append = Some(bytes);
            }
        }
    }
    Ok(Command::Nodes { count, pre_vote, check_quorum, max_append })
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

    /// `3`, or `n3`.
    fn node(&mut self) -> Result<usize, String> {
        let word = self.word()?;
        let number = word.strip_prefix('n').unwrap_or(word).parse().ok();
        let node = number.filter(|number| (1..=MOST_NODES).contains(number));
        node.ok_or_else(|| self.wrong(word, &format!("number from 1 to {MOST_NODES}")))
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
        word.parse().ok().filter(|count| *count > 0).ok_or_else(|| self.wrong(word, "count from 1 on"))
    }

    fn milliseconds(&mut self) -> Result<Duration, String> {
        let word = self.word()?;
        let number = word.strip_suffix("ms").unwrap_or(word).parse::<u64>().ok();
        let time = number.map(Duration::from_millis).filter(|time| *time <= super::LONGEST_ELAPSE);
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
                    .replace("[COUNT]", "2")
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
    fn a_mistake_names_the_word_and_shows_how_it_is_written() {
        for (line, said) in [
            ("frie 1", "there is no command 'frie'"),
            ("fire 1 lunch", "'lunch' is no timer (write fire N election|heartbeat)"),
            ("fire 0 election", "'0' is no number from 1 to 99"),
            ("deliver 1", "is missing (write deliver A B [COUNT]"),
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
