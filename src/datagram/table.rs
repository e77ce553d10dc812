//! What the kernel's table of UDP sockets says of one: what it had to drop, and what has not left yet.
//!
//! The socket option SO_RXQ_OVFL tells how many were dropped, too, but only along with a datagram, so the last losses would
//! never be known. `/proc/net/udp` tells it at any time.

use std::fs;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

/// Datagrams for this socket that the kernel has dropped since it was opened; nothing where `/proc` does not say.
pub fn dropped(socket: &UdpSocket) -> Option<u64> {
    drops(&row(&of(socket)?, inode(socket)?)?)
}

/// Whether something that was sent is still on this machine: most often because nobody on the link has said that the address
/// is its own. Nothing where `/proc` does not say.
pub fn is_unsent(socket: &UdpSocket) -> Option<bool> {
    unsent(&row(&of(socket)?, inode(socket)?)?).map(|bytes| bytes > 0)
}

fn inode(socket: &UdpSocket) -> Option<u64> {
    Some(rustix::fs::fstat(socket).ok()?.st_ino)
}

fn of(socket: &UdpSocket) -> Option<String> {
    let table = match socket.local_addr().ok()? {
        SocketAddr::V4(_) => "/proc/self/net/udp",
        SocketAddr::V6(_) => "/proc/self/net/udp6",
    };
    fs::read_to_string(table).ok()
}

/// The columns of the line whose `inode` is that one (proc(5): column 10, with two of the header's names to one column at
/// `tx_queue rx_queue` and at `tr tm->when`).
fn row(table: &str, inode: u64) -> Option<Vec<&str>> {
    let rows = table.lines().skip(1).map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    rows.into_iter().find(|row| row.get(9).is_some_and(|column| column.parse() == Ok(inode)))
}

fn drops(row: &[&str]) -> Option<u64> {
    row.get(12)?.parse().ok()
}

/// Bytes, with the kernel's own book-keeping.
fn unsent(row: &[&str]) -> Option<u64> {
    u64::from_str_radix(row.get(4)?.split(':').next()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            
  331: 0100007F:2328 00000000:0000 07 00000300:00000000 00:00000000 00000000     0        0 41523 2 0000000000000000 17        
  332: 0100007F:2329 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 41524 2 0000000000000000 0        
";

    #[test]
    fn a_row_is_that_of_the_inode() {
        let of = |inode| row(TABLE, inode).map(|row| (drops(&row), unsent(&row)));
        assert_eq!(of(41523), Some((Some(17), Some(0x300))));
        assert_eq!(of(41524), Some((Some(0), Some(0))));
        assert_eq!(of(41525), None);
        assert_eq!(row("", 1), None);
        assert_eq!(row("header\n 1: x", 1), None);
    }

    #[tokio::test]
    async fn a_new_socket_has_dropped_nothing_and_nothing_waits_in_it() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(addr).await.unwrap();
            assert_eq!((dropped(&socket), is_unsent(&socket)), (Some(0), Some(false)), "{addr}");
        }
    }
}
