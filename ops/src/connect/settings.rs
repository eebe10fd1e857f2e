//! Where RabbitMQ and Postgres are, from flags or the environment. URLs hold passwords and are never shown whole.

use std::convert::Infallible;
use std::path::PathBuf;

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_worker::store::{DatabasePooler, DatabaseRoute, UnknownPooler};

use crate::terminal::error::CliError;

/// The connection settings, the same as the workers'.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connections")]
pub(crate) struct ConnectionSettings {
    /// RabbitMQ, amqp(s)://…, or several of a cluster, separated by commas; prefer the environment, since others can
    /// read a running program's flags
    #[arg(
        long,
        global = true,
        env = "SLIPWAY_AMQP_URL",
        hide_env_values = true,
        value_name = "URL",
        value_parser = parse_secret
    )]
    amqp_url: Option<SecretString>,

    /// Postgres, postgres://…; prefer the environment
    #[arg(
        long,
        global = true,
        env = "SLIPWAY_DATABASE_URL",
        hide_env_values = true,
        value_name = "URL",
        value_parser = parse_secret
    )]
    database_url: Option<SecretString>,

    /// What stands before Postgres, such as PgBouncer, by its pool_mode: none, session or transaction
    #[arg(
        long,
        global = true,
        env = "SLIPWAY_DATABASE_POOLER",
        hide_env_values = true,
        value_name = "MODE",
        value_parser = parse_pooler,
        default_value = "none",
        hide_default_value = true
    )]
    database_pooler: DatabasePooler,

    /// Postgres without the pooler, for notifications; prefer the environment
    #[arg(
        long,
        global = true,
        env = "SLIPWAY_DATABASE_DIRECT_URL",
        hide_env_values = true,
        value_name = "URL",
        value_parser = parse_secret
    )]
    database_direct_url: Option<SecretString>,

    /// PEM file with an extra certificate authority for both
    #[arg(long, global = true, env = "SLIPWAY_CA_FILE", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

impl ConnectionSettings {
    pub(crate) fn amqp_url(&self) -> Result<&SecretString, CliError> {
        require(self.amqp_url.as_ref(), "RabbitMQ", "SLIPWAY_AMQP_URL", "--amqp-url")
    }

    pub(crate) fn database_url(&self) -> Result<&SecretString, CliError> {
        require(self.database_url.as_ref(), "Postgres", "SLIPWAY_DATABASE_URL", "--database-url")
    }

    pub(crate) fn database_route(&self) -> DatabaseRoute {
        let direct = self.database_direct_url.clone().filter(|url| !url.expose_secret().is_empty());
        DatabaseRoute { pooler: self.database_pooler, direct }
    }
}

fn require<'a>(
    url: Option<&'a SecretString>,
    what: &str,
    variable: &str,
    flag: &str,
) -> Result<&'a SecretString, CliError> {
    url.filter(|u| !u.expose_secret().is_empty()).ok_or_else(|| {
        CliError::usage(format!("{variable} isn't set, so {what} can't be asked"))
            .hint(format!("set it, or give {flag}"))
    })
}

/// Takes any text: a parser that could fail would print the password.
fn parse_secret(value: &str) -> Result<SecretString, Infallible> {
    Ok(SecretString::from(value))
}

/// An empty variable counts as unset.
fn parse_pooler(value: &str) -> Result<DatabasePooler, UnknownPooler> {
    if value.is_empty() { Ok(DatabasePooler::None) } else { value.parse() }
}

/// A URL as it may be shown: scheme, host and path, without user, password and query.
pub(crate) fn redact_url(url: &SecretString) -> String {
    let url = url.expose_secret();
    let Some((scheme, rest)) = url.split_once("://") else { return "(not a URL)".to_owned() };
    // From the last `@`: a password may hold one, and even a slash.
    let (login, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    if login.contains(['?', '#']) {
        // Where the password ends, or whether it's in the query, can't be told.
        return format!("{scheme}://…");
    }
    format!("{scheme}://{}", host.split(['?', '#']).next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_url_holds_neither_user_nor_password() {
        let of = |url: &str| redact_url(&SecretString::from(url));
        assert_eq!(of("postgres://me:pa@ss/w@db:5432/slipway?password=x"), "postgres://db:5432/slipway");
        assert_eq!(of("amqp://localhost"), "amqp://localhost");
        // What PostgreSQL's client takes, though URLs want these characters encoded.
        for password in ["hun#ter2", "hun?ter2", "hu@n#ter2", "#hunter2", "hun?t@er2"] {
            assert_eq!(of(&format!("postgres://me:{password}@db:5432/slipway")), "postgres://…", "{password}");
        }
        assert_eq!(of("postgres://db/slipway?password=pa@ss"), "postgres://…");
        assert_eq!(of("host=db password=x"), "(not a URL)");
    }
}
