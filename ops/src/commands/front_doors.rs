//! The servers' front doors as people and programs see them, for `status`, `servers show` and `servers check`: what was seen
//! last, which certificates end soon, and what is wrong. Nothing is asked of a server here.

use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use slipway_deploy::{DoorCertificate, FrontDoorFacts};
use slipway_worker::store::ServerDoor;

use crate::terminal::format::{format_duration, format_time, millis_between};
use crate::terminal::print::{Printer, Table};

/// A certificate that ends earlier should have been renewed by now.
const ENDS_SOON_DAYS: i64 = 14;

/// What of a door should have been renewed by now.
fn ending(facts: &FrontDoorFacts, now: Timestamp) -> impl Iterator<Item = &DoorCertificate> {
    let soon = now.saturating_add((24 * ENDS_SOON_DAYS).hours());
    facts.certificates.iter().filter(move |certificate| soon.as_ref().is_ok_and(|soon| certificate.not_after < *soon))
}

/// A line for each door.
pub(crate) fn print_doors(doors: &[ServerDoor], now: Timestamp, printer: &Printer) {
    let mut table = Table::new(&["FRONT DOOR", "VERSION", "PROJECTS", "CERTIFICATES", "FIRST ENDS", "SEEN"]);
    for door in doors {
        let facts = door.facts.as_ref();
        let count = |of: fn(&FrontDoorFacts) -> usize| facts.map_or_else(|| "-".to_owned(), |f| of(f).to_string());
        let first = facts.and_then(|facts| facts.certificates.iter().map(|certificate| certificate.not_after).min());
        table.row([
            door.server.to_string(),
            facts.map_or_else(|| "-".to_owned(), |facts| facts.version.clone()),
            count(|facts| facts.projects.len()),
            count(|facts| facts.certificates.len()),
            first.map_or_else(|| "-".to_owned(), format_time),
            seen(door, now),
        ]);
    }
    if !table.is_empty() {
        printer.line("");
        printer.table(&table);
    }
}

