//! What the stages tell a server's front door, and what is told of it: the parameters of `scripts/door_site.sh` and
//! `scripts/switch.sh`, and how each service was replaced.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::fmt::strtime;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use slipway_protocol::{Replacement, ReplacementWay, ServiceReport};

use crate::remote::output::ScriptOutput;
use crate::{Attempt, DoorCertificate, DoorImage, FrontDoor, FrontDoorFacts, StageReport};

impl Attempt {
    /// The image of the door; empty: there is none, or nobody says which.
    pub(super) fn door_image(&self) -> Option<&DoorImage> {
        self.front_door().map(|door| &door.image)
    }

    /// The image of the door that the release before may be behind, also where there's to be none any more.
    pub(super) fn former_door_image(&self) -> Option<&DoorImage> {
        self.config().front_door.as_ref().map(|door| &door.image)
    }

    /// The file in which the scripts keep the slots, for compose by hand; empty where nothing of the project is behind a door.
    pub(super) fn slots_file(&self) -> String {
        let request = &self.work.request;
        if self.front_door().is_none() || !request.allocations.iter().any(|a| request.is_served(a)) {
            return String::new();
        }
        format!("{}/.slipway-front-door/compose/{}.yml", self.root().as_str(), request.project.slug)
    }

    /// How long what is replaced may go on with what it has begun, in seconds: also where there's to be no door any more. A
    /// script that waits must come to its end.
    pub(super) fn drain_seconds(&self) -> u64 {
        let limit = self.config().front_door.as_ref().map_or(0, |door| door.drain_limit.as_secs());
        limit.min(self.script_limit() / 2)
    }

    /// How long a new release has to have run before it gets a request, in seconds.
    pub(super) fn proving_seconds(&self) -> u64 {
        self.front_door().map_or(0, |door| door.proving_time.as_secs())
    }

    /// The settings of certificates, a line each.
    pub(super) fn acme_lines(&self) -> SecretString {
        self.config().front_door.as_ref().map(acme_lines).unwrap_or_default().into()
    }
}

fn acme_lines(door: &FrontDoor) -> String {
    let mut lines = String::new();
    let acme = &door.acme;
    if let Some(url) = &acme.directory {
        let _ = writeln!(lines, "directory {}", url.as_str());
    }
    if let Some(email) = &acme.email {
        let _ = writeln!(lines, "email {}", email.as_str());
    }
    if let Some(account) = &acme.external_account {
        let _ = writeln!(lines, "eab_id {}\neab_key {}", account.key_id.as_str(), account.key.expose_secret());
    }
    if let Some(certificates) = &acme.ca_certificates {
        let _ = writeln!(lines, "root {}", STANDARD.encode(certificates));
    }
    lines
}

/// Adds what was told of the server's door, if anything was; null: there is none any more.
pub(super) fn with_door(report: StageReport, output: &ScriptOutput) -> StageReport {
    let fact = match door_facts(output) {
        Some(facts) => json!(facts),
        None if output.values("front_door").iter().any(|what| what == "closed") => Value::Null,
        None => return report,
    };
    report.fact(FrontDoorFacts::FACT, fact)
}

/// From `IMAGE VERSION`, the slugs of projects, and lines `DOMAIN Jun  1 12:00:00 2026 GMT`.
fn door_facts(output: &ScriptOutput) -> Option<FrontDoorFacts> {
    let (image, version) = output.value("door")?.split_once(' ')?;
    let projects: BTreeSet<_> = output.values("door_project").iter().cloned().collect();
    let certificates = output.values("door_certificate").iter().filter_map(|line| {
        let (domain, end) = line.split_once(' ')?;
        let end = end.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = strtime::parse("%b %d %H:%M:%S %Y GMT", &end).ok()?.to_datetime().ok()?;
        let not_after = end.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some(DoorCertificate { domain: domain.to_owned(), not_after })
    });
    Some(FrontDoorFacts {
        version: version.to_owned(),
        image: image.to_owned(),
        projects: projects.into_iter().collect(),
        certificates: newest(certificates),
        found_down: output.value("door_found").map(str::to_owned),
    })
}

