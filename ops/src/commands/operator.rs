//! Who gives a command, and why: what is recorded beside a cancellation or a change of dead letters.

use clap::Args;
use slipway_worker::store::Operator;

use crate::terminal::error::CliError;

/// Who does it, and why.
#[derive(Debug, Args)]
pub(crate) struct OperatorArgs {
    /// Who does it, for the record; `user@host` when left out
    #[arg(long = "as", alias = "by", value_name = "NAME")]
    who: Option<String>,

    /// Why, for the record
    #[arg(long, alias = "note", value_name = "TEXT")]
    why: Option<String>,
}

impl OperatorArgs {
    pub(crate) fn to_operator(&self) -> Operator {
        let why = self.why.as_deref().map(str::trim).filter(|why| !why.is_empty()).map(str::to_owned);
        Operator { who: self.who.clone().unwrap_or_else(user_at_host), why }
    }

    /// As [`Self::to_operator`], for changes that nobody will understand later without a reason.
    pub(crate) fn require_reason(&self, what: &str) -> Result<Operator, CliError> {
        let operator = self.to_operator();
        if operator.why.is_none() {
            return Err(CliError::usage(format!("{what} needs a reason")).hint("say why with --why TEXT"));
        }
        Ok(operator)
    }
}

/// The user and the host, as far as the system knows them; behind `sudo`, the user who called it.
pub(crate) fn user_at_host() -> String {
    let user =
        ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), if host.is_empty() { "unknown" } else { host })
}
