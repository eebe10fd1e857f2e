//! Who gives a command, from where, and why: what is recorded with whatever an operator does. The record itself is the
//! store's, and `audit` shows it.

use clap::Args;
use slipway_worker::store::{Operator, OperatorOrigin};

use crate::commands::arguments::parse_reason;
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
        operator(self.who.as_deref(), self.why.as_deref())
    }

    /// As [`Self::to_operator`], for changes that nobody will understand later without a reason.
    pub(crate) fn require_reason(&self, what: &str) -> Result<Operator, CliError> {
        require_reason(self.to_operator(), what)
    }
}

/// As [`OperatorArgs`], where the reason goes into an event or stands beside a note.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// Who does it, for the record; `user@host` when left out
    #[arg(long = "as", alias = "by", value_name = "NAME")]
    who: Option<String>,

    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = parse_reason)]
    pub(crate) why: Option<String>,
}

impl RecordArgs {
    pub(crate) fn to_operator(&self) -> Operator {
        operator(self.who.as_deref(), self.why.as_deref())
    }

    /// As [`OperatorArgs::require_reason`].
    pub(crate) fn require_reason(&self, what: &str) -> Result<Operator, CliError> {
        require_reason(self.to_operator(), what)
    }
}

fn operator(who: Option<&str>, why: Option<&str>) -> Operator {
    // What is empty says nothing: it counts as left out.
    let said = |text: Option<&str>| text.map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned);
    let (origin, why) = (origin(), said(why));
    let unknown = |part: &Option<String>| part.clone().unwrap_or_else(|| "unknown".to_owned());
    let who = said(who).unwrap_or_else(|| format!("{}@{}", unknown(&origin.user), unknown(&origin.host)));
    Operator { who, why, origin }
}

fn require_reason(operator: Operator, what: &str) -> Result<Operator, CliError> {
    if operator.why.is_none() {
        return Err(CliError::usage(format!("{what} needs a reason")).hint("say why with --why TEXT"));
    }
    Ok(operator)
}

/// From where this program is run, as far as the system knows. The ids are the kernel's, whatever the environment says;
/// the login's stays the same behind `sudo`.
fn origin() -> OperatorOrigin {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let filled = |text: String| Some(text).filter(|text| !text.is_empty());
    let status = read("/proc/self/status");
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
    let terminal = |fd: u8| {
        let file = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?.display().to_string();
        (file.starts_with("/dev/pts/") || file.starts_with("/dev/tty")).then_some(file)
    };
    OperatorOrigin {
        user: ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(variable),
        uid,
        // The highest number says that nobody has logged in.
        login_uid: read("/proc/self/loginuid").parse().ok().filter(|uid| *uid != u32::MAX),
        host: filled(read("/proc/sys/kernel/hostname")),
        terminal: (0..3).find_map(terminal),
        ssh_client: variable("SSH_CLIENT").and_then(|client| Some(client.split_whitespace().next()?.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_reason_of_spaces_counts_as_left_out() {
        let (left_out, said) = (operator(None, None), operator(Some("ada"), Some("it moved")));
        for empty in ["", " ", "\t\n"] {
            let operator = operator(Some(empty), Some(empty));
            assert_eq!((&operator.who, &operator.why), (&left_out.who, &None), "{empty:?}");
        }
        assert_eq!((said.who.as_str(), said.why.as_deref()), ("ada", Some("it moved")));
    }
}
