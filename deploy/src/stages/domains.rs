//! Whether a project's domains lead to its server, as the workers see it: the certificate authority, and everybody else,
//! looks them up just so. What is served under them is the front door's business.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use slipway_protocol::Stage;
use slipway_protocol::names::Host;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Attempt;

/// How long a name server may take.
const LOOKUP_TIME: Duration = Duration::from_secs(10);
/// Name servers fail for moments.
const LOOKUPS: u32 = 2;
const BETWEEN_LOOKUPS: Duration = Duration::from_secs(1);

/// Where a front door serves domains, and answers the certificate authority.
pub(crate) const WEB_PORTS: &[u16] = &[80, 443];

impl Attempt {
    /// The ports that the server's front door needs beside those that are allocated.
    pub(crate) fn web_ports(&self) -> &'static [u16] {
        if self.front_door().is_some() && self.work.request.domains().next().is_some() { WEB_PORTS } else { &[] }
    }

    /// Looks all of them up, beside whatever else is done; gives what keeps each from being served.
    pub(super) fn look_up_domains(&self) -> JoinSet<Option<String>> {
        let mut looking = JoinSet::new();
        let mut domains = self.work.request.domains().map(|(_, domain)| domain.to_string()).peekable();
        if self.front_door().is_none() {
            if domains.peek().is_some() {
                let line = "warning: the server has no front door, so that the project's domains aren't served";
                self.report_line(Stage::Preflight, line);
            }
            return looking;
        }
        for domain in domains {
            let server = self.work.target.address.clone();
            looking.spawn(async move {
                // A server whose own name can't be looked up isn't reached at all.
                let server = server_addresses(&server).await.ok()?;
                domain_defect(&domain, &addresses(&domain).await, &server)
            });
        }
        looking
    }
}

/// Where a server is.
pub(super) async fn server_addresses(host: &Host) -> io::Result<BTreeSet<IpAddr>> {
    match host.as_str().trim_matches(['[', ']']).parse() {
        Ok(address) => Ok([address].into()),
        Err(_) => addresses(host.as_str()).await,
    }
}

async fn addresses(name: &str) -> io::Result<BTreeSet<IpAddr>> {
    let mut tried = 0;
    loop {
        tried += 1;
        let found = timeout(LOOKUP_TIME, lookup_host((name, 443)))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no name server answers in time")));
        match found {
            Ok(found) => return Ok(found.map(|address| address.ip().to_canonical()).collect()),
            Err(error) if tried >= LOOKUPS => return Err(error),
            Err(_) => tokio::time::sleep(BETWEEN_LOOKUPS).await,
        }
    }
}

/// What is wrong with a domain's records. Those of a family that the server isn't known by may be right.
fn domain_defect(domain: &str, found: &io::Result<BTreeSet<IpAddr>>, server: &BTreeSet<IpAddr>) -> Option<String> {
    let known = |address: &IpAddr| server.iter().any(|here| here.is_ipv4() == address.is_ipv4());
    let list = |addresses: &[&IpAddr], word: &str| {
        addresses.iter().map(|address| address.to_string()).collect::<Vec<_>>().join(word)
    };
    let records = server.iter().map(|address| match address {
        IpAddr::V4(_) => format!("an A record with {address}"),
        IpAddr::V6(_) => format!("an AAAA record with {address}"),
    });
    let wanted = records.collect::<Vec<_>>().join(" or ");
    let found = match found {
        Err(why) => return Some(format!("domain {domain} leads nowhere ({why}): it needs {wanted}")),
        Ok(found) => found,
    };
    let astray: Vec<_> = found.iter().filter(|address| known(address) && !server.contains(address)).collect();
    if !found.is_disjoint(server) {
        let others = list(&astray, " and ");
        return (!astray.is_empty())
            .then(|| format!("domain {domain} leads to {others} as well as to this server: it must lead here alone"));
    }
    let leads = match &found.iter().collect::<Vec<_>>()[..] {
        [] => "nowhere".to_owned(),
        elsewhere => format!("to {} and not to this server", list(elsewhere, " and ")),
    };
    Some(format!("domain {domain} leads {leads}: it needs {wanted}"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_domain_leads_to_its_server_or_the_record_is_named_that_is_missing() {
        let set = |list: &[&str]| list.iter().map(|a| a.parse().expect("an address")).collect::<BTreeSet<IpAddr>>();
        let (four, both) = (&["192.0.2.1"][..], &["192.0.2.1", "2001:db8::1"][..]);
        let (needs_four, needs_one) = (
            "it needs an A record with 192.0.2.1",
            "it needs an A record with 192.0.2.1 or an AAAA record with 2001:db8::1",
        );
        let here_alone = "as well as to this server: it must lead here alone";
        for (found, server, defect) in [
            (&["192.0.2.1"][..], four, None),
            (&["192.0.2.1", "2001:db8::9"], four, None),
            (&["192.0.2.1"], both, None),
            (&["2001:db8::1"], both, None),
            (&["192.0.2.9"], four, Some(format!("to 192.0.2.9 and not to this server: {needs_four}"))),
            (&["192.0.2.1", "192.0.2.9"], four, Some(format!("to 192.0.2.9 {here_alone}"))),
            (&["192.0.2.1", "2001:db8::9"], both, Some(format!("to 2001:db8::9 {here_alone}"))),
            (&["2001:db8::9"], four, Some(format!("to 2001:db8::9 and not to this server: {needs_four}"))),
            (&["2001:db8::9"], both, Some(format!("to 2001:db8::9 and not to this server: {needs_one}"))),
            (&[], four, Some(format!("nowhere: {needs_four}"))),
        ] {
            let defect = defect.map(|defect| format!("domain a.example leads {defect}"));
            assert_eq!(domain_defect("a.example", &Ok(set(found)), &set(server)), defect, "{found:?} {server:?}");
        }
        let none = Err(io::Error::other("Name or service not known"));
        let defect = domain_defect("a.example", &none, &set(four)).expect("a defect");
        assert_eq!(defect, format!("domain a.example leads nowhere (Name or service not known): {needs_four}"));
    }
}
