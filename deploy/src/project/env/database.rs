//! The variables of the project's own Postgres: its login and the URL that holds it. No I/O.

use std::fmt::Write as _;

use super::contract::declaration::ValueSource;
use super::variables::{EnvInputs, EnvPlan, Origin, generate_secret, missing_secret};
use crate::StageError;

/// The database's login. Postgres takes its password only on an empty volume, so a password is drawn once, never for
/// a volume that exists.
pub(super) fn set_database(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) -> Result<(), StageError> {
    if !inputs.project.has("db") {
        return Ok(());
    }
    for (name, value) in
        [("POSTGRES_USER", "postgres"), ("POSTGRES_DB", "service"), ("POSTGRES_HOST", "db"), ("POSTGRES_PORT", "5432")]
    {
        plan.derive(inputs.contract, name, value);
    }
    if plan.value("POSTGRES_PASSWORD").is_none() {
        if inputs.contract.declared("POSTGRES_PASSWORD").is_some_and(|d| d.source == ValueSource::UserSecret) {
            return Ok(());
        }
        if !inputs.database_exists {
            plan.set("POSTGRES_PASSWORD", generate_secret()?, Origin::Generated);
        } else if inputs.compose_variables.iter().any(|a| a.name == "POSTGRES_PASSWORD" && a.required) {
            return Err(missing_secret(
                "POSTGRES_PASSWORD",
                "the database exists already, and its password isn't in .env",
            ));
        } else {
            return Ok(());
        }
    }
    let part = |name: &str| plan.value(name).unwrap_or_default().to_owned();
    let password = part("POSTGRES_PASSWORD");
    let url = format!(
        "postgresql://{}:{}@{}:{}/{}",
        percent_encoded(&part("POSTGRES_USER")),
        percent_encoded(&password),
        part("POSTGRES_HOST"),
        part("POSTGRES_PORT"),
        part("POSTGRES_DB")
    );
    if let Some((kept, Origin::Kept)) = plan.variables.get("DATABASE_URL")
        && let Some(scheme) = stale_scheme(kept, &part("POSTGRES_HOST"), &password)
    {
        // The driver that somebody has chosen stays, and is theirs from then on as well.
        let url = format!("{scheme}{}", url.trim_start_matches("postgresql"));
        plan.variables.insert("DATABASE_URL".to_owned(), (url, Origin::Kept));
        plan.expressions.remove("DATABASE_URL");
    }
    plan.derive(inputs.contract, "DATABASE_URL", url);
    Ok(())
}

/// The scheme of a URL of the project's own database (on `host`) that doesn't hold the password in use, as it is or
/// encoded: it's of an older one. Another database's URL is somebody's choice.
fn stale_scheme<'a>(url: &'a str, host: &str, password: &str) -> Option<&'a str> {
    let (scheme, rest) = url.split_once("://")?;
    let (login, place) = rest.rsplit_once('@')?;
    let postgres = scheme == "postgres" || scheme.split('+').next() == Some("postgresql");
    let own = place.split([':', '/', '?']).next() == Some(host);
    let current =
        login.split_once(':').is_some_and(|(_, held)| held == password || decoded(held) == password.as_bytes());
    (postgres && own && !current).then_some(scheme)
}

/// As part of a URL's login: all but letters, digits and `-._~` encoded (RFC 3986).
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The bytes behind `%XX`, in either case of digits.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let code = after.get(..2).filter(|_| *first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}
