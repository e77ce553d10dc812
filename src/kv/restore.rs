//! A state from the chunks of a [snapshot](super::snapshot).

use bytes::Bytes;

use super::command::Versioned;
use super::forgotten::Forgotten;
use super::sessions::Sessions;
use super::snapshot::{Reader, SnapshotError};
use super::state::State;
use super::store::Store;

/// Puts a state together from its chunks. It takes as much memory as they do, and no more on the word of a header.
#[derive(Debug, Default)]
pub struct Restorer {
    reader: Reader,
    items: Vec<(Bytes, Versioned)>,
}

impl Restorer {
    /// Takes the next chunk.
    ///
    /// # Errors
    /// When it cannot follow what came before. The restorer is of no use after that.
    pub fn push(&mut self, chunk: Bytes) -> Result<(), SnapshotError> {
        self.reader.read(chunk, |key, versioned| self.items.push((key, versioned)))
    }

    /// The state, once all chunks have come.
    ///
    /// # Errors
    /// When some have not, or when two clients have one name.
    pub fn finish(self) -> Result<State, SnapshotError> {
        let header = self.reader.whole()?;
        let forgotten = header.forgotten.map(|header| Forgotten::restore(header.since, &self.reader.forgotten));
        let sessions = Sessions::restore(header.clock, self.reader.clients, forgotten);
        if sessions.len() < header.clients {
            return Err(SnapshotError::Bad("client, which comes twice"));
        }
        Ok(State::restore(Store::restore(header.version, self.items), sessions, header.cluster))
    }
}
