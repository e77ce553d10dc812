//! Another member, as the command line names it.

use crate::cli::args;
use crate::node_id::{InvalidNodeId, NodeId};

/// Another member, and where it is.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) id: NodeId,
    pub(super) addr: String,
    /// It was given without a name, and goes by its host's.
    pub(super) is_bare: bool,
}

/// `ID=HOST:PORT`, or `HOST:PORT` with the host as the name; nothing between two commas.
pub(super) fn parse(text: &str) -> Result<Option<Peer>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let (id, addr) = match text.split_once('=') {
        Some((id, addr)) => (Some(id.trim()), args::node_address(addr)?),
        None => (None, args::node_address(text)?),
    };
    let name = id.unwrap_or_else(|| addr.rsplit_once(':').map_or(&addr[..], |(host, _)| host));
    let is_bare = id.is_none();
    let id = name.parse().map_err(|error: InvalidNodeId| error.to_string())?;
    Ok(Some(Peer { id, addr, is_bare }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_may_be_written_with_blanks_and_as_a_url() {
        let of = |text| parse(text).unwrap().map(|peer| (peer.id.to_string(), peer.addr, peer.is_bare));
        let named = Some(("n2".to_owned(), "host:7002".to_owned(), false));
        for text in ["n2=host:7002", " n2 = host:7002 ", "n2=http://host:7002", "n2=http://host:7002/"] {
            assert_eq!(of(text), named, "{text}");
        }
        let bare = Some(("node2".to_owned(), "node2:3000".to_owned(), true));
        for text in ["node2:3000", " node2:3000", "http://node2:3000"] {
            assert_eq!(of(text), bare, "{text}");
        }
        assert!(of(" ").is_none());
        assert!(parse("n2=host").unwrap_err().contains("HOST:PORT"));
    }
}
