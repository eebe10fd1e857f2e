//! How soon Docker looks at a container that starts. Its first look at a health check comes one whole interval after the
//! start, and whatever waits for a healthy service waits as long; a project that says nothing of its own on that is
//! looked at each half second until it's healthy.

use serde::Deserialize;

/// The first versions that can: Docker 25, and a Compose that is built with its API.
const DOCKER: (u32, u32) = (25, 0);
const COMPOSE: (u32, u32) = (2, 25);

/// Docker's interval where a check names none.
const USUAL_INTERVAL: &str = "30s";

/// A service's health check, as far as the compose files themselves say something of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnCheck {
    test: serde_json::Value,
    disable: serde_json::Value,
    interval: Option<serde_json::Value>,
    start_period: Option<serde_json::Value>,
    start_interval: Option<serde_json::Value>,
}

impl OwnCheck {
    /// Whether there is one.
    pub(super) fn is_on(&self) -> bool {
        let is_none = self.test == "NONE" || self.test[0] == "NONE";
        !self.test.is_null() && !is_none && self.disable != true
    }

    /// The override file's line; none where the project has its own word on it, or no check.
    ///
    /// Docker looks that often only in the start period. Where the check has none, it gets the time until what would have
    /// been its first look: what fails before that hasn't counted so far either.
    pub(super) fn line(&self) -> Option<String> {
        if self.start_interval.is_some() || !self.is_on() {
            return None;
        }
        let mut check = serde_json::json!({ "start_interval": "500ms" });
        if self.start_period.is_none() {
            let interval = self.interval.as_ref().and_then(serde_json::Value::as_str);
            check["start_period"] = interval.unwrap_or(USUAL_INTERVAL).into();
        }
        Some(format!("    healthcheck: {check}\n"))
    }
}

/// Whether a server with this Docker and this Compose looks sooner when it's told to.
pub fn looks_sooner(docker: &str, compose: &str) -> bool {
    version(docker) >= DOCKER && version(compose) >= COMPOSE
}

/// Major and minor, of `26.1.5+dfsg1`, `v2.24.0` and the like.
pub fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.trim_start_matches('v').split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_the_project_says_wins_and_what_has_no_check_gets_none() {
        for (own, line) in [
            (r#"{"test": ["CMD", "a"], "interval": "3s"}"#, Some(r#"{"start_interval":"500ms","start_period":"3s"}"#)),
            (r#"{"test": "a"}"#, Some(r#"{"start_interval":"500ms","start_period":"30s"}"#)),
            (r#"{"test": "a", "start_period": "1m0s", "interval": "3s"}"#, Some(r#"{"start_interval":"500ms"}"#)),
            (r#"{"test": "a", "disable": false, "start_period": "0s"}"#, Some(r#"{"start_interval":"500ms"}"#)),
            (r#"{"test": "a", "start_interval": "2s"}"#, None),
            (r#"{"test": ["NONE"]}"#, None),
            (r#"{"test": "a", "disable": true}"#, None),
            (r#"{"interval": "3s"}"#, None),
        ] {
            let check: OwnCheck = serde_json::from_str(own).expect("a check");
            assert_eq!(check.line(), line.map(|line| format!("    healthcheck: {line}\n")), "{own}");
        }
    }

    #[test]
    fn a_docker_or_a_compose_that_is_too_old_is_not_told() {
        for (docker, compose, can) in [
            ("26.1.5+dfsg1", "2.26.1-4", true),
            ("25.0.0", "v2.25.0", true),
            ("24.0.9", "2.26.1", false),
            ("26.1.5", "2.24.7", false),
            ("", "", false),
        ] {
            assert_eq!(looks_sooner(docker, compose), can, "{docker} {compose}");
        }
    }
}
