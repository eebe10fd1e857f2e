//! Which ufw rules would come and go, from what the plan's script tells of those that are there. No I/O.

use std::collections::BTreeSet;

use crate::remote::output::ScriptOutput;

/// Ports in the order of their numbers.
pub(super) struct PlannedRules {
    pub open: Vec<u16>,
    pub close: Vec<u16>,
}

/// `ports` are to be open for the project, and `web` for the front door. Rules of others are left alone.
pub(super) fn plan_rules(output: &ScriptOutput, ports: &BTreeSet<u16>, web: &BTreeSet<u16>) -> PlannedRules {
    let numbers = |key| output.values(key).iter().filter_map(|port| port.parse().ok()).collect::<BTreeSet<u16>>();
    let (ours, doors) = (numbers("rule"), numbers("door_rule"));
    let mut open = &(ports - &(&ours | &numbers("others"))) | &(web - &(&doors | &numbers("door_others")));
    if output.value("firewall").is_none() {
        open.clear();
    }
    let close = &(&ours - ports) | &(&doors - web);
    PlannedRules { open: open.into_iter().collect(), close: close.into_iter().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_the_project_and_of_the_door_come_and_go_and_those_of_others_stay() {
        let set = |ports: &[u16]| ports.iter().copied().collect::<BTreeSet<_>>();
        type Row = (&'static [&'static str], &'static [u16], &'static [u16], &'static [u16], &'static [u16]);
        let rows: [Row; 7] = [
            (&["firewall ufw"], &[8080], &[], &[8080], &[]),
            (&[], &[8080], &[80, 443], &[], &[]),
            (&["firewall ufw", "rule 8080", "rule 8081"], &[8080], &[], &[], &[8081]),
            (&["firewall ufw", "others 8080"], &[8080], &[], &[], &[]),
            (&["firewall ufw", "rule 8080"], &[8080], &[80, 443], &[80, 443], &[]),
            (&["firewall ufw", "rule 8080", "door_rule 80", "door_rule 443"], &[8080], &[], &[], &[80, 443]),
            (&["firewall ufw", "rule 8080", "door_rule 443", "door_others 80"], &[8080], &[80, 443], &[], &[]),
        ];
        for (lines, ports, web, open, close) in rows {
            let mut output = ScriptOutput::default();
            for line in lines {
                assert_eq!(output.take_line("m", format!("m {line}").as_bytes()), None);
            }
            let planned = plan_rules(&output, &set(ports), &set(web));
            assert_eq!((&planned.open[..], &planned.close[..]), (open, close), "{lines:?}");
        }
    }
}
