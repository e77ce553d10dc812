//! Where a node listens, where the others are, and where they reach it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use super::args::Args;
use crate::cli::{Failure, Tool, origin};
use crate::datagram::socket::own_addresses;
use crate::defaults::{CONNECT_TIMEOUT, JOIN_REMINDER};
use crate::net::place::{OutOfReach, Place, local_toward};
use crate::net::tcp;
use crate::tools::node::Listen;
use crate::tools::{resolve, udp_failure};

impl Args {
    /// Listens.
    pub(super) async fn bind(&self) -> Result<TcpListener, Failure> {
        let listen = Listen {
            tool: Self::NAME,
            listen: self.listen.as_deref(),
            port: self.port,
            default_port: 7001,
            insecure: self.insecure,
        };
        let may_be_exposed = |addr| {
            if !self.cut {
                return Ok(());
            }
            Err(Failure::usage(format!(
                "{addr} can be reached from other machines, and with --cut whoever reaches this node can take it from its \
                 cluster: listen on 127.0.0.1, or leave --cut out"
            )))
        };
        listen.bind(may_be_exposed, tcp::bind).await
    }

    /// Where the others reach this node, which listens on `addr`: as said, or as the others were told in the same words.
    pub(super) async fn place(&self, addr: SocketAddr) -> Place {
        if let Some(advertise) = &self.advertise {
            return Place::Said(advertise.clone());
        }
        if !addr.ip().is_unspecified() {
            return Place::Listening(addr);
        }
        let named = self.peers.iter().flatten().find(|peer| peer.id == self.id);
        if let Some(own) = named {
            return Place::Said(own.addr.clone());
        }
        // Where members go by their hosts' names, so does this one, if that is what this machine is called.
        if self.peers.iter().flatten().any(|peer| peer.is_bare) {
            let own = format!("{}:{}", self.id, addr.port());
            let found = tokio::time::timeout(CONNECT_TIMEOUT, resolve(&own)).await;
            let found = found.ok().and_then(Result::ok).unwrap_or_default();
            let here = own_addresses().unwrap_or_default();
            if found.iter().any(|found| !found.ip().is_loopback() && here.contains(&found.ip())) {
                return Place::Said(own);
            }
        }
        Place::Listening(addr)
    }

    /// Refuses to ask itself to let it in, which would go on for ever, and to ask where nobody could answer.
    pub(super) async fn check_join(&self, addr: SocketAddr, place: &Place) -> Result<(), Failure> {
        let Some(join) = &self.join else { return Ok(()) };
        let option = origin::name("--join", "JOIN");
        let found = tokio::time::timeout(CONNECT_TIMEOUT, resolve(join)).await;
        let found = found.ok().and_then(Result::ok).unwrap_or_default(); // a name may get its address later
        let here = own_addresses().map_err(|error| udp_failure(&error))?;
        let is_own = |at: &SocketAddr| {
            let everywhere = addr.ip().is_unspecified() && (at.ip().is_loopback() || here.contains(&at.ip()));
            *at == addr || (at.port() == addr.port() && everywhere)
        };
        if *place == Place::Said(join.clone()) || found.iter().any(is_own) {
            return Err(Failure::usage(format!(
                "{option} {join} is the address of this node itself: name a node that is in the cluster; the first node of a \
                 cluster is started without --join"
            )));
        }
        match out_of_reach(place, &found) {
            Some(why) => Err(Failure::usage(format!("{option} {join}: {why}"))),
            None => Ok(()),
        }
    }
}

/// What a node that listens on `addr` says of where it is, before it has reached anybody: of every address the one that leads to
/// the rest of the world, or any that another machine may know.
pub(super) fn likely(addr: SocketAddr) -> SocketAddr {
    if !addr.ip().is_unspecified() {
        return addr;
    }
    let far = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 9)); // nobody's (RFC 5737), and nothing is sent there
    let outward = local_toward(far).map(|local| local.ip()).ok();
    let known = || own_addresses().unwrap_or_default().into_iter().find(|ip| ip.is_ipv4() && !ip.is_loopback());
    SocketAddr::new(outward.or_else(known).unwrap_or(Ipv4Addr::LOCALHOST.into()), addr.port())
}

/// Says so, once, when a peer is where it cannot reach this node: a cluster that begins so never has a leader.
pub(super) async fn look_out(place: Place, mut peers: Vec<String>) {
    while matches!(place, Place::Listening(_)) && !peers.is_empty() {
        let mut nameless = Vec::new();
        for peer in peers {
            let Ok(found) = resolve(&peer).await else {
                nameless.push(peer); // it may not have been started yet
                continue;
            };
            if let Some(why) = out_of_reach(&place, &found) {
                tracing::warn!("{peer} cannot reach this node: {why}");
                return;
            }
        }
        peers = nameless;
        tokio::time::sleep(JOIN_REMINDER).await;
    }
}

/// Why none of these addresses reaches this node, where that is known.
fn out_of_reach(place: &Place, others: &[SocketAddr]) -> Option<OutOfReach> {
    let mut ways = others.iter().filter_map(|at| Some(place.toward(local_toward(*at).ok()?, *at)));
    let first = ways.next()?.err()?;
    ways.all(|way| way.is_err()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_on_every_address_names_one_that_it_has() {
        let own = own_addresses().unwrap();
        for every in ["0.0.0.0:7001", "[::]:7001"] {
            let likely = likely(every.parse().unwrap());
            assert!(likely.port() == 7001 && own.contains(&likely.ip()), "{likely} of {own:?}");
        }
        assert_eq!(likely("127.0.0.1:1".parse().unwrap()), "127.0.0.1:1".parse().unwrap());
    }
}
