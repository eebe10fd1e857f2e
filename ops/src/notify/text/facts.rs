//! What a result says to people: what happened, what serves now, what to do next, where to look.

use slipway_protocol::{Action, DeploymentResult, Outcome};

use super::template::{FactName, TextTemplate};
use crate::terminal::format::{format_duration, millis_between};

/// A result, as it's told.
pub(crate) struct ResultFacts<'r> {
    pub(crate) result: &'r DeploymentResult,
    /// The file's own link, if it has one.
    pub(crate) link: Option<&'r TextTemplate>,
}

impl ResultFacts<'_> {
    /// The fact of that name; empty where there is none.
    pub(crate) fn get(&self, name: FactName) -> String {
        let result = self.result;
        let failure = result.failure.as_ref();
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        match name {
            FactName::Title => self.title(),
            FactName::What => self.what(),
            FactName::Serving => self.serving(),
            FactName::Next => self.next(),
            FactName::Link => self.link(),
            FactName::Project => text(result.project.as_ref().map(|project| project.slug.as_str())),
            FactName::Outcome => result.outcome.to_string(),
            FactName::Action => result.action.to_string(),
            FactName::Commit => text(result.commit.as_ref().map(|commit| commit.short())),
            FactName::Server => text(result.server.as_ref().map(|server| server.as_str())),
            FactName::Url => text(result.url.as_deref()),
            FactName::Code => text(failure.map(|failure| failure.code.as_str())),
            FactName::Class => text(failure.map(|failure| failure.class.as_str())),
            FactName::Stage => text(failure.and_then(|failure| failure.stage).map(|stage| stage.as_str())),
            FactName::Deployment => result.deployment_id.to_string(),
            FactName::Took => format_duration(millis_between(result.accepted_at, result.finished_at)),
        }
    }

    /// What happened, in one line.
    pub(crate) fn title(&self) -> String {
        let result = self.result;
        let project = result.project.as_ref().map_or("An unknown project", |project| project.slug.as_str());
        let subject = match &result.commit {
            Some(commit) if result.action == Action::Deploy => format!("{project} {}", commit.short()),
            _ => project.to_owned(),
        };
        let place = result.server.as_ref().map(|server| format!(" on {server}")).unwrap_or_default();
        match (result.action, result.outcome) {
            (Action::Deploy, Outcome::Succeeded) => format!("{subject} is deployed{place}"),
            (Action::Deploy, Outcome::AlreadyDeployed) => format!("{subject} was deployed already{place}"),
            (Action::Deploy, Outcome::Failed) => format!("{subject} couldn't be deployed{place}"),
            (_, Outcome::MissingSecret) => {
                let name = result.missing_secret.as_ref().map_or("a secret", |name| name.as_str());
                format!("{subject} lacks {name}{place}")
            }
            (Action::Deploy, Outcome::Cancelled) => format!("The deployment of {subject}{place} was cancelled"),
            (Action::Deploy, Outcome::Superseded) => {
                format!("The deployment of {subject}{place} gave way to a newer one")
            }
            (Action::Move, Outcome::Succeeded) => format!("{subject} was moved{}", self.way()),
            (Action::Move, Outcome::Failed) => format!("{subject} couldn't be moved{}", self.way()),
            (action, Outcome::Succeeded) => format!("{subject}: {action}{place} is done"),
            (action, Outcome::AlreadyDeployed) => format!("{subject}: {action}{place} had nothing to do"),
            (action, Outcome::Failed) => format!("{subject}: {action}{place} failed"),
            (action, Outcome::Cancelled) => format!("{subject}: {action}{place} was cancelled"),
            (action, Outcome::Superseded) => format!("{subject}: {action}{place} gave way to a newer request"),
        }
    }

    /// From which server a move went to which one.
    fn way(&self) -> String {
        let Some(moved) = &self.result.moved else { return String::new() };
        let to = moved.to.as_ref().map(|to| format!(" to {to}")).unwrap_or_default();
        format!(" from {}{to}", moved.from)
    }

    /// Why it failed.
    pub(crate) fn what(&self) -> String {
        let Some(failure) = &self.result.failure else { return String::new() };
        let stage = failure.stage.map(|stage| format!(" in {stage}")).unwrap_or_default();
        let description = failure.secret_description.as_ref().map(|text| format!(" ({text})")).unwrap_or_default();
        format!("{}{stage}: {}{description}", failure.code, failure.message)
    }

    fn serving(&self) -> String {
        let result = self.result;
        match (&result.serving, result.action, result.outcome.is_success()) {
            (Some(serving), ..) => match (&serving.commit, serving.proven) {
                (Some(commit), true) => format!("{} serves now", commit.short()),
                (Some(commit), false) => format!("{} serves now, but hasn't given a healthy answer", commit.short()),
                (None, true) => "What serves now answers; which commit it is isn't proven".to_owned(),
                (None, false) => "Nothing that serves now has given a healthy answer".to_owned(),
            },
            (None, Action::Stop | Action::Undeploy, true) => "Nothing of it serves now".to_owned(),
            (None, _, true) => String::new(),
            (None, _, false) if result.attempts == 0 => "Nothing was changed: what served before serves on".to_owned(),
            (None, _, false) => "What serves now isn't known".to_owned(),
        }
    }

    fn next(&self) -> String {
        let result = self.result;
        let mut lines: Vec<String> =
            result.failure.iter().map(|failure| format!("Next: {}", failure.next_action)).collect();
        for found in result.exposed.iter().filter(|port| port.answers && !port.asked_for) {
            lines.push(format!(
                "Next: port {} of service {} answers from outside, though nobody asked for that; take it out of the compose \
                 files, or bind it to 127.0.0.1",
                found.port, found.service
            ));
        }
        for server in &result.also_on {
            lines.push(format!("Next: it was deployed to {server}, too; take it off there if it has moved"));
        }
        lines.join("\n")
    }

    fn link(&self) -> String {
        let result = self.result;
        if let Some(url) = &result.url {
            return url.clone();
        }
        if let Some(link) = self.link {
            return link.fill(|name| self.get(name)).concat();
        }
        match (&result.repository, &result.commit) {
            (Some(repository), Some(commit)) => format!("https://github.com/{repository}/commit/{commit}"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use slipway_protocol::{CloudEvent, DeploymentResult};

    use super::ResultFacts;

    #[test]
    fn a_move_is_told_with_both_servers_and_so_is_one_that_failed() {
        for (sample, title) in [
            (
                &include_bytes!("../../../../protocol/samples/result-moved.v1.json")[..],
                "corner-shop was moved from vps-267179 to vps-301422",
            ),
            (
                include_bytes!("../../../../protocol/samples/result-move-refused.v1.json"),
                "corner-shop couldn't be moved from vps-267179 to vps-301422",
            ),
        ] {
            let event: CloudEvent<DeploymentResult> = serde_json::from_slice(sample).unwrap();
            assert_eq!(ResultFacts { result: &event.data, link: None }.title(), title);
        }
    }
}
