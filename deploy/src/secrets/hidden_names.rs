//! Which variables of `.env` CI's job keeps out of its log, by their names. What a worker logs isn't decided here: that
//! is `redact`'s job.

use slipway_protocol::names::VariableName;

/// What else may name a secret. A worker that hid as much would hide what people need to read; here nobody else masks
/// anything.
const ALSO: [&str; 6] = ["AUTH", "DATABASE_URL", "DSN", "KEY", "PASS", "PRIVATE"];

/// An extended regular expression that matches the names: all of which a worker says that they name a secret, and more.
pub(crate) fn hidden_names() -> String {
    VariableName::words_of_secrets().chain(ALSO).collect::<Vec<_>>().join("|")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use proptest::prelude::*;

    use super::*;

    /// Those of `names` that awk, which decides it on a server, finds.
    fn found(names: &[String]) -> Vec<String> {
        let mut awk = Command::new("awk");
        awk.args(["-v", &format!("hidden={}", hidden_names()), "$0 ~ hidden"]);
        let mut child = awk.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("awk");
        child.stdin.take().expect("stdin").write_all(names.join("\n").as_bytes()).expect("the names");
        let output = child.wait_with_output().expect("an end").stdout;
        String::from_utf8(output).expect("names").lines().map(str::to_owned).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn whatever_names_a_secret_to_a_worker_is_hidden_by_cis_job(
            parts in prop::collection::vec(("[A-Z]{0,4}", 0..16usize, "[A-Z0-9]{0,4}"), 1..20),
            joint in "_?",
        ) {
            let words: Vec<_> = VariableName::words_of_secrets().collect();
            let names: Vec<String> = parts
                .iter()
                .map(|(before, word, after)| {
                    let word = words.get(*word).copied().unwrap_or("PLAIN");
                    [before.as_str(), word, after].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(&joint)
                })
                .collect();
            let hidden = found(&names);
            for name in names {
                let secret = VariableName::new(name.clone()).is_ok_and(|name| name.names_a_secret());
                prop_assert!(!secret || hidden.contains(&name), "{name} would be shown: {hidden:?}");
            }
        }
    }

    #[test]
    fn what_names_no_secret_is_shown() {
        let names = ["APP_NAME", "BACKEND_PORT", "GREETING", "REDIS_URL", "POSTGRES_USER"].map(str::to_owned);
        assert!(found(&names).is_empty(), "{:?}", found(&names));
        let names = ["SENTRY_DSN", "ASYNC_DATABASE_URL", "SLIPWAY_REGISTRY_AUTH", "STRIPE_KEY"].map(str::to_owned);
        assert_eq!(found(&names), names);
    }
}
