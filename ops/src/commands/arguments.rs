//! Values of arguments that several commands take, checked while the arguments are parsed. What only one command takes
//! is parsed in that command's file.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo, Timestamp};
use slipway_protocol::MAX_REASON;
use slipway_protocol::names::{Port, VariableName};

pub(crate) fn parse_port(text: &str) -> Result<Port, String> {
    let number: u16 = text.parse().map_err(|_| "a port must be a number from 1 to 65535".to_owned())?;
    Port::new(number).map_err(|e| e.to_string())
}

/// `NAME=…`, split; the error doesn't repeat what may be a secret.
pub(crate) fn parse_assignment(text: &str) -> Result<(VariableName, &str), String> {
    let (name, value) = text.split_once('=').ok_or("must look like NAME=VALUE")?;
    Ok((name.parse().map_err(|e: slipway_protocol::names::InvalidName| e.to_string())?, value))
}

/// One line that fits an event.
pub(crate) fn parse_reason(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().count() > MAX_REASON || text.chars().any(char::is_control) {
        return Err(format!("a reason must be one line of 1 to {MAX_REASON} printable characters"));
    }
    Ok(text.to_owned())
}

/// How long something lasts; a number without a unit counts seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let span = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    let duration = span.ok().and_then(|span| Duration::try_from(span).ok());
    duration.ok_or_else(|| "must be a duration such as 90s, 10m or 2h".to_owned())
}

/// A time, or an age before now.
pub(crate) fn parse_time_or_age(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let age = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    age.and_then(|age| Timestamp::now().checked_sub(age.abs()))
        .map_err(|_| "must be an age such as 90m, 2h or 3d, or a time such as 2026-11-20T09:30:00Z".to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_age_counts_back_from_now_and_a_time_stands_for_itself() {
        assert_eq!(parse_time_or_age("2026-11-20T09:30:00Z").unwrap().to_string(), "2026-11-20T09:30:00Z");
        for (age, seconds) in [("90m", 5400), ("2h", 7200), ("3d", 259_200), ("1w", 604_800), ("1h 30m", 5400)] {
            let at = parse_time_or_age(age).unwrap();
            let back = Timestamp::now().duration_since(at).as_secs();
            assert!((seconds..seconds + 60).contains(&back), "{age}: {back}");
        }
        for nonsense in ["", "yesterday", "2", "h"] {
            assert!(parse_time_or_age(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_duration_has_units_and_a_bare_number_is_seconds() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("1h 30m", 5400), ("2d", 172_800), ("300", 300)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for nonsense in ["", "soon", "-5m", "5x", "1.5"] {
            assert!(parse_duration(nonsense).is_err(), "{nonsense}");
        }
    }
}
