//! Who tells changes to all that watch: one task, for a node has one thread, and a thousand tasks that are woken at each
//! commit would leave little of it for writes.
//!
//! It looks at new changes once for all watchers, by their prefixes. Those that have something to hear wait in a queue and get a
//! page each in turn, if they have taken the one before; a watcher whose prefix nobody writes costs nothing.
//!
//! What telling costs, here and in the connections, is measured, and is no more than one part in [`WATCH_SHARE`] of the time that
//! the node's thread gets: beyond that, changes wait, and several are told in one go. So watchers may fall behind, and writes do not.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::pages::{Cursor, Pages};
use crate::defaults::{
    CLIENT_STALL, WATCH_BURST, WATCH_DEBT, WATCH_KEEP_ALIVE, WATCH_LOOK, WATCH_PAUSE, WATCH_REVIEW, WATCH_SHARE,
    WATCH_SLICE, WATCH_TURNS,
};
use crate::http::hangup::Spent;
use crate::http::reply::BrokenOff;
use crate::kv::changes::{Changes, Gone};
use crate::net::driver::Handle;
use crate::protocol::Protocol;
use crate::wire::sse;

/// Somebody who watches.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Of which keys.
    pub(super) prefix: Bytes,
    /// Told, or looked at, up to here.
    pub(super) at: Cursor,
    /// Takes a page at a time.
    pub(super) parts: mpsc::Sender<Result<Bytes, BrokenOff>>,
    /// Breaks the connection off.
    pub(super) cut: CancellationToken,
}

/// Tells the `changes_of` a machine to those who join, until the node stops or nobody can join any more.
pub(super) async fn run<P: Protocol + 'static>(
    node: Handle<P>,
    changes_of: fn(&P) -> &Changes,
    mut joining: mpsc::Receiver<Watcher>,
    mut announced: watch::Receiver<u64>,
    spent: Spent,
) {
    let clock = Clock::start();
    let (mut teller, mut credit) = (Teller::default(), Credit::default());
    loop {
        if !teller.has_work(*announced.borrow()) {
            let pause = if teller.waiting.is_empty() { WATCH_REVIEW } else { WATCH_PAUSE };
            tokio::select! {
                watcher = joining.recv() => match watcher {
                    Some(watcher) => teller.join(watcher, *announced.borrow()),
                    None => return,
                },
                news = announced.changed(), if !teller.watchers.is_empty() => if news.is_err() { return },
                () = sleep(pause), if !teller.watchers.is_empty() => {}
            }
        }
        while let Ok(watcher) = joining.try_recv() {
            teller.join(watcher, *announced.borrow());
        }
        teller.recall(Instant::now());
        let through = *announced.borrow_and_update();
        if teller.has_work(through) {
            let told = node.inspect(move |machine| {
                let begun = Instant::now();
                teller.tell(changes_of(machine), through, begun);
                (teller, begun.elapsed())
            });
            let Ok((returned, took)) = told.await else { return };
            teller = returned;
            spent.add(took);
        }
        // By now the connections have sent what they were given: they were woken before this task was.
        if let Some(pause) = credit.settle(spent.take(), clock.read()) {
            sleep(pause).await;
        }
    }
}

/// All watchers, and what they wait for.
#[derive(Debug, Default)]
struct Teller {
    watchers: BTreeMap<u64, Entry>,
    /// Watchers by prefix.
    groups: BTreeMap<Bytes, BTreeSet<u64>>,
    joined: u64,
    /// New changes were looked for up to this version. Whoever is in no queue has heard all up to here.
    looked: u64,
    /// Those that may have something to hear, each in turn.
    ready: VecDeque<u64>,
    /// Those that have not taken what they were given.
    waiting: Vec<u64>,
    pages: Pages,
    recalled: Option<Instant>,
    reviewed: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    watcher: Watcher,
    /// When it was last told something.
    told: Option<Instant>,
    /// Since when it has not taken what it was given.
    stalled: Option<Instant>,
    /// It is in one of the queues, and its cursor is where it is.
    queued: bool,
}

/// What comes after a turn.
enum Next {
    /// Another one.
    Turn,
    /// A turn once it has taken what it was given.
    Wait,
    /// There is nothing more to tell.
    Rest,
    /// It leaves.
    Leave,
}

impl Teller {
    /// Somebody is to get a turn, or there are changes up to version `through` that it has not looked at.
    fn has_work(&self, through: u64) -> bool {
        !self.ready.is_empty() || (!self.watchers.is_empty() && self.looked < through)
    }

    fn join(&mut self, watcher: Watcher, through: u64) {
        if self.watchers.is_empty() {
            self.looked = through; // nobody wanted to know
        }
        let id = self.joined;
        self.joined += 1;
        self.groups.entry(watcher.prefix.clone()).or_default().insert(id);
        self.watchers.insert(id, Entry { watcher, told: None, stalled: None, queued: true });
        self.ready.push_back(id);
    }

