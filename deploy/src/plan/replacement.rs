//! Whether anybody would miss an answer while a service is replaced, from what its override file says and from the containers
//! that run. It's told as `scripts/next_release.sh` would do it. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::deployment_plan::PlannedReplacement;

/// What the script tells of the services behind the front door.
pub(super) struct PlannedDoors<'a> {
    /// The port on the server, and the way of a new release.
    services: BTreeMap<&'a str, (&'a str, &'a str)>,
    /// The slots of those that are to leave it.
    given_back: BTreeSet<&'a str>,
}

/// What of a running container decides how it's replaced.
#[derive(Clone, Copy)]
pub(super) struct Published<'a> {
    /// Ports of the server, each with a comma.
    pub ports: &'a str,
    /// Names of volumes, each with a comma.
    pub volumes: &'a str,
}

impl<'a> PlannedDoors<'a> {
    /// From lines `SERVICE PORT overlap` or `SERVICE PORT stop-first:WHY`, and lines `SLOT SLOT`.
    pub fn read(lines: impl Iterator<Item = &'a str>, given_back: impl Iterator<Item = &'a str>) -> Self {
        let services = lines.filter_map(|line| {
            let mut columns = line.split(' ');
            Some((columns.next()?, (columns.next()?, columns.next()?)))
        });
        Self { services: services.collect(), given_back: given_back.flat_map(|line| line.split(' ')).collect() }
    }

    /// How `running`, the containers of `service`, would be replaced.
    pub fn replacement(&self, service: &str, running: &[Published<'_>]) -> Option<PlannedReplacement> {
        let (first, others) = running.split_first()?;
        let with_gap = |why: &str| PlannedReplacement::WithGap { why: why.to_owned() };
        let Some((port, way)) = self.services.get(service) else {
            let leaves = first.ports.split(',').any(|published| self.given_back.contains(published));
            return leaves.then(|| with_gap("the front door gives its port back"));
        };
        Some(if let Some(reason) = way.strip_prefix("stop-first:") {
            with_gap(&reason.replace('-', " "))
        } else if !others.is_empty() {
            with_gap("several of it run")
        } else if first.volumes.split(',').any(is_unnamed) {
            with_gap("it has a volume without a name")
        } else if first.ports.split(',').any(|published| published == *port) {
            // Before its first switch a project publishes its port itself.
            PlannedReplacement::WithOneGap { why: "its port becomes the front door's".to_owned() }
        } else {
            PlannedReplacement::WithoutGap
        })
    }
}

fn is_unnamed(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_with_its_reason_and_the_first_one_as_the_only_one() {
        let lines = ["shop 8080 overlap", "notes 8081 stop-first:it-writes-a-volume", "broken"];
        let doors = PlannedDoors::read(lines.into_iter(), ["30008 30009"].into_iter());
        let unnamed = format!("data,{},", "0a".repeat(32));
        let one = |ports, volumes| vec![Published { ports, volumes }];
        let with_gap = |why: &str| Some(PlannedReplacement::WithGap { why: why.to_owned() });
        let first = Some(PlannedReplacement::WithOneGap { why: "its port becomes the front door's".to_owned() });
        let two = [one("30000,", ""), one("30001,", "")].concat();
        let rows = [
            ("shop", one("30001,", "data,"), Some(PlannedReplacement::WithoutGap)),
            ("shop", one("", ""), Some(PlannedReplacement::WithoutGap)),
            ("shop", one("8080,", ""), first),
            ("shop", one("18080,80801,", ""), Some(PlannedReplacement::WithoutGap)),
            ("shop", one("30001,", &unnamed), with_gap("it has a volume without a name")),
            ("shop", two, with_gap("several of it run")),
            ("shop", Vec::new(), None),
            ("notes", one("30003,", "data,"), with_gap("it writes a volume")),
            ("notes", one("8081,9000,", ""), with_gap("it writes a volume")),
            ("db", one("5432,", ""), None),
            ("kiosk", one("30009,", ""), with_gap("the front door gives its port back")),
            ("broken", one("1,", ""), None),
        ];
        for (service, running, expected) in rows {
            let ports: Vec<_> = running.iter().map(|published| published.ports).collect();
            assert_eq!(doors.replacement(service, &running), expected, "{service} {ports:?}");
        }
    }
}
