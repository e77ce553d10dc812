//! A node as all its requests see it: what it is asked goes through here.

use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::Semaphore;

use super::answers::{Answered, expected};
use super::status::NodeInfo;
use super::subscribers::Subscribers;
use crate::defaults::MAX_BACKUPS;
use crate::http::kv::watchers::Watchers;
use crate::http::machine::{Halted, Machine, MayHave};
use crate::http::memory::Memory;
use crate::http::peers::Streams;
use crate::http::reply::Refusal;
use crate::http::request::Parameters;
use crate::kv::raft_kv::{Answer, Ask, Command, Query, RaftKv, RequestError, RequestId};
use crate::net::driver::Handle;

pub(super) struct Node {
    pub(super) machine: Machine<RaftKv, Answered>,
    pub(super) info: NodeInfo,
    pub(super) watchers: Watchers,
    pub(super) backups: Arc<Semaphore>,
    pub(super) memory: Memory,
    pub(super) peer_streams: Arc<Streams>,
}

impl Node {
    pub(super) fn new(
        handle: Handle<RaftKv>,
        info: NodeInfo,
        subscribers: Subscribers,
        first_request: u64,
        halted: Halted,
    ) -> Self {
        let Subscribers { requests, announced, over } = subscribers;
        Self {
            watchers: Watchers::new(handle.clone(), RaftKv::changes, announced.subscribe(), over),
            machine: Machine::new(handle, requests, first_request, halted, info.disk.clone()),
            info,
            backups: Arc::new(Semaphore::new(MAX_BACKUPS)),
            memory: Memory::default(),
            peer_streams: Arc::default(),
        }
    }

    /// Asks the machine for what is answered with a `T`.
    pub(super) async fn ask<T: TryFrom<Answer>>(
        &self,
        ask: Ask,
        timeout: Duration,
    ) -> Result<Result<T, RequestError>, Refusal> {
        let may_have = match ask {
            Ask::Write(_) | Ask::Administer(_) => MayHave::Changed,
            Ask::Snapshot => MayHave::Saved,
            Ask::Read(_)
            | Ask::ReadStale(_)
            | Ask::OpenView
            | Ask::OpenStaleView
            | Ask::NextChunk(_)
            | Ask::CloseView(_) => MayHave::Read,
        };
        let command = |id| Command { id: RequestId(id), ask, timeout };
        Ok(self.machine.ask(command, may_have, timeout).await?.map(expected))
    }

    /// Reads as the parameters `consistency` and `timeout` say.
    pub(super) async fn read<T: TryFrom<Answer>>(
        &self,
        query: Query,
        parameters: &Parameters<'_>,
    ) -> Result<Result<T, RequestError>, Refusal> {
        let ask = match parameters.get("consistency") {
            None | Some("linearizable") => Ask::Read(query),
            Some("stale") => {
                // What waits for the disk need not keep anybody from what does not.
                let (announced, read) = (self.watchers.announced(), query.clone());
                let durable = self.machine.inspect(move |machine| machine.read_durable(&read, announced)).await?;
                match durable {
                    Some(answer) => {
                        self.info.stale_reads.inc();
                        return Ok(Ok(expected(answer)));
                    }
                    None => Ask::ReadStale(query),
                }
            }
            Some(_) => {
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "consistency is linearizable or stale"));
            }
        };
        self.ask(ask, parameters.timeout()?).await
    }
}
