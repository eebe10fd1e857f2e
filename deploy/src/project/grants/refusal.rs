//! What a project asks for and doesn't get, and the error that names all of it.

use std::collections::BTreeSet;

use serde_json::Value;
use slipway_protocol::ErrorCode;

use super::allowance::Allowance;
use crate::StageError;
use crate::remote::output::plain;

/// Longest text of the project that is repeated.
const MAX_VALUE: usize = 120;
/// Refusals that the message names; the tail has more.
const IN_MESSAGE: usize = 4;
/// Refusals that are named at all.
const NAMED: usize = 30;

/// One thing that isn't granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Where: `service backend`, `volume data`.
    pub place: String,
    /// Which key there.
    pub key: String,
    /// What stands there, bounded.
    pub value: String,
    /// What is right.
    pub rule: &'static str,
    /// What an operator may allow, where that's possible.
    pub allow: Option<Allowance>,
}

impl Refusal {
    pub(super) fn new(place: &str, key: &str, value: &Value, rule: &'static str) -> Self {
        Self { place: brief(place), key: brief(key), value: brief(&text_of(value)), rule, allow: None }
    }
}

/// Gathers refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    found: Vec<Refusal>,
    allowed: BTreeSet<Allowance>,
}

impl Refusals {
    pub(super) fn new(allowances: &[Allowance]) -> Self {
        Self { found: Vec::new(), allowed: allowances.iter().cloned().collect() }
    }

    pub(super) fn refuse(&mut self, place: &str, key: &str, value: &Value, rule: &'static str) {
        self.found.push(Refusal::new(place, key, value, rule));
    }

    /// Refuses it, unless one of `allowances` is there. The first is what an operator is told.
    pub(super) fn unless_allowed(
        &mut self,
        allowances: &[Allowance],
        place: &str,
        key: &str,
        value: &Value,
        rule: &'static str,
    ) {
        if allowances.iter().any(|a| self.allowed.contains(a)) {
            return;
        }
        self.refuse(place, key, value, rule);
        if let Some(last) = self.found.last_mut() {
            last.allow = allowances.first().cloned();
        }
    }

    pub(super) fn into_found(self) -> Vec<Refusal> {
        self.found
    }
}

/// The error that names all refusals; none where there are none.
pub(crate) fn explain(slug: &str, refusals: &[Refusal]) -> Result<(), StageError> {
    if refusals.is_empty() {
        return Ok(());
    }
    let line = |refusal: &Refusal| {
        let Refusal { place, key, value, rule, allow } = refusal;
        let allow = allow.as_ref().map(|allowance| {
            format!("; an operator can allow it: `slipway projects allow {slug} {allowance} --why TEXT`")
        });
        format!("{place}: {key}: {value} ({rule}{})", allow.unwrap_or_default())
    };
    let named: Vec<String> = refusals.iter().take(NAMED).map(line).collect();
    let more = match refusals.len() {
        count if count > IN_MESSAGE => format!("; and {} more", count - IN_MESSAGE),
        _ => String::new(),
    };
    let first = named.iter().take(IN_MESSAGE).map(String::as_str).collect::<Vec<_>>().join("; ");
    let message = format!("the compose files ask for what no project gets: {first}{more}");
    Err(StageError::new(ErrorCode::ComposeNotAllowed, message).with_tail(named))
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn brief(text: &str) -> String {
    let text = plain(text);
    match text.char_indices().nth(MAX_VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
