//! Where a channel leads to, from its entry in the routing file. A URL that is a secret is read from a file, and never repeated.

use std::path::Path;

use lettre::message::Mailbox;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde_saphyr::{Location, Spanned};
use slipway_deploy::secrets::redact::Redactor;

use super::chat::is_chat;
use super::file::{ChannelEntry, ChatEntry, EmailEntry, MailTls, SlackEntry, TelegramEntry, WebhookEntry};
use super::mistakes::Mistakes;
use super::secrets;
use super::settings::{ChannelAddress, EmailAddress, SlackAddress, TelegramAddress, WebhookAddress};

/// Reads addresses, and collects what is wrong with them.
pub(super) struct AddressReader<'r> {
    pub(super) found: &'r mut Mistakes,
    pub(super) folder: &'r Path,
    pub(super) redactor: &'r Redactor,
}

impl AddressReader<'_> {
    pub(super) fn read(&mut self, at: Location, entry: &ChannelEntry) -> Option<ChannelAddress> {
        match (&entry.telegram, &entry.slack, &entry.webhook, &entry.email) {
            (Some(entry), None, None, None) => self.telegram(at, entry).map(ChannelAddress::Telegram),
            (None, Some(entry), None, None) => self.slack(entry).map(ChannelAddress::Slack),
            (None, None, Some(entry), None) => self.webhook(entry).map(ChannelAddress::Webhook),
            (None, None, None, Some(entry)) => self.email(entry).map(ChannelAddress::Email),
            _ => {
                self.found.add(at, "a channel must have one of `telegram`, `slack`, `webhook` and `email`");
                None
            }
        }
    }

    fn telegram(&mut self, at: Location, entry: &TelegramEntry) -> Option<TelegramAddress> {
        let token = self.secret(&entry.token_file, secrets::read).filter(|token| {
            let fits = token.expose_secret().split_once(':').is_some_and(|(bot, key)| {
                bot.bytes().all(|b| b.is_ascii_digit()) && !bot.is_empty() && key.len() >= 30 && is_url_word(key)
            });
            if !fits {
                self.found
                    .add(entry.token_file.referenced, "the file doesn't hold a bot's token, as @BotFather gives it");
            }
            fits
        });
        let chat = entry.chat.as_ref().and_then(|chat| {
            let text = match &chat.value {
                ChatEntry::Number(number) => number.to_string(),
                ChatEntry::Name(name) => name.clone(),
            };
            let fits = is_chat(&text).then_some(text);
            let rule = "must be a chat's number, such as -1001234567890, or a channel's name, such as \"@deployments\"";
            self.found.take(chat.referenced, fits.ok_or(rule.to_owned()))
        });
        let from_correlation = entry.from_correlation.unwrap_or(true);
        if entry.chat.is_none() && !from_correlation {
            self.found
                .add(at, "without `chat` and with `from_correlation: false` there is nobody to tell: name a `chat`");
        }
        let api = match &entry.api {
            None => Url::parse("https://api.telegram.org").ok(),
            Some(url) => self.found.take(url.referenced, confidential_url(&url.value)),
        };
        Some(TelegramAddress { api: api?, token: token?, chat, from_correlation })
    }

    fn slack(&mut self, entry: &SlackEntry) -> Option<SlackAddress> {
        let url = self.secret(&entry.url_file, secrets::read)?;
        let fits = confidential_url(url.expose_secret()).map(drop);
        self.found.take(entry.url_file.referenced, fits.map_err(|rule| format!("the URL in the file {rule}")))?;
        // Its path is what makes it a secret, and an error may show that alone.
        let path = Url::parse(url.expose_secret()).map(|url| url.path().to_owned()).unwrap_or_default();
        self.redactor.learn(&SecretString::from(path));
        Some(SlackAddress { url })
    }

    fn webhook(&mut self, entry: &WebhookEntry) -> Option<WebhookAddress> {
        let url = Url::parse(&entry.url.value).ok().filter(|url| {
            matches!(url.scheme(), "http" | "https")
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
        });
        let rule = "must be a URL with http or https, without user and password";
        let url = self.found.take(entry.url.referenced, url.ok_or(rule.to_owned()));
        if !(1..=2).contains(&entry.secret_files.value.len()) {
            self.found.add(
                entry.secret_files.referenced,
                "must name one file with a key, or two while the key is changed: the new one first",
            );
        }
        let keys: Vec<_> =
            entry.secret_files.value.iter().filter_map(|file| self.secret(file, secrets::read_key)).collect();
        (keys.len() == entry.secret_files.value.len()).then_some(WebhookAddress { url: url?, keys })
    }

    fn email(&mut self, entry: &EmailEntry) -> Option<EmailAddress> {
        let from = self.mailbox(&entry.from);
        let to: Vec<Mailbox> = entry.to.value.iter().filter_map(|to| self.mailbox(to)).collect();
        if entry.to.value.is_empty() {
            self.found.add(entry.to.referenced, "must name somebody");
        }
        let server =
            Some(entry.server.value.clone()).filter(|server| !server.is_empty() && !server.contains(['/', ':', ' ']));
        let server = self.found.take(entry.server.referenced, server.ok_or("must be a host's name alone".to_owned()));
        let tls = entry.tls.as_ref().map_or(MailTls::Starttls, |tls| tls.value);
        let is_here = server.as_deref().is_some_and(is_loopback);
        if let Some(asked) = entry.tls.as_ref().filter(|tls| tls.value == MailTls::None && !is_here) {
            self.found.add(
                asked.referenced,
                "`none` is for a server on this machine (localhost): elsewhere it must be `starttls` or `implicit`",
            );
        }
        let login = match (&entry.username, &entry.password_file) {
            (Some(name), Some(file)) => Some((name.value.clone(), self.secret(file, secrets::read)?)),
            (None, None) => None,
            (Some(one), None) => {
                self.found.add(one.referenced, "`username` needs a `password_file`");
                None
            }
            (None, Some(one)) => {
                self.found.add(one.referenced, "`password_file` needs a `username`");
                None
            }
        };
        let port = entry.port.unwrap_or(match tls {
            MailTls::Starttls => 587,
            MailTls::Implicit => 465,
            MailTls::None => 25,
        });
        Some(EmailAddress { from: from?, to, server: server?, port, tls, login })
    }

    fn mailbox(&mut self, text: &Spanned<String>) -> Option<Mailbox> {
        let rule = "must be an address, such as ops@example.org or \"Slipway <slipway@example.org>\"";
        self.found.take(text.referenced, text.value.parse().map_err(|_| rule.to_owned()))
    }

    fn secret(
        &mut self,
        file: &Spanned<std::path::PathBuf>,
        read: fn(&Path, &Redactor) -> Result<SecretString, String>,
    ) -> Option<SecretString> {
        let secret = read(&self.folder.join(&file.value), self.redactor);
        self.found.take(file.referenced, secret)
    }
}

fn is_url_word(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// A URL with a secret: on the network it's for https alone.
fn confidential_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok().filter(Url::has_host).ok_or("must be a URL that begins with https://")?;
    let is_here = url.scheme() == "http" && url.host_str().is_some_and(is_loopback);
    if url.scheme() == "https" || is_here { Ok(url) } else { Err("must begin with https://".to_owned()) }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