/// All that is known of one door.
pub(crate) fn print_door(door: &ServerDoor, now: Timestamp, printer: &Printer) {
    let mut table = Table::new(&["FRONT DOOR", "VALUE"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("seen", seen(door, now));
    if let Some((since, why)) = &door.problem {
        row("failed", format!("since {}: {why}", format_time(*since)));
    }
    if let Some(facts) = &door.facts {
        row("version", facts.version.clone());
        row("image", facts.image.clone());
        row("projects", facts.projects.join(", "));
        for certificate in &facts.certificates {
            row("certificate", format!("{} until {}", certificate.domain, format_time(certificate.not_after)));
        }
        if let Some(found) = &facts.found_down {
            row("found down", found.clone());
        }
    }
    printer.table(&table);
}

fn seen(door: &ServerDoor, now: Timestamp) -> String {
    door.seen_at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", format_duration(millis_between(at, now))))
}

/// Doors that couldn't be used, in words: somebody has to see to them.
pub(crate) fn door_problems(doors: &[ServerDoor]) -> Vec<String> {
    let problem = |door: &ServerDoor| {
        let (since, why) = door.problem.as_ref()?;
        Some(format!("the front door of {} has failed since {}: {why}", door.server, format_time(*since)))
    };
    doors.iter().filter_map(problem).collect()
}

/// What a person may want to look at, in words. A certificate may have been renewed since the door was seen.
pub(crate) fn door_hints(doors: &[ServerDoor], now: Timestamp) -> Vec<String> {
    let mut hints = Vec::new();
    for door in doors {
        let Some(facts) = &door.facts else { continue };
        let server = &door.server;
        if let Some(found) = &facts.found_down {
            hints.push(format!("the front door of {server} was found down and repaired, {}: {found}", seen(door, now)));
        }
        let names: Vec<String> = ending(facts, now)
            .map(|certificate| format!("{} ({})", certificate.domain, format_time(certificate.not_after)))
            .collect();
        if !names.is_empty() {
            hints.push(format!(
                "certificates on {server} end within {ENDS_SOON_DAYS} days, as seen {}: {}; `slipway servers check {server}` \
                 looks whether they were renewed",
                seen(door, now),
                names.join(", ")
            ));
        }
    }
    hints
}

pub(crate) fn door_json(door: &ServerDoor, now: Timestamp) -> Value {
    let facts = door.facts.as_ref();
    let certificate = |c: &DoorCertificate| json!({ "domain": c.domain, "not_after": c.not_after });
    let certificates = |facts: &FrontDoorFacts| facts.certificates.iter().map(certificate).collect::<Vec<_>>();
    json!({
        "server": door.server,
        "version": facts.map(|facts| &facts.version),
        "image": facts.map(|facts| &facts.image),
        "projects": facts.map(|facts| &facts.projects),
        "certificates": facts.map(certificates),
        "ending_soon": facts.map(|facts| ending(facts, now).map(|c| &c.domain).collect::<Vec<_>>()),
        "found_down": facts.and_then(|facts| facts.found_down.as_ref()),
        "seen_at": door.seen_at,
        "failed_since": door.problem.as_ref().map(|(since, _)| since),
        "failed_because": door.problem.as_ref().map(|(_, why)| why),
    })
}

/// What was said for one server, in words.
pub(crate) fn describe_choice(front_door: Option<bool>) -> &'static str {
    match front_door {
        Some(true) => "on",
        Some(false) => "off",
        None => "default",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn door(ends: &[&str]) -> ServerDoor {
        let certificate = |(i, end): (usize, &&str)| DoorCertificate {
            domain: format!("{i}.example.org"),
            not_after: end.parse().unwrap(),
        };
        let facts = FrontDoorFacts {
            version: "v2.11.4".to_owned(),
            image: "caddy".to_owned(),
            projects: vec!["shop".to_owned()],
            certificates: ends.iter().enumerate().map(certificate).collect(),
            found_down: None,
        };
        let seen_at = Some("2026-11-01T00:00:00Z".parse().unwrap());
        ServerDoor { server: "vps-1".parse().unwrap(), facts: Some(facts), seen_at, problem: None }
    }

    #[test]
    fn a_certificate_that_ends_within_two_weeks_is_named_with_its_end() {
        let now = "2026-11-10T00:00:00Z".parse().unwrap();
        let well = door(&["2026-11-24T00:00:00Z", "2027-02-01T00:00:00Z"]);
        assert!(door_hints(std::slice::from_ref(&well), now).is_empty() && door_problems(&[well]).is_empty());
        let mut ill = door(&["2027-02-01T00:00:00Z", "2026-11-23T23:59:59Z", "2026-11-09T00:00:00Z"]);
        let hints = door_hints(std::slice::from_ref(&ill), now);
        assert!(hints.len() == 1 && hints[0].contains("1.example.org (2026-11-23 23:59:59Z), 2.example.org (2026"));
        assert!(!hints[0].contains("0.example.org") && hints[0].contains("9 d 0 h ago"), "{hints:?}");
        assert_eq!(door_json(&ill, now)["ending_soon"], json!(["1.example.org", "2.example.org"]));
        ill.facts.as_mut().unwrap().found_down = Some("exited (137)".to_owned());
        assert!(door_hints(&[ill], now)[0].contains("exited (137)"));
    }

    #[test]
    fn a_door_that_failed_is_a_problem_though_nothing_else_is_known_of_it() {
        let now = Timestamp::UNIX_EPOCH;
        let problem = Some((now, "port 443 is held by nginx".to_owned()));
        let failed = ServerDoor { server: "vps-1".parse().unwrap(), facts: None, seen_at: None, problem };
        let problems = door_problems(std::slice::from_ref(&failed));
        assert_eq!(
            problems,
            ["the front door of vps-1 has failed since 1970-01-01 00:00:00Z: port 443 is held by nginx"]
        );
        let value = door_json(&failed, now);
        assert_eq!((&value["version"], &value["failed_because"]), (&Value::Null, &json!("port 443 is held by nginx")));
    }
}
