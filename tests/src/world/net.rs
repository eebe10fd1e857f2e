//! The world's address plan: RFC 2544's test range, inside the world's network namespace only, so that any number of
//! worlds use it side by side.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Where workers connect from; also RabbitMQ's and Postgres' machine, but those listen on loopback.
pub const WORKER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);
/// The same machine's address in the worlds' second network, of unique local addresses.
const WORKER_V6: Ipv6Addr = Ipv6Addr::new(0xfd18, 0, 0, 0, 0, 0, 0, 1);
/// The private registry, with login.
pub const GHCR: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 2);
/// The git server (a stand-in in the test process).
pub const GITHUB: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
/// GitHub's REST API (a stand-in in the test process).
pub const GITHUB_API: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 4);
/// Docker Hub, without login.
pub const DOCKER_HUB: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 5);

/// The certificate authority, where a test has started it.
pub(super) const ACME: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 6);
/// Its name.
pub(super) const ACME_NAME: &str = "acme.example.net";

/// Domains that lead to target server 0.
pub const DOMAINS: [&str; 3] = ["shop.example.org", "www.shop.example.org", "refused.example.org"];
/// One that leads to another machine. Any other name leads nowhere.
pub const STRAY_DOMAIN: &str = "stray.example.org";

const NAMES: [(Ipv4Addr, &str); 5] = [
    (GHCR, "ghcr.io"),
    (GITHUB, "github.com"),
    (GITHUB_API, "api.github.com"),
    (DOCKER_HUB, "registry-1.docker.io"),
    (ACME, ACME_NAME),
];

/// The address of target server `index`, from 0.
pub(super) fn target(index: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, 0, 10 + index)
}

/// The same server's address in the second network.
pub(super) fn target_v6(index: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd18, 0, 0, 0, 0, 0, 0, 0x10 + u16::from(index))
}

/// Every address of the world's own side, one a line.
pub(super) fn addresses() -> String {
    let mut text = format!("{WORKER}\n{WORKER_V6}\n");
    for (address, _) in NAMES {
        let _ = writeln!(text, "{address}");
    }
    text
}

/// The hosts file, for the world's side and for target servers: there is no DNS.
pub(super) fn hosts() -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    for (address, name) in NAMES {
        let _ = writeln!(text, "{address} {name}");
    }
    for name in DOMAINS {
        let _ = writeln!(text, "{} {name}", target(0));
    }
    let _ = writeln!(text, "{WORKER} {STRAY_DOMAIN}");
    text
}
