//! Whom an event is told to, when, and together with what. Pure: the moment is an argument.

use jiff::Timestamp;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Class, DeploymentResult, ErrorCode, Failure};
use slipway_worker::store::{NotificationGroup, NotificationIntent};

use super::chat::chat_of;
use super::settings::{ChannelAddress, ChannelSettings, NotifyRouting, RoutingRule};

/// How the key of a group begins whose messages have waited for the end of quiet hours.
pub(crate) const QUIET: &str = "quiet ";

impl RoutingRule {
    fn matches(&self, result: &DeploymentResult) -> bool {
        // Of a refused request without a project nobody knows whose it is: only `*` is for it.
        let slug = result.project.as_ref().map_or("", |project| project.slug.as_str());
        let class = result.failure.as_ref().map(|failure| failure.class);
        (self.projects.is_empty() || self.projects.iter().any(|pattern| pattern.matches(slug)))
            && (self.outcomes.is_empty() || self.outcomes.contains(&result.outcome))
            && (self.classes.is_empty() || class.is_some_and(|class| self.classes.contains(&class)))
    }
}

/// Whom to tell: by the first rule that the result matches.
pub(crate) fn plan(routing: &NotifyRouting, result: &DeploymentResult, now: Timestamp) -> Vec<NotificationIntent> {
    let Some(rule) = routing.rules.iter().find(|rule| rule.matches(result)) else { return Vec::new() };
    let channels = rule.to.iter().filter_map(|name| routing.channels.get_key_value(name));
    channels.filter_map(|(name, channel)| intent(name, channel, rule.urgent, result, now)).collect()
}

fn intent(
    name: &str,
    channel: &ChannelSettings,
    urgent: bool,
    result: &DeploymentResult,
    now: Timestamp,
) -> Option<NotificationIntent> {
    let target = match &channel.address {
        ChannelAddress::Telegram(telegram) => {
            let named = telegram.from_correlation.then(|| chat_of(&result.correlation)).flatten();
            // Without either there is nobody to tell.
            named.or_else(|| telegram.chat.clone())?
        }
        _ => String::new(),
    };
    let quiet_until = channel.quiet.as_ref().filter(|_| !urgent).and_then(|quiet| quiet.end(now));
    let key = match (&channel.address, quiet_until) {
        // A program wants each event.
        (ChannelAddress::Webhook(_), _) => None,
        (_, Some(end)) => Some(format!("{QUIET}{end}")),
        (_, None) => group_key(result),
    };
    let group = key.map(|key| NotificationGroup { key, wait: channel.wait, every: channel.every });
    Some(NotificationIntent { channel: name.to_owned(), target, group, urgent, not_before: quiet_until })
}

/// The server that a failure is about: for a move it may be the one that the project leaves.
pub(crate) fn failing_server(result: &DeploymentResult) -> Option<&ServerHandle> {
    let former = |failure: &Failure| failure.code == ErrorCode::FormerServerUnreachable;
    let moved = result.moved.as_ref().filter(|_| result.failure.as_ref().is_some_and(former));
    moved.map(|moved| &moved.from).or(result.server.as_ref())
}

/// What fails for one reason is told together: all that a server can't do, and all that fails for a moment with one code.
fn group_key(result: &DeploymentResult) -> Option<String> {
    let failure = result.failure.as_ref()?;
    match (failure.class, failing_server(result)) {
        (Class::Infrastructure, Some(server)) => Some(format!("server {server}")),
        (Class::Infrastructure, None) | (Class::Transient, _) => Some(format!("code {}", failure.code)),
        (Class::Permanent | Class::UserAction, _) => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use slipway_protocol::CloudEvent;

    use super::*;
    use crate::notify::text::digest::describe;
    use crate::notify::text::template::TextTemplate;
    use slipway_deploy::secrets::redact::Redactor;

    /// A move from `from` to `to` that failed with this code.
    fn moved(from: &str, to: &str, code: ErrorCode) -> DeploymentResult {
        let sample = include_bytes!("../../../../protocol/samples/result-move-refused.v1.json");
        let mut result = serde_json::from_slice::<CloudEvent<DeploymentResult>>(sample).unwrap().data;
        result.server = Some(to.parse().unwrap());
        let report = result.moved.as_mut().unwrap();
        (report.from, report.to) = (from.parse().unwrap(), Some(to.parse().unwrap()));
        result.failure = Some(Failure::new(code, None, "no route to host"));
        result
    }

    #[test]
    fn a_move_is_told_together_with_what_fails_on_the_server_that_is_down() {
        let former = moved("vps-1", "vps-2", ErrorCode::FormerServerUnreachable);
        let elsewhere = moved("vps-1", "vps-3", ErrorCode::FormerServerUnreachable);
        assert_eq!(group_key(&former).as_deref(), Some("server vps-1"));
        assert_eq!(group_key(&elsewhere).as_deref(), Some("server vps-1"));
        let arrives = moved("vps-1", "vps-2", ErrorCode::FrontDoorFailed);
        assert_eq!(group_key(&arrives).as_deref(), Some("server vps-2"));
        let told = describe(&[former, elsewhere], &TextTemplate::default(), None, &Redactor::default());
        assert_eq!(told.title, "2 deployments failed on vps-1: former-server-unreachable");
    }
}
