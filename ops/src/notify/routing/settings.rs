//! The routing file as it's meant: everything checked, secrets read. No `Debug`: some of it is secret.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Url;
use secrecy::SecretString;
use slipway_deploy::secrets::redact::Redactor;
use slipway_protocol::{Class, Outcome};
use slipway_worker::scheduler::Pattern;

pub(crate) use super::file::MailTls;
use super::quiet::QuietHours;
use crate::notify::text::template::TextTemplate;

/// Channels, and which events go to which.
pub(crate) struct NotifyRouting {
    /// What is older isn't told any more.
    pub(crate) max_age: Duration,
    /// Where a person finds more, if that is set.
    pub(crate) link: Option<TextTemplate>,
    pub(crate) channels: BTreeMap<String, ChannelSettings>,
    /// The first one that an event matches decides.
    pub(crate) rules: Vec<RoutingRule>,
    /// Every secret of the channels: none leaves in an error or a text.
    pub(crate) redactor: Redactor,
}

/// A way to people.
pub(crate) struct ChannelSettings {
    pub(crate) address: ChannelAddress,
    /// From one message to the next.
    pub(crate) spacing: Duration,
    pub(crate) quiet: Option<QuietHours>,
    /// How long the first event of a group waits for others.
    pub(crate) wait: Duration,
    /// From one message of a group to the next.
    pub(crate) every: Duration,
    pub(crate) template: TextTemplate,
}

/// Where a channel leads to.
pub(crate) enum ChannelAddress {
    Telegram(TelegramAddress),
    Slack(SlackAddress),
    Webhook(WebhookAddress),
    Email(EmailAddress),
}

pub(crate) struct TelegramAddress {
    pub(crate) api: Url,
    pub(crate) token: SecretString,
    /// Where messages go whose event names no chat.
    pub(crate) chat: Option<String>,
    /// Whether an event may name its chat.
    pub(crate) from_correlation: bool,
}

pub(crate) struct SlackAddress {
    /// The URL is the secret.
    pub(crate) url: SecretString,
}

pub(crate) struct WebhookAddress {
    pub(crate) url: Url,
    /// The keys that each message is signed with; two while they are changed.
    pub(crate) keys: Vec<SecretString>,
}

pub(crate) struct EmailAddress {
    pub(crate) from: lettre::message::Mailbox,
    pub(crate) to: Vec<lettre::message::Mailbox>,
    pub(crate) server: String,
    pub(crate) port: u16,
    pub(crate) tls: MailTls,
    pub(crate) login: Option<(String, SecretString)>,
}

/// Which events go to which channels.
pub(crate) struct RoutingRule {
    /// Of these projects; empty: of all.
    pub(crate) projects: Vec<Pattern>,
    /// That ended so; empty: however.
    pub(crate) outcomes: Vec<Outcome>,
    /// That failed with these classes; empty: with any, or not at all.
    pub(crate) classes: Vec<Class>,
    /// Nobody, when it's empty.
    pub(crate) to: Vec<String>,
    /// Also in quiet hours.
    pub(crate) urgent: bool,
}