    fn leave(&mut self, id: u64) {
        let Some(Entry { watcher, .. }) = self.watchers.remove(&id) else { return };
        if let Some(group) = self.groups.get_mut(&watcher.prefix) {
            group.remove(&id);
            if group.is_empty() {
                self.groups.remove(&watcher.prefix);
            }
        }
    }

    /// Gives a turn to those that have taken what they were given, and to those that are to get a sign of life.
    fn recall(&mut self, now: Instant) {
        let passed = |since: Option<Instant>, time| since.is_none_or(|since| now - since >= time);
        let Self { watchers, ready, .. } = self;
        if passed(self.recalled, WATCH_PAUSE) {
            self.recalled = Some(now);
            self.waiting.retain(|id| {
                let stays = watchers.get(id).is_some_and(|Entry { watcher, stalled, .. }| {
                    watcher.parts.capacity() == 0 && !watcher.parts.is_closed() && !passed(*stalled, CLIENT_STALL)
                });
                if !stays {
                    ready.push_back(*id);
                }
                stays
            });
        }
        if passed(self.reviewed, WATCH_REVIEW) {
            self.reviewed = Some(now);
            for (id, entry) in watchers.iter_mut().filter(|(_, entry)| !entry.queued) {
                if passed(entry.told, WATCH_KEEP_ALIVE) || entry.watcher.parts.is_closed() {
                    entry.queue(self.looked);
                    ready.push_back(*id);
                }
            }
        }
    }

    /// Looks at new changes up to version `through`, and gives turns, for a short time.
    fn tell(&mut self, changes: &Changes, through: u64, now: Instant) {
        self.look(changes, through);
        // One each: what a watcher is given in this turn it takes after it.
        for _ in 0..self.ready.len().min(WATCH_TURNS) {
            let Some(id) = self.ready.pop_front() else { break };
            match self.turn(id, changes, now) {
                Next::Turn => self.ready.push_back(id),
                Next::Wait => self.waiting.push(id),
                Next::Rest => {}
                Next::Leave => self.leave(id),
            }
            if now.elapsed() > WATCH_SLICE {
                break;
            }
        }
    }

    /// Finds out who has something to hear of the next changes up to version `through`.
    fn look(&mut self, changes: &Changes, through: u64) {
        let from = self.looked;
        if from >= through {
            return;
        }
        let new = changes.after(from).map(|new| {
            let keys = new.take(WATCH_LOOK).take_while(|change| change.version <= through);
            let mut keys: Vec<&[u8]> = keys.map(|change| &*change.key).collect();
            self.looked = from + keys.len() as u64; // every version has one change
            keys.sort_unstable();
            keys
        });
        if new.is_err() {
            self.looked = through; // each of them finds out that something is gone
        }
        for (prefix, group) in &self.groups {
            let is_theirs = new.as_ref().map_or(true, |keys| {
                let first = keys.partition_point(|key| key < prefix);
                keys.get(first).is_some_and(|key| key.starts_with(prefix))
            });
            if !is_theirs {
                continue;
            }
            for id in group {
                let Some(entry) = self.watchers.get_mut(id) else { continue };
                if !entry.queued && entry.watcher.at.after < self.looked {
                    entry.queue(from);
                    self.ready.push_back(*id);
                }
            }
        }
    }

    fn turn(&mut self, id: u64, changes: &Changes, now: Instant) -> Next {
        let Some(Entry { watcher, told, stalled, queued }) = self.watchers.get_mut(&id) else { return Next::Leave };
        let place = match watcher.parts.try_reserve() {
            Ok(place) => place,
            Err(TrySendError::Closed(())) => return Next::Leave,
            Err(TrySendError::Full(())) => {
                if now - *stalled.get_or_insert(now) < CLIENT_STALL {
                    return Next::Wait;
                }
                watcher.cut.cancel();
                return Next::Leave;
            }
        };
        *stalled = None;
        let is_shared = self.groups.get(&watcher.prefix).is_some_and(|group| group.len() > 1);
        if told.is_none() {
            *told = Some(now);
            place.send(Ok(sign_of_life(watcher.at)));
            return Next::Turn;
        }
        let (bytes, next) = match self.pages.next(changes, self.looked, &watcher.prefix, watcher.at, is_shared) {
            Ok(page) if !page.bytes.is_empty() => {
                watcher.at = page.end;
                (page.bytes, Next::Turn)
            }
            Ok(page) => {
                watcher.at = page.end;
                if watcher.at.after < self.looked {
                    return Next::Turn; // there is more to look at
                }
                *queued = false;
                if told.is_some_and(|told| now - told < WATCH_KEEP_ALIVE) {
                    return Next::Rest;
                }
                (sign_of_life(watcher.at), Next::Rest)
            }
            Err(gone) if watcher.at.inside == 0 => (farewell(gone), Next::Leave),
            Err(_) => {
                watcher.cut.cancel(); // in the middle of an event nothing else can be said
                return Next::Leave;
            }
        };
        place.send(Ok(bytes));
        *told = Some(now);
        next
    }
}

