//! Several results in one message: what they have in common first, then each in a line.

use slipway_deploy::secrets::redact::Redactor;
use slipway_protocol::DeploymentResult;
use slipway_protocol::names::ServerHandle;

use super::facts::ResultFacts;
use super::message_text::MessageText;
use super::template::{FactName, TextTemplate};
use crate::notify::routing::plan::failing_server;

/// How many results are named; the others are counted.
const NAMED: usize = 20;

/// The message about one result or several, which fail for one reason or have waited for the end of quiet hours.
pub(crate) fn describe(
    results: &[DeploymentResult],
    template: &TextTemplate,
    link: Option<&TextTemplate>,
    redactor: &Redactor,
) -> MessageText {
    let facts: Vec<ResultFacts<'_>> = results.iter().map(|result| ResultFacts { result, link }).collect();
    let lines = match facts.as_slice() {
        [] => Vec::new(),
        [one] => template.fill(|name| one.get(name)),
        [first, ..] => {
            let same = |name: FactName| {
                let value = first.get(name);
                Some(value).filter(|value| !value.is_empty() && facts.iter().all(|other| other.get(name) == *value))
            };
            let server = failing_server(first.result);
            let server = server.filter(|server| results.iter().all(|result| failing_server(result) == Some(server)));
            let mut lines = vec![headline(results.len(), server, &same)];
            let cause = same(FactName::What);
            lines.extend(cause.clone());
            for facts in facts.iter().take(NAMED) {
                let what = if cause.is_some() { String::new() } else { facts.what() };
                let title = facts.title();
                lines.push(if what.is_empty() {
                    format!("- {title}")
                } else {
                    format!("- {title}: {}", first_line(&what))
                });
            }
            if facts.len() > NAMED {
                lines.push(format!("- and {} more", facts.len() - NAMED));
            }
            lines.extend(same(FactName::Serving));
            lines.extend(same(FactName::Next));
            lines.push("All of them: slipway deployments list".to_owned());
            lines
        }
    };
    MessageText::new(lines, redactor)
}

fn headline(count: usize, server: Option<&ServerHandle>, same: &impl Fn(FactName) -> Option<String>) -> String {
    let place = server.map(|server| format!(" on {server}")).unwrap_or_default();
    match (same(FactName::Outcome).as_deref(), same(FactName::Code)) {
        (Some("failed"), Some(code)) => format!("{count} deployments failed{place}: {code}"),
        (Some("failed"), None) => format!("{count} deployments failed{place}"),
        _ => format!("{count} deployments have ended{place}"),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
