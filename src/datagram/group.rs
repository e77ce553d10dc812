//! Multicast groups.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A multicast group, and the interface on which to join it: `239.1.2.3`, `239.1.2.3%eth0`, `ff15::1%lo`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's address, a multicast one.
    pub address: IpAddr,
    /// The interface, by its name or one of its addresses; without it the routing table decides.
    pub interface: Option<String>,
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let explain = || format!("'{text}' is no multicast group such as 239.1.2.3, 239.1.2.3%eth0 or ff15::1%eth0");
        let (address, interface) = match text.split_once('%') {
            Some((_, "")) => return Err(explain()),
            Some((address, interface)) => (address, Some(interface.to_owned())),
            None => (text, None),
        };
        match address.parse::<IpAddr>() {
            Ok(address) if address.is_multicast() => Ok(Self { address, interface }),
            _ => Err(explain()),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        self.interface.as_ref().map_or(Ok(()), |interface| write!(f, "%{interface}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_name_its_interface() {
        let group = |text: &str| text.parse::<Group>();
        assert_eq!(group("239.1.2.3"), Ok(Group { address: "239.1.2.3".parse().unwrap(), interface: None }));
        let on_lo = group("ff15::1%lo").unwrap();
        assert_eq!((on_lo.interface.as_deref(), on_lo.to_string().as_str()), (Some("lo"), "ff15::1%lo"));
        assert_eq!(group("224.0.0.251%192.0.2.7").unwrap().interface.as_deref(), Some("192.0.2.7"));
        for bad in ["", "239.1.2.3%", "127.0.0.1", "::1", "239.1.2.3:9000", "all"] {
            assert!(group(bad).unwrap_err().contains("239.1.2.3%eth0"), "{bad}");
        }
    }
}
