//! Servers of the inventory that are probably one machine under two names: what one of them is told to have free, the other
//! one gives away as well.

use std::net::IpAddr;

use slipway_protocol::names::{Host, HostKey, ServerHandle};
use slipway_worker::store::ServerRecord;

/// The other servers that answer at the same address and SSH port, or show the same host key.
pub(super) fn find_twins(server: &ServerRecord, all: &[ServerRecord]) -> Vec<ServerHandle> {
    let is_twin = |other: &&ServerRecord| {
        let at_one_door = is_same_host(&server.address, &other.address) && server.ssh_port == other.ssh_port;
        let with_one_key = server.host_key.as_ref().is_some_and(|key| has_key(other, key));
        other.handle != server.handle && (at_one_door || with_one_key)
    };
    all.iter().filter(is_twin).map(|other| other.handle.clone()).collect()
}

/// What to say of them; nothing where there are none.
pub(super) fn twins_hint(server: &ServerHandle, twins: &[ServerHandle]) -> Option<String> {
    let names: Vec<&str> = twins.iter().map(ServerHandle::as_str).collect();
    (!names.is_empty()).then(|| {
        format!(
            "{server} has the address and SSH port, or the host key, of {}: if it's one machine, its room and ports are given away \
             twice; take the name out that isn't needed, with `slipway servers remove`",
            names.join(", ")
        )
    })
}

/// What follows the key is a comment.
fn has_key(server: &ServerRecord, key: &HostKey) -> bool {
    let words = |key: &HostKey| key.as_str().split_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>();
    server.host_key.as_ref().is_some_and(|own| words(own) == words(key))
}

/// Names aren't looked up: that a name leads to an address is true today.
fn is_same_host(one: &Host, other: &Host) -> bool {
    let (one, other) = (one.as_str(), other.as_str());
    match (one.parse::<IpAddr>(), other.parse::<IpAddr>()) {
        (Ok(one), Ok(other)) => one.to_canonical() == other.to_canonical(),
        _ => one.eq_ignore_ascii_case(other),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use slipway_protocol::names::{Port, UserName};

    use super::*;

    fn server(handle: &str, address: &str, port: u16, key: Option<&str>) -> ServerRecord {
        ServerRecord {
            handle: handle.parse().unwrap(),
            address: address.parse().unwrap(),
            ssh_port: Port::new(port).unwrap(),
            ssh_user: UserName::new("root").unwrap(),
            host_key: key.map(|key| HostKey::new(format!("ssh-ed25519 {}", key.repeat(34))).unwrap()),
            trust_on_first_use: false,
            ssh_key_enc: None,
            notes: None,
            front_door: None,
        }
    }

    #[test]
    fn one_address_and_port_or_one_host_key_is_one_machine() {
        let known = server("vps-1", "2001:db8::1", 22, Some("Aa"));
        for (other, is_twin) in [
            (server("vps-2", "2001:DB8:0::1", 22, None), true),
            (server("vps-2", "2001:db8::1", 2222, None), false),
            (server("vps-2", "2001:db8::1", 2222, Some("Aa")), true),
            (server("vps-2", "203.0.113.9", 22, Some("Aa")), true),
            (server("vps-2", "203.0.113.9", 22, Some("Bb")), false),
            // Itself, as it was.
            (server("vps-1", "2001:db8::1", 22, Some("Aa")), false),
        ] {
            let twins = find_twins(&other, std::slice::from_ref(&known));
            assert_eq!(!twins.is_empty(), is_twin, "{other:?}");
            assert_eq!(twins_hint(&other.handle, &twins).is_some(), is_twin);
        }
        let (named, known) = (server("b", "VPS.example.org", 22, None), server("a", "vps.example.org", 22, None));
        assert_eq!(find_twins(&named, &[known]).len(), 1);
    }
}
