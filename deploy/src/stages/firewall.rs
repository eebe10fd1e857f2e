//! Firewall: the ufw rule of the project's ports, and which ports are really open. Ports that Docker publishes bypass ufw,
//! so the rules only document what should be open: every published port is tried from here, and one that nobody asked
//! for is a warning. What else is allowed or denied on the server is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;
use slipway_protocol::names::{Host, Port};
use slipway_protocol::{ErrorCode, Exposed, Stage};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

/// How long a port that drops packets is waited for.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where domains are served.
const HTTP_AND_HTTPS: [u16; 2] = [80, 443];

impl Attempt {
    pub(crate) async fn firewall(&mut self) -> Result<StageReport, StageError> {
        let output = match self.rules_seen.take() {
            Some(output) if is_right(&output) => output,
            seen => {
                let mut output = self.set_rules().await?;
                // What the certificate authority needed to be open before.
                let early = seen.iter().flat_map(|seen| seen.values("added"));
                early.for_each(|port| output.assume("added", port));
                output
            }
        };
        let numbers = |key| output.values(key).iter().map(|v| serde_json::Value::from(v.as_str())).collect::<Vec<_>>();
        let (added, removed) = (numbers("added"), numbers("removed"));
        let others = serde_json::Value::from(numbers("others"));
        self.warn_of_rules(&others);
        let exposed = self.look_at_published_ports().await.unwrap_or_default();
        self.warn_of_exposed(&exposed);
        Ok(StageReport::of(!(added.is_empty() && removed.is_empty()))
            .fact("ufw", output.value("ufw").unwrap_or("unknown"))
            .fact("opened", added)
            .fact("closed", removed)
            .fact("ruled_by_others", others)
            .fact(Exposed::FACT, json!(exposed)))
    }

    /// Makes the rules that there should be, and finds out what Docker publishes unless that's known.
    async fn set_rules(&mut self) -> Result<ScriptOutput, StageError> {
        let script = Script::new("firewall", scripts::FIREWALL)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .number("published_known", self.published.is_some().into())
            .words("ports", &super::published_ports(&self.work.request));
        let output = self.exec_or(Stage::Firewall, &script, ErrorCode::FirewallFailed, "ufw failed").await?;
        if self.published.is_none() {
            self.note_published(&output);
        }
        Ok(output)
    }

    fn note_published(&mut self, output: &ScriptOutput) {
        self.published = Some(parse_published(output.values("published").iter().map(String::as_str)));
    }

    /// What compose's script has seen while it waited for the project. Where no rule comes or goes, that is all that this
    /// stage wants to know.
    pub(super) fn note_firewall(&mut self, output: &ScriptOutput) {
        self.note_published(output);
        self.rules_seen = Some(output.clone());
    }

    /// `ports`: the fact that names the ports with rules of others.
    pub(super) fn warn_of_rules(&self, ports: &serde_json::Value) {
        let ports = ports.as_array().into_iter().flatten();
        for port in ports.filter_map(serde_json::Value::as_str) {
            let line = format!("port {port} has a ufw rule that Slipway hasn't made: it stays as it is");
            self.report_line(Stage::Firewall, &line);
        }
    }

    pub(super) fn warn_of_exposed(&self, exposed: &[Exposed]) {
        for Exposed { port, service, .. } in exposed.iter().filter(|port| port.answers && !port.asked_for) {
            self.report_line(
                Stage::Firewall,
                &format!(
                    "warning: port {port} of service {service} answers from outside, though it wasn't asked for; \
                     no firewall rule closes what Docker publishes: take it out of the compose files, or bind it to \
                     127.0.0.1"
                ),
            );
        }
    }

    /// Tries each port that Docker publishes, from here; `None` before stage firewall has found out which.
    pub(super) async fn look_at_published_ports(&self) -> Option<Vec<Exposed>> {
        let published = self.published.clone()?;
        let mut asked_for = super::published_ports(&self.work.request);
        if self.front_door().is_some() && self.work.request.domains().next().is_some() {
            asked_for.extend(HTTP_AND_HTTPS.into_iter().filter_map(|port| Port::new(port).ok()));
        }
        let answered = self.left.answers.keys().copied().collect();
        Some(try_ports(&self.work.target.address, published, &asked_for, &answered).await)
    }
}

/// Whether a script has found the rules to be as they have to be.
fn is_right(seen: &ScriptOutput) -> bool {
    seen.value("ufw").is_some() && seen.values("rule_differs").is_empty()
}

/// From lines `SERVICE PORT/tcp ADDRESS HOST_PORT`; an IPv4 and an IPv6 one of the same port are one.
pub(super) fn parse_published<'a>(lines: impl Iterator<Item = &'a str>) -> BTreeMap<Port, String> {
    let mut ports = BTreeMap::new();
    for line in lines {
        let [service, port, address, number] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        let loopback = address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        if let Some(number) = number.parse().ok().and_then(|number| Port::new(number).ok())
            && port.ends_with("/tcp")
            && !loopback
        {
            ports.insert(number, service.to_owned());
        }
    }
    ports
}

/// Tries all of them at once, but those that are known to have answered just now.
async fn try_ports(
    host: &Host,
    ports: BTreeMap<Port, String>,
    asked_for: &[Port],
    answered: &BTreeSet<Port>,
) -> Vec<Exposed> {
    let mut tries = JoinSet::new();
    for (port, service) in ports {
        let (host, asked_for, answered) = (host.to_string(), asked_for.contains(&port), answered.contains(&port));
        tries.spawn(async move {
            let connecting = TcpStream::connect((host.as_str(), port.get()));
            let answers = answered || matches!(timeout(CONNECT_TIMEOUT, connecting).await, Ok(Ok(_)));
            Exposed { port, service, answers, asked_for }
        });
    }
    let mut ports = tries.join_all().await;
    ports.sort_by_key(|exposed| exposed.port);
    ports
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_others_may_reach_is_read_once_and_loopback_and_udp_are_not_part_of_it() {
        let lines = [
            "backend 8000/tcp 0.0.0.0 8080",
            "backend 8000/tcp :: 8080",
            "db 5432/tcp 0.0.0.0 15432",
            "redis 6379/tcp 127.0.0.1 6379",
            "dns 53/udp 0.0.0.0 53",
        ];
        let port = |number| Port::new(number).expect("a port");
        let expected = BTreeMap::from([(port(8080), "backend".to_owned()), (port(15432), "db".to_owned())]);
        assert_eq!(parse_published(lines.into_iter()), expected);
    }
}
