//! The names under which raft-ctl writes, so that a write may be sent again.
//!
//! A cluster remembers so many names, and one that is used once pushes out another. So names are kept, below
//! `$XDG_STATE_HOME` or in `~/.local/state`, each in a file that is locked while it is in use: calls one after another share
//! one, and calls side by side have one each. Where none can be kept, a call has one of its own.
//!
//! The numbers under a name are the time, in nanoseconds, or one more than the last where the clock was put back. So none
//! comes twice, also after a crash, or when the file was copied or put back to how it was; and a name is good for any
//! cluster. Since a number is fresh, a node that has forgotten the name has not carried out what it names.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use tokio::task::JoinSet;

use super::cluster::{Ask, Cluster, is_name_refused};
use super::status;
use crate::cli::Failure;
use crate::defaults::{MAX_CLIENT_BYTES, MAX_KEPT_NAMES, NAME_PATIENCE};
use crate::http::client::Response;
use crate::tools::entropy;

/// What the names begin with.
const PREFIX: &str = "raft-ctl-";

/// What stands before the version of the store since which a name has been in use.
const SINCE: &str = ";since=";

/// A name that nobody else uses as long as this is there.
#[derive(Debug)]
pub(super) struct Name {
    name: String,
    last: u64,
    /// Where it is kept.
    file: Option<File>,
}

impl Name {
    /// One that has been used before, if there is one that nobody uses now; otherwise a new one.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) async fn lease(cluster: &Cluster) -> Result<Self, Failure> {
        let file = free_file();
        match file.as_ref().and_then(kept) {
            Some((name, last)) => Ok(Self { name, last, file }),
            None => {
                let mut name = Self { name: String::new(), last: 0, file };
                name.renew(cluster).await?;
                Ok(name)
            }
        }
    }

    /// Another one, which is new.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub(super) async fn renew(&mut self, cluster: &Cluster) -> Result<(), Failure> {
        let random = entropy()?;
        // The cluster tells for ever whether it has forgotten a name that says since which version it has been in use.
        let since = version_of(cluster).await.map(|version| format!("{SINCE}{version}")).unwrap_or_default();
        (self.name, self.last) = (format!("{PREFIX}{random:016x}{since}"), 0);
        Ok(())
    }

    /// The name with its next number.
    pub(super) fn next(&mut self) -> String {
        #[expect(clippy::disallowed_methods, reason = "a number that was used before must not come again")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.last = now.max(self.last.saturating_add(1));
        let named = format!("{}:{}", self.name, self.last);
        // Of one that does not say since when, a cluster may forget that it has forgotten it.
        if let Some(file) = self.file.as_ref().filter(|_| self.name.contains(SINCE)) {
            // If it is lost, the next number is a later time all the same.
            let line = format!("{named}\n");
            let kept = file.write_all_at(line.as_bytes(), 0).and_then(|()| file.set_len(line.len() as u64));
            kept.unwrap_or_else(|error| tracing::debug!("cannot keep the name of this client: {error}"));
        }
        named
    }
}

/// Asks under a name, so that it is done once. When a node refuses the name, it takes another one.
pub(super) async fn write(cluster: &Cluster, mut ask: Ask) -> Result<Response, Failure> {
    let mut name = Name::lease(cluster).await?;
    ask.name = Some(name.next());
    let answer = cluster.ask(ask.clone()).await?;
    if !is_name_refused(&answer) {
        return Ok(answer);
    }
    name.renew(cluster).await?;
    ask.name = Some(name.next());
    cluster.ask(ask).await
}

/// A file for a name that nobody uses now, locked.
fn free_file() -> Option<File> {
    let dir = match std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()) {
        Some(dir) => dir,
        None => std::env::home_dir().filter(|dir| dir.is_absolute())?.join(".local/state"),
    };
    let dir = dir.join("netbelt/raft-ctl");
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).ok()?;
    let mut files = (0..MAX_KEPT_NAMES).filter_map(|number| {
        let path = dir.join(number.to_string());
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).ok()
    });
    files.find(|file| file.try_lock().is_ok())
}

/// The name that a file keeps, and its last number.
fn kept(file: &File) -> Option<(String, u64)> {
    let mut line = String::new();
    file.take(2 * MAX_CLIENT_BYTES as u64).read_to_string(&mut line).ok()?;
    let (name, last) = line.strip_suffix('\n')?.rsplit_once(':')?;
    let is_whole =
        name.starts_with(PREFIX) && name.len() <= MAX_CLIENT_BYTES && name.bytes().all(|b| b.is_ascii_graphic());
    let last = last.parse().ok().filter(|last| *last < u64::MAX);
    last.filter(|_| is_whole).map(|last| (name.to_owned(), last))
}

/// The version of the store at the node that answers first. An older one does as well: it is only forgotten earlier.
async fn version_of(cluster: &Cluster) -> Option<u64> {
    let mut answers = JoinSet::new();
    for node in &cluster.nodes {
        let (cluster, node) = (cluster.clone(), node.clone());
        answers.spawn(async move { status::of(&cluster, &node, NAME_PATIENCE).await });
    }
    while let Some(answer) = answers.join_next().await {
        if let Ok(Ok(version)) = answer.map(|status| status.map(|status| status["version"].as_u64()))
            && version.is_some()
        {
            return version;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_a_whole_line_of_its_own_is_taken_for_a_kept_name() {
        let kept_in = |text: &str| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            std::io::Seek::rewind(&mut file).unwrap();
            kept(&file)
        };
        assert_eq!(kept_in("raft-ctl-1;since=7:12\n"), Some(("raft-ctl-1;since=7".to_owned(), 12)));
        let long = format!("raft-ctl-{}:1\n", "x".repeat(MAX_CLIENT_BYTES));
        for other in
            ["", "\0\0\0", "raft-ctl-1:12", "raft-ctl-1\n", "x:12\n", "raft-ctl-1:x\n", "raft-ctl-\r:1\n", &long]
        {
            assert_eq!(kept_in(other), None, "{other:?}");
        }
        assert_eq!(kept_in("raft-ctl-1:18446744073709551615\n"), None, "no number is left");
    }

    #[test]
    fn numbers_rise_also_when_the_clock_was_put_back() {
        let mut name = Name { name: "n".to_owned(), last: u64::MAX / 2, file: None };
        assert_eq!(name.next(), format!("n:{}", u64::MAX / 2 + 1));
        let mut name = Name { name: "n".to_owned(), last: 0, file: None };
        let (first, second) = (name.next(), name.next());
        assert!(first < second && *first > *"n:1700000000000000000", "{first} {second}");
    }
}
