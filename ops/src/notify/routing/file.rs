//! The routing file as it's written. What its values have to be is said in `check`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_saphyr::Spanned;
use slipway_protocol::{Class, Outcome};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoutingFile {
    pub(super) max_age: Option<Spanned<String>>,
    pub(super) link: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) channels: BTreeMap<String, Spanned<ChannelEntry>>,
    #[serde(default)]
    pub(super) rules: Vec<Spanned<RuleEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChannelEntry {
    pub(super) telegram: Option<TelegramEntry>,
    pub(super) slack: Option<SlackEntry>,
    pub(super) webhook: Option<WebhookEntry>,
    pub(super) email: Option<EmailEntry>,
    pub(super) per_minute: Option<Spanned<u32>>,
    pub(super) quiet: Option<Spanned<QuietEntry>>,
    #[serde(default)]
    pub(super) group: GroupEntry,
    pub(super) template: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TelegramEntry {
    pub(super) token_file: Spanned<PathBuf>,
    pub(super) chat: Option<Spanned<ChatEntry>>,
    pub(super) from_correlation: Option<bool>,
    pub(super) api: Option<Spanned<String>>,
}

/// A chat's number, or a channel's `@name`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ChatEntry {
    Number(i64),
    Name(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlackEntry {
    pub(super) url_file: Spanned<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookEntry {
    pub(super) url: Spanned<String>,
    pub(super) secret_files: Spanned<Vec<Spanned<PathBuf>>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EmailEntry {
    pub(super) from: Spanned<String>,
    pub(super) to: Spanned<Vec<Spanned<String>>>,
    pub(super) server: Spanned<String>,
    pub(super) port: Option<u16>,
    pub(super) tls: Option<Spanned<MailTls>>,
    pub(super) username: Option<Spanned<String>>,
    pub(super) password_file: Option<Spanned<PathBuf>>,
}

/// How a connection to a mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MailTls {
    /// A plain connection becomes an encrypted one, or isn't used.
    Starttls,
    /// Encrypted from the first byte.
    Implicit,
    /// Not at all: to a server on this machine.
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct QuietEntry {
    pub(super) from: Spanned<String>,
    pub(super) to: Spanned<String>,
    pub(super) timezone: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupEntry {
    pub(super) wait: Option<Spanned<String>>,
    pub(super) every: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleEntry {
    #[serde(default)]
    pub(super) projects: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) outcomes: Vec<Outcome>,
    #[serde(default)]
    pub(super) classes: Vec<Class>,
    pub(super) to: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) urgent: bool,
}