impl Entry {
    /// It gets into a queue: all up to version `heard` it has heard.
    fn queue(&mut self, heard: u64) {
        self.queued = true;
        self.watcher.at = self.watcher.at.max(Cursor::after(heard));
    }
}

impl Drop for Teller {
    /// Who does not take what he was given would not hear of the end either, and keep a node that stops waiting.
    fn drop(&mut self) {
        for Entry { watcher, .. } in self.watchers.values().filter(|entry| entry.stalled.is_some()) {
            watcher.cut.cancel();
        }
    }
}

/// Tells how far it is.
fn sign_of_life(at: Cursor) -> Bytes {
    let mut out = BytesMut::new();
    sse::put_id(&mut out, at.after);
    out.freeze()
}

/// The last that a watcher hears whose changes are not kept any more. A browser that asks again is recognized by its last id.
fn farewell(gone: Gone) -> Bytes {
    #[derive(Serialize)]
    struct Data {
        error: String,
        oldest: u64,
    }
    let mut out = BytesMut::new();
    sse::put(&mut out, None, "gone", &Data { error: gone.to_string(), oldest: gone.oldest });
    sse::put_id(&mut out, sse::GONE);
    out.freeze()
}

/// Tells how much time this thread has had: a node that shares its processors has less than passes.
struct Clock {
    started: Instant,
    /// Linux's `schedstat` of the thread: nanoseconds on a processor, nanoseconds waited for one, and how often.
    waits: Option<File>,
}

impl Clock {
    fn start() -> Self {
        Self { started: Instant::now(), waits: File::open("/proc/thread-self/schedstat").ok() }
    }

    fn read(&self) -> Duration {
        let mut text = [0; 64];
        let len = self.waits.as_ref().and_then(|waits| waits.read_at(&mut text, 0).ok()).unwrap_or_default();
        let waited = std::str::from_utf8(&text[..len]).ok().and_then(|text| text.split(' ').nth(1)?.parse().ok());
        self.started.elapsed().saturating_sub(Duration::from_nanos(waited.unwrap_or_default()))
    }
}

/// What telling may still cost.
#[derive(Debug, Default)]
struct Credit {
    /// Nanoseconds; less than nothing while others are to have their time.
    left: i64,
    at: Duration,
}

