//! Whom an event is told to, when, and together with what. Pure: the moment is an argument.

use jiff::Timestamp;
use slipway_protocol::{Class, DeploymentResult};
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

/// What fails for one reason is told together: all that a server can't do, and all that fails for a moment with one code.
fn group_key(result: &DeploymentResult) -> Option<String> {
    let failure = result.failure.as_ref()?;
    match (failure.class, &result.server) {
        (Class::Infrastructure, Some(server)) => Some(format!("server {server}")),
        (Class::Infrastructure, None) | (Class::Transient, _) => Some(format!("code {}", failure.code)),
        (Class::Permanent | Class::UserAction, _) => None,
    }
}
