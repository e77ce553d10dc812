//! How many datagrams the kernel had to drop because the reader was too slow.
//!
//! The socket option SO_RXQ_OVFL tells the same number, but only along with a datagram, so the last losses would never be
//! known. `/proc/net/udp` tells it at any time.

use std::fs;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

/// Datagrams for this socket that the kernel has dropped since it was opened; nothing where `/proc` does not say.
pub fn dropped(socket: &UdpSocket) -> Option<u64> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino;
    let table = match socket.local_addr().ok()? {
        SocketAddr::V4(_) => "/proc/self/net/udp",
        SocketAddr::V6(_) => "/proc/self/net/udp6",
    };
    in_table(&fs::read_to_string(table).ok()?, inode)
}

/// The column `drops` of the line whose `inode` is that one (proc(5): columns 10 and 13, with two of the header's names
/// to one column at `tx_queue rx_queue` and at `tr tm->when`).
fn in_table(table: &str, inode: u64) -> Option<u64> {
    let column = |line: &str, number| line.split_ascii_whitespace().nth(number)?.parse().ok();
    let line = table.lines().skip(1).find(|line| column(line, 9) == Some(inode))?;
    column(line, 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops            
  331: 0100007F:2328 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 41523 2 0000000000000000 17        
  332: 0100007F:2329 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 41524 2 0000000000000000 0        
";

    #[test]
    fn the_drops_are_those_of_the_inode() {
        assert_eq!(in_table(TABLE, 41523), Some(17));
        assert_eq!(in_table(TABLE, 41524), Some(0));
        assert_eq!(in_table(TABLE, 41525), None);
        assert_eq!(in_table("", 1), None);
        assert_eq!(in_table("header\n 1: x", 1), None);
    }

    #[tokio::test]
    async fn a_new_socket_has_dropped_nothing() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(addr).await.unwrap();
            assert_eq!(dropped(&socket), Some(0), "{addr}");
        }
    }
}
