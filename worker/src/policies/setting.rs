//! One policy of the table: a value, what sets it, and why there is such a thing.

use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy as Retry;

use crate::config::variables::Variable;

/// What a policy sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PolicyValue {
    /// How long something lasts or may last.
    Time(Duration),
    /// A number of what the text says.
    Count(u64, &'static str),
    /// How often and how far apart something is tried.
    Retry(Retry),
}

/// One limit, time or number of tries, and the reason for it.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySetting {
    /// What it's called.
    pub name: &'static str,
    /// What applies unless its variable says otherwise.
    pub value: PolicyValue,
    /// The environment variable that sets it, if one does.
    pub variable: Option<&'static str>,
    /// Why there is such a thing.
    pub why: &'static str,
    /// The constant's place in the code, if it's one.
    pub constant: Option<&'static str>,
}

impl From<Duration> for PolicyValue {
    fn from(time: Duration) -> Self {
        Self::Time(time)
    }
}

impl From<Retry> for PolicyValue {
    fn from(retry: Retry) -> Self {
        Self::Retry(retry)
    }
}

/// A policy that no setting changes; `constant` is its path in the code.
pub(super) fn fixed(
    name: &'static str,
    constant: &'static str,
    value: impl Into<PolicyValue>,
    why: &'static str,
) -> PolicySetting {
    PolicySetting { name, value: value.into(), variable: None, why, constant: Some(constant) }
}

pub(super) fn time(name: &'static str, variable: &Variable<Duration>, why: &'static str) -> PolicySetting {
    set(name, variable, PolicyValue::Time, why)
}

/// A setting that is a number of `unit`.
pub(super) fn count<T: Into<u64>>(
    name: &'static str,
    variable: &Variable<T>,
    unit: &'static str,
    why: &'static str,
) -> PolicySetting {
    set(name, variable, |n| PolicyValue::Count(n.into(), unit), why)
}

pub(super) fn set<T>(
    name: &'static str,
    variable: &Variable<T>,
    value: impl Fn(T) -> PolicyValue,
    why: &'static str,
) -> PolicySetting {
    let value = variable.default().map_or(PolicyValue::Time(Duration::ZERO), value);
    PolicySetting { name, value, variable: Some(variable.entry.name), why, constant: None }
}