impl Credit {
    /// Pays for what was spent until the thread had had the time `now`. A pause, when that was more than there is.
    fn settle(&mut self, spent: Duration, now: Duration) -> Option<Duration> {
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let earned = nanos(now.saturating_sub(self.at) / WATCH_SHARE);
        let left = self.left.saturating_add(earned).min(nanos(WATCH_BURST)).saturating_sub(nanos(spent));
        self.left = left.max(-nanos(WATCH_DEBT));
        self.at = now;
        u64::try_from(-self.left).ok().filter(|debt| *debt > 0).map(|debt| Duration::from_nanos(debt) * WATCH_SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::changes::Change;

    fn changes(keys: &[&str]) -> Changes {
        let mut changes = Changes::default();
        for (version, key) in (1..).zip(keys) {
            changes.push(Change {
                version,
                key: Bytes::from((*key).to_owned()),
                value: Some(Bytes::from_static(b"v")),
            });
        }
        changes
    }

    type Ear = mpsc::Receiver<Result<Bytes, BrokenOff>>;

    fn join(teller: &mut Teller, prefix: &str, after: u64, through: u64) -> (Ear, CancellationToken) {
        let (parts, ear) = mpsc::channel(1);
        let cut = CancellationToken::new();
        let (prefix, at) = (Bytes::from(prefix.to_owned()), Cursor::after(after));
        teller.join(Watcher { prefix, at, parts, cut: cut.clone() }, through);
        (ear, cut)
    }

    /// What is heard until there is nothing to do.
    fn hear(teller: &mut Teller, ears: &mut [&mut Ear], changes: &Changes, through: u64) -> Vec<String> {
        let mut heard = vec![String::new(); ears.len()];
        loop {
            teller.tell(changes, through, Instant::now());
            let mut any = false;
            for (ear, heard) in ears.iter_mut().zip(&mut heard) {
                while let Ok(part) = ear.try_recv() {
                    heard.push_str(std::str::from_utf8(&part.unwrap()).unwrap());
                    any = true;
                }
            }
            if !any && !teller.has_work(through) {
                return heard;
            }
        }
    }

    fn ids(heard: &str) -> Vec<&str> {
        heard.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
    }

    #[test]
    fn each_hears_of_its_prefix_and_who_has_nothing_to_hear_gets_no_turn() {
        let (mut teller, all) = (Teller::default(), changes(&["a/1", "b/1", "a/2", "b/2", "a/3", "a"]));
        let (mut a, _) = join(&mut teller, "a/", 0, 0);
        let (mut b, _) = join(&mut teller, "b/", 1, 0);
        let (mut other, _) = join(&mut teller, "a/4", 0, 0);
        let heard = hear(&mut teller, &mut [&mut a, &mut b, &mut other], &all, 4);
        assert_eq!(
            heard.iter().map(|heard| ids(heard)).collect::<Vec<_>>(),
            [vec!["0", "1", "3"], vec!["1", "2", "4"], vec!["0"]]
        );
        teller.look(&all, 6);
        assert_eq!(teller.ready, [0], "of three, one has something to hear");
        let heard = hear(&mut teller, &mut [&mut a, &mut b, &mut other], &all, 6);
        assert_eq!(heard.iter().map(|heard| ids(heard)).collect::<Vec<_>>(), [vec!["5"], vec![], vec![]]);
    }

    #[test]
    fn many_changes_at_once_are_looked_at_to_the_end() {
        let (mut teller, mut keys) = (Teller::default(), vec!["other"; 3 * WATCH_LOOK]);
        keys.push("mine");
        let (through, all) = (keys.len() as u64, changes(&keys));
        let (mut ear, _) = join(&mut teller, "mine", 0, 0);
        assert_eq!(ids(&hear(&mut teller, &mut [&mut ear], &all, 0)[0]), ["0"]);
        assert_eq!(ids(&hear(&mut teller, &mut [&mut ear], &all, through)[0]), [through.to_string()]);
    }

    #[test]
    fn who_takes_nothing_holds_nobody_up_and_is_cut_in_the_end() {
        let (mut teller, all) = (Teller::default(), changes(&["a"; 100]));
        let (deaf, cut) = join(&mut teller, "", 0, 0);
        let (mut keen, _) = join(&mut teller, "", 0, 0);
        let heard = hear(&mut teller, &mut [&mut keen], &all, 100);
        assert_eq!(ids(&heard[0]).len(), 101);
        assert_eq!((deaf.len(), teller.waiting.clone(), cut.is_cancelled()), (1, vec![0], false));
        let late = Instant::now() + CLIENT_STALL + WATCH_PAUSE;
        teller.recall(late);
        teller.tell(&all, 100, late);
        assert!(cut.is_cancelled() && teller.watchers.len() == 1);
    }

    #[test]
    fn a_watcher_that_is_ahead_of_the_node_waits_until_it_has_caught_up() {
        let (mut teller, all) = (Teller::default(), changes(&["a"; 9]));
        let (mut ear, _) = join(&mut teller, "", 5, 2);
        assert_eq!(ids(&hear(&mut teller, &mut [&mut ear], &all, 4)[0]), ["5"]);
        assert_eq!(ids(&hear(&mut teller, &mut [&mut ear], &all, 7)[0]), ["6", "7"]);
    }

    #[test]
    fn changes_that_went_before_they_were_looked_at_are_gone_for_all() {
        let mut teller = Teller::default();
        let (mut ear, _) = join(&mut teller, "other", 0, 0);
        hear(&mut teller, &mut [&mut ear], &Changes::default(), 0);
        let heard = hear(&mut teller, &mut [&mut ear], &Changes::starting_after(7), 7);
        assert!(heard[0].starts_with("event: gone\ndata: {") && heard[0].ends_with("\n\nid: gone\n\n"), "{heard:?}");
        assert!(teller.watchers.is_empty() && teller.groups.is_empty());
    }

    #[test]
    fn telling_gets_its_share_of_the_time_and_no_more() {
        let (mut credit, mut now, mut spent) = (Credit::default(), Duration::ZERO, Duration::ZERO);
        while now < Duration::from_secs(10) {
            let turn = Duration::from_micros(700);
            (now, spent) = (now + turn, spent + turn);
            now += credit.settle(turn, now).unwrap_or_default();
        }
        let share = now.as_secs_f64() / spent.as_secs_f64();
        assert!((share - f64::from(WATCH_SHARE)).abs() < 0.5, "one in {share}");
        assert_eq!(credit.settle(WATCH_BURST, now + Duration::from_secs(60)), None, "who has rested may spend at once");
        let clock = Clock::start();
        assert!(clock.waits.is_some() && clock.read() <= clock.started.elapsed());
    }
}
