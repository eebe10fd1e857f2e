//! Reads a routing file: everything that is wrong with it at once, each with its line and what to do.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_saphyr::Spanned;
use slipway_deploy::secrets::redact::Redactor;
use slipway_worker::scheduler::Pattern;

use super::address::AddressReader;
use super::file::{ChannelEntry, QuietEntry, RoutingFile, RuleEntry};
use super::mistakes::{Mistake, Mistakes};
use super::quiet::QuietHours;
use super::settings::{ChannelSettings, NotifyRouting, RoutingRule};
use super::unreached::{find_unreached, has_class};
use crate::notify::text::template::TextTemplate;

/// What is older isn't told, unless the file says otherwise; and what it may say at most, since what was told is forgotten
/// some time after.
const MAX_AGE: Duration = Duration::from_secs(72 * 3600);
const OLDEST_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// How groups are told, unless the file says otherwise.
const GROUP_WAIT: Duration = Duration::from_secs(10);
const GROUP_EVERY: Duration = Duration::from_secs(300);
/// What Telegram and Slack take from one sender in a group, and so what any channel gets, unless the file says otherwise.
const PER_MINUTE: u32 = 20;
/// What a link of a file's own may name.
const LINK_FIELDS: &str = "it may be used with {deployment}, {project}, {commit} and {server}";

/// Reads the file's text, and the secrets that it names; paths are relative to `folder`.
///
/// # Errors
/// All mistakes, in the order of their lines.
pub(crate) fn read_routing(text: &str, folder: &Path) -> Result<NotifyRouting, Vec<Mistake>> {
    let file: RoutingFile = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(0, |at| at.line());
        let first = error.without_snippet().to_string();
        let first = first.lines().next().unwrap_or_default();
        let text = first.split_once(" at line ").map_or(first, |(text, _)| text);
        vec![Mistake { line, text: text.to_owned() }]
    })?;
    let (mut found, redactor) = (Mistakes::default(), Redactor::default());
    let max_age = duration(&mut found, file.max_age.as_ref(), MAX_AGE, Duration::from_secs(1), OLDEST_AGE);
    let link = file.link.as_ref().and_then(|link| {
        let parsed = TextTemplate::parse(&link.value).and_then(|template| match template.fits_link() {
            true => Ok(template),
            false => Err(format!("a link can't use that placeholder; {LINK_FIELDS}")),
        });
        found.take(link.referenced, parsed)
    });
    let mut channels = BTreeMap::new();
    for (name, entry) in &file.channels {
        if let Some(settings) = channel(&mut found, name, entry, folder, &redactor) {
            channels.insert(name.clone(), settings);
        }
    }
    if file.channels.is_empty() {
        found.0.push(Mistake { line: 0, text: "there are no `channels`: name one at least".to_owned() });
    }
    if file.rules.is_empty() {
        let text = "there are no `rules`, so nobody would be told anything: one rule with `to` alone is for everything";
        found.0.push(Mistake { line: 0, text: text.to_owned() });
    }
    let known: Vec<&String> = file.channels.keys().collect();
    let rules: Vec<RoutingRule> = file.rules.iter().map(|entry| rule(&mut found, entry, &known)).collect();
    find_unreached(&mut found, &file.rules, &rules);
    if found.0.is_empty() {
        return Ok(NotifyRouting { max_age, link, channels, rules, redactor });
    }
    found.0.sort_by_key(|mistake| mistake.line);
    Err(found.0)
}

fn channel(
    found: &mut Mistakes,
    name: &str,
    entry: &Spanned<ChannelEntry>,
    folder: &Path,
    redactor: &Redactor,
) -> Option<ChannelSettings> {
    let at = entry.referenced;
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if name.is_empty() || name.len() > 60 || !is_name(name) {
        found.add(at, "a channel's name must be 1 to 60 letters, digits, `-`, `_` and `.`");
    }
    let address = AddressReader { found: &mut *found, folder, redactor }.read(at, &entry.value);
    let ChannelEntry { per_minute, quiet, group, template, .. } = &entry.value;
    if let Some(rate) = per_minute.as_ref().filter(|rate| !(1..=600).contains(&rate.value)) {
        found.add(rate.referenced, "`per_minute` must be a number from 1 to 600");
    }
    let spacing = Duration::from_secs(60) / per_minute.as_ref().map_or(PER_MINUTE, |rate| rate.value.max(1));
    let quiet = quiet.as_ref().and_then(|quiet| quiet_hours(found, quiet));
    let (least, most) = (Duration::ZERO, Duration::from_secs(24 * 3600));
    let wait = duration(found, group.wait.as_ref(), GROUP_WAIT, least, most);
    let every = duration(found, group.every.as_ref(), GROUP_EVERY, least, most);
    let template = match template {
        None => Some(TextTemplate::default()),
        Some(text) => found.take(text.referenced, TextTemplate::parse(&text.value)),
    };
    Some(ChannelSettings { address: address?, spacing, quiet, wait, every, template: template? })
}

fn quiet_hours(found: &mut Mistakes, quiet: &Spanned<QuietEntry>) -> Option<QuietHours> {
    let mut time = |text: &Spanned<String>| {
        let parsed = text
            .value
            .parse::<jiff::civil::Time>()
            .map_err(|_| "must be a time of day with quotes, such as \"22:00\"".to_owned());
        found.take(text.referenced, parsed)
    };
    let (from, to) = (time(&quiet.value.from), time(&quiet.value.to));
    let zone = match &quiet.value.timezone {
        None => Some(jiff::tz::TimeZone::UTC),
        Some(name) => {
            let zone = jiff::tz::TimeZone::get(&name.value).map_err(|_| {
                format!(
                    "there is no time zone `{}` here: name one such as Europe/Berlin, and install tzdata",
                    name.value
                )
            });
            found.take(name.referenced, zone)
        }
    };
    let hours = QuietHours::new(from?, to?, zone?).ok_or("quiet hours must not begin when they end".to_owned());
    found.take(quiet.referenced, hours)
}

fn rule(found: &mut Mistakes, entry: &Spanned<RuleEntry>, known: &[&String]) -> RoutingRule {
    let RuleEntry { projects, outcomes, classes, to, urgent } = &entry.value;
    let patterns = projects.iter().filter_map(|pattern| {
        let parsed = Pattern::new(pattern.value.as_str()).map_err(|error| error.to_string());
        found.take(pattern.referenced, parsed)
    });
    let projects = patterns.collect();
    for channel in to.iter().filter(|channel| !known.contains(&&channel.value)) {
        let names: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
        let text = format!("there is no channel `{}`; there are {}", channel.value, names.join(", "));
        found.add(channel.referenced, text);
    }
    if !classes.is_empty() && !outcomes.is_empty() && outcomes.iter().all(|outcome| !has_class(*outcome)) {
        found.add(entry.referenced, "this rule never applies: `classes` are those of `failed` and `missing_secret`");
    }
    RoutingRule {
        projects,
        outcomes: outcomes.clone(),
        classes: classes.clone(),
        to: to.iter().map(|channel| channel.value.clone()).collect(),
        urgent: *urgent,
    }
}

fn duration(
    found: &mut Mistakes,
    text: Option<&Spanned<String>>,
    default: Duration,
    least: Duration,
    most: Duration,
) -> Duration {
    let Some(text) = text else { return default };
    let parsed = text.value.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    let fits = parsed.filter(|span| (least..=most).contains(span));
    let rule = || format!("must be a time from {least:?} to {} h, such as 30s, 10m or 2h", most.as_secs() / 3600);
    found.take(text.referenced, fits.ok_or_else(rule)).unwrap_or(default)
}
