//! Rules that no result reaches, since the ones before them take all that they are for. Pure.

use serde_saphyr::Spanned;
use slipway_protocol::{Class, Outcome};

use super::file::RuleEntry;
use super::mistakes::Mistakes;
use super::settings::RoutingRule;

/// How a result may have ended: its outcome, and its class where it failed.
type Ending = (Outcome, Option<Class>);

/// Whether a result that ended so has a class.
pub(super) fn has_class(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::MissingSecret)
}

/// Adds each rule that never applies because of earlier ones, with their lines. `rules` are the entries as they were read.
pub(super) fn find_unreached(found: &mut Mistakes, entries: &[Spanned<RuleEntry>], rules: &[RoutingRule]) {
    // One whose patterns are mistaken would seem to be for all projects.
    let is_whole = |at: &usize| entries[*at].value.projects.len() == rules[*at].projects.len();
    for at in (0..rules.len()).filter(is_whole) {
        let before: Vec<usize> = (0..at).filter(is_whole).collect();
        let Some(taken_by) = who_takes(&before, rules, &rules[at]) else { continue };
        let lines: Vec<String> = taken_by.iter().map(|at| entries[*at].referenced.line().to_string()).collect();
        let text = match lines.as_slice() {
            [line] => format!("this rule never applies: the one in line {line} takes all that it's for"),
            lines => format!("this rule never applies: those in lines {} take all that it's for", lines.join(", ")),
        };
        found.add(entries[at].referenced, format!("{text}; put it before, or take it out"));
    }
}

/// Which of the rules `before` take all that `rule` is for, where they do.
fn who_takes(before: &[usize], rules: &[RoutingRule], rule: &RoutingRule) -> Option<Vec<usize>> {
    let all = ["*"];
    let named: Vec<&str> = rule.projects.iter().map(|pattern| pattern.as_str()).collect();
    let (projects, endings) = (if named.is_empty() { &all[..] } else { &named }, endings(rule));
    let mut takers = Vec::new();
    for project in projects {
        for ending in &endings {
            takers.push(*before.iter().find(|at| takes(&rules[**at], project, ending))?);
        }
    }
    takers.sort_unstable();
    takers.dedup();
    Some(takers).filter(|takers| !takers.is_empty())
}

/// Whether a rule takes all results so ended of the projects that a pattern means. A `*` in that one is matched by a `*` alone.
fn takes(rule: &RoutingRule, projects: &str, ending: &Ending) -> bool {
    (rule.projects.is_empty() || rule.projects.iter().any(|pattern| pattern.matches(projects)))
        && endings(rule).contains(ending)
}

fn endings(rule: &RoutingRule) -> Vec<Ending> {
    let outcomes = Outcome::ALL.iter().filter(|outcome| rule.outcomes.is_empty() || rule.outcomes.contains(outcome));
    let classes = |outcome: &Outcome| match has_class(*outcome) {
        true => Class::ALL.iter().copied().map(Some).collect(),
        false => vec![None],
    };
    let pairs = outcomes.flat_map(|outcome| classes(outcome).into_iter().map(|class| (*outcome, class)));
    pairs
        .filter(|(_, class)| rule.classes.is_empty() || class.is_some_and(|class| rule.classes.contains(&class)))
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use crate::notify::routing::read_routing;

    /// The lines that are told of, with what is told; the rules begin in line 5.
    fn told(rules: &str) -> Vec<(u64, String)> {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("key");
        std::fs::write(&key, "k".repeat(32)).unwrap();
        make_private(&key);
        let text = format!(
            "channels:\n  hook:\n    webhook: {{ url: \"https://example.org\", secret_files: [key] }}\nrules:\n{rules}"
        );
        match read_routing(&text, folder.path()) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.into_iter().map(|mistake| (mistake.line, mistake.text)).collect(),
        }
    }

    fn make_private(file: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_rule_that_earlier_ones_leave_nothing_is_told_with_their_lines() {
        for (rules, dead, takers) in [
            ("  - to: [hook]\n  - { outcomes: [failed], to: [] }\n", 6, "line 5"),
            ("  - { projects: [\"*\"], to: [hook] }\n  - to: []\n", 6, "line 5"),
            (
                "  - { projects: [\"shop-*\", kiosk], to: [] }\n  - { projects: [kiosk, \"shop-a*\"], to: [hook] }\n",
                6,
                "line 5",
            ),
            (
                "  - { classes: [transient], to: [] }\n  - { outcomes: [failed], classes: [transient], to: [hook] }\n",
                6,
                "line 5",
            ),
            (
                "  - { outcomes: [failed], to: [] }\n  - { outcomes: [cancelled], to: [] }\n  - { outcomes: [cancelled, failed], to: [hook] }\n",
                7,
                "lines 5, 6",
            ),
            (
                "  - { outcomes: [failed], to: [hook] }\n  - { classes: [transient, permanent, infrastructure, user_action], to: [] }\n  - { outcomes: [missing_secret], to: [hook] }\n",
                7,
                "line 6",
            ),
        ] {
            let told = told(rules);
            assert!(told.len() == 1 && told[0].0 == dead && told[0].1.contains(takers), "{rules}{told:?}");
            assert!(told[0].1.contains("never applies"), "{told:?}");
        }
    }

    #[test]
    fn a_rule_that_something_is_left_for_is_right() {
        for rules in [
            "  - { outcomes: [failed], to: [] }\n  - to: [hook]\n",
            "  - { classes: [transient, permanent, infrastructure, user_action], to: [] }\n  - to: [hook]\n",
            "  - { projects: [\"shop-a*\"], to: [] }\n  - { projects: [\"shop-*\"], to: [hook] }\n",
            "  - { projects: [shop], to: [] }\n  - { projects: [shop, kiosk], to: [hook] }\n",
            "  - { projects: [shop], to: [] }\n  - { projects: [\"*\"], outcomes: [failed], to: [hook] }\n",
            "  - { outcomes: [failed], classes: [transient], to: [] }\n  - { outcomes: [failed], to: [hook] }\n",
        ] {
            assert_eq!(told(rules), [], "{rules}");
        }
    }

    #[test]
    fn a_mistaken_rule_is_told_for_itself_alone() {
        let told = told("  - { projects: [\"\"], to: [hook] }\n  - { outcomes: [failed], to: [hook] }\n");
        assert!(told.len() == 1 && told[0].0 == 5 && told[0].1.contains("pattern"), "{told:?}");
    }
}
