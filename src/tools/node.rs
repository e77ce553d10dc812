//! What the tools share that are nodes: where they listen, their data directories, the records in them.

use std::fmt::Display;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use hyper::body::Bytes;

use super::{bind_failure, resolve};
use crate::cli::{Failure, origin};
use crate::net::bind::BindError;
use crate::net::disk;
use crate::net::identity::data_dir::{Claim, DataDir, DataDirError};
use crate::wire::Wire;

/// Where a node is to listen.
pub(super) struct Listen<'a> {
    /// Who listens.
    pub(super) tool: &'static str,
    /// As `--listen` or `LISTEN` says.
    pub(super) listen: Option<&'a str>,
    /// As `PORT` says.
    pub(super) port: Option<u16>,
    /// Where nothing says it.
    pub(super) default_port: u16,
    /// Whether others than this machine may reach it.
    pub(super) insecure: bool,
}

impl Listen<'_> {
    /// Has the socket bound. `may_be_exposed` is asked about an address that others reach. What is wrong with an address that a
    /// variable gave names that.
    pub(super) async fn bind<S>(
        &self,
        may_be_exposed: impl FnOnce(SocketAddr) -> Result<(), Failure>,
        bind: impl FnOnce(&str, &[SocketAddr]) -> Result<S, BindError>,
    ) -> Result<S, Failure> {
        let variable = match self.listen {
            Some(_) => Some(origin::name("--listen", "LISTEN")).filter(|name| *name == "LISTEN"),
            None => self.port.map(|_| "PORT"),
        };
        self.bind_unnamed(may_be_exposed, bind).await.map_err(|failure| match variable {
            Some(variable) => Failure::new(failure.kind, format!("{variable} (environment): {failure}")),
            None => failure,
        })
    }

    async fn bind_unnamed<S>(
        &self,
        may_be_exposed: impl FnOnce(SocketAddr) -> Result<(), Failure>,
        bind: impl FnOnce(&str, &[SocketAddr]) -> Result<S, BindError>,
    ) -> Result<S, Failure> {
        let (listen, addrs) = match (self.listen, self.port) {
            (Some(listen), _) => (listen.to_owned(), resolve(listen).await?),
            // Who serves others than this machine, in a container say, serves them all. Where there is no IPv6, [::] fails.
            (None, Some(port)) if self.insecure => {
                let every = [SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), (Ipv4Addr::UNSPECIFIED, port).into()];
                (format!("port {port} of every address"), every.to_vec())
            }
            (None, port) => {
                let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(self.default_port)));
                (addr.to_string(), vec![addr])
            }
        };
        if let Some(addr) = addrs.iter().find(|addr| !addr.ip().is_loopback()) {
            may_be_exposed(*addr)?;
            if !self.insecure {
                return Err(Failure::usage(format!(
                    "{addr} can be reached from other machines, and nothing is encrypted or authenticated: listen on \
                     127.0.0.1, or pass --insecure (INSECURE=1) on a network where you trust everybody (--key-file will do \
                     better; {} does not have it yet)",
                    self.tool
                )));
            }
        }
        bind(&listen, &addrs).map_err(|error| bind_failure(&error))
    }
}

/// Opens the directory that `--data-dir` names, or `DATA_DIR`.
pub(super) fn open_data_dir(path: &Path, claim: &Claim<'_>) -> Result<DataDir, Failure> {
    DataDir::open(path, claim).map_err(|error| {
        let failure = data_dir_failure(&error);
        match origin::name("--data-dir", "DATA_DIR") {
            variable @ "DATA_DIR" => Failure::local(format!("{variable} (environment): {failure}")),
            _ => failure,
        }
    })
}

/// Hands `take` the records of the log in `dir`, oldest first.
pub(super) fn replay<R: Wire>(
    dir: &Path,
    records: impl Iterator<Item = Result<Bytes, disk::Error>>,
    mut take: impl FnMut(R) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for (number, record) in records.enumerate() {
        let record = record.map_err(|error| disk_failure(&error))?;
        take(R::decode(record).map_err(|error| newer(dir, &format!("record {number}"), &error))?)?;
    }
    Ok(())
}

/// What is wrong with a disk.
pub(super) fn disk_failure(error: &disk::Error) -> Failure {
    Failure::local(error.to_string())
}

/// What is whole and not understood: its checksum holds, so it is what somebody wrote.
pub(super) fn newer(dir: &Path, what: &str, error: &dyn Display) -> Failure {
    Failure::local(format!(
        "{what} of the log in {} was written by a newer version of netbelt ({error}): start that version, or a later one",
        dir.display()
    ))
}

/// What is wrong with a data directory, and what to do about it.
pub(super) fn data_dir_failure(error: &DataDirError) -> Failure {
    let remedy = match error {
        DataDirError::InUse(_) => {
            ": stop that one first, or, if you mean another, name that with --data-dir".to_owned()
        }
        DataDirError::Foreign(_) => ": choose an empty or a new --data-dir".to_owned(),
        DataDirError::Other { id, .. } => format!(": choose another --data-dir, or start it as {id}"),
        DataDirError::Copied { id, .. } => format!(
            ": start {id} with the original, or this one with another --id and an empty --data-dir. If the original was moved \
             here and is gone for good, start once with --moved; never do that with a backup that {id} has outlived"
        ),
        DataDirError::Io { .. }
        | DataDirError::Nothing(_)
        | DataDirError::Interrupted(_)
        | DataDirError::Newer { .. }
        | DataDirError::Damaged { .. } => String::new(),
    };
    Failure::local(format!("{error}{remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_for_a_copy_is_told_what_to_do_with_one_that_was_moved() {
        let copied = DataDirError::Copied { path: "n1.raft".into(), id: "n1".to_owned() };
        let said = data_dir_failure(&copied).to_string();
        assert!(said.starts_with(&copied.to_string()) && said.contains("--moved"), "{said}");
    }
}