/// One for each domain: after a change of the authority there may be two.
fn newest(certificates: impl Iterator<Item = DoorCertificate>) -> Vec<DoorCertificate> {
    let mut certificates: Vec<_> = certificates.collect();
    certificates.sort_by(|a, b| (&a.domain, b.not_after).cmp(&(&b.domain, a.not_after)));
    certificates.dedup_by(|next, before| next.domain == before.domain);
    certificates
}

/// Adds to each service how it was replaced, from lines `SERVICE HOW [MILLISECONDS [REASON]]`.
pub(super) fn add_replacements(services: &mut [ServiceReport], output: &ScriptOutput) {
    for service in services {
        let line = output.values("replaced").iter().find_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            (name == service.service.as_str()).then_some(rest)
        });
        service.replaced = line.and_then(parse_replacement);
    }
}

fn parse_replacement(line: &str) -> Option<Replacement> {
    let mut columns = line.split(' ');
    let how = match columns.next()? {
        "" => return None,
        word => ReplacementWay::named(word)?,
    };
    let gap_ms = columns.next().and_then(|gap| gap.parse().ok());
    let why = columns.next().filter(|why| !why.is_empty()).map(|why| why.replace('-', " "));
    Some(Replacement { how, why, gap_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_a_door_becomes_a_fact() {
        let fact = |lines: &[&str]| {
            let mut output = ScriptOutput::default();
            for line in lines {
                assert_eq!(output.take_line("m", format!("m {line}").as_bytes()), None);
            }
            with_door(StageReport::of(false), &output).facts.remove(FrontDoorFacts::FACT)
        };
        assert_eq!(fact(&["front_door started"]), None);
        assert_eq!(fact(&["front_door closed"]), Some(Value::Null));
        let told = fact(&[
            "front_door closed",
            "door_found exited (137)",
            "door_project shop",
            "door_project kiosk",
            "door ghcr.io/a/caddy:2@sha256:00 v2.11.4",
            "door_certificate shop.example.org Jun  1 12:00:00 2026 GMT",
            "door_certificate shop.example.org Jan 21 00:00:09 2027 GMT",
            "door_certificate a.example.org Dec 31 23:59:59 2026 GMT",
            "door_certificate b.example.org nonsense",
        ]);
        let expected = json!({
            "version": "v2.11.4",
            "image": "ghcr.io/a/caddy:2@sha256:00",
            "projects": ["kiosk", "shop"],
            "certificates": [
                { "domain": "a.example.org", "not_after": "2026-12-31T23:59:59Z" },
                { "domain": "shop.example.org", "not_after": "2027-01-21T00:00:09Z" },
            ],
            "found_down": "exited (137)",
        });
        assert_eq!(told, Some(expected));
    }

    #[test]
    fn how_a_service_was_replaced_is_read_with_its_gap_and_its_reason() {
        let rows = [
            ("overlapped 0", Some((ReplacementWay::Overlapped, Some(0), None))),
            ("overlapped 740", Some((ReplacementWay::Overlapped, Some(740), None))),
            (
                "stop_first 2300 it-writes-a-volume",
                Some((ReplacementWay::StopFirst, Some(2300), Some("it writes a volume"))),
            ),
            ("stop_first - ", Some((ReplacementWay::StopFirst, None, None))),
            ("created", Some((ReplacementWay::Created, None, None))),
            ("kept", Some((ReplacementWay::Kept, None, None))),
            ("mislaid", None),
        ];
        for (line, expected) in rows {
            let expected = expected.map(|(how, gap_ms, why)| Replacement { how, gap_ms, why: why.map(str::to_owned) });
            assert_eq!(parse_replacement(line), expected, "{line}");
        }
    }
}
