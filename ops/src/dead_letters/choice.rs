//! Which dead letters are meant, who does something with them, and whether that many at once are really wanted.

use clap::{Args, ValueEnum};
use jiff::{Span, SpanRelativeTo, Timestamp};
use slipway_protocol::names::Slug;
use slipway_protocol::{Class, ErrorCode};
use slipway_worker::store::{DeadLetter, DeadLetterFilter, DeadLetterState, Operator};
use uuid::Uuid;

use crate::explain;
use crate::memory::Database;
use crate::print::{Printer, clean};
use crate::trouble::{CliError, CommandExit};

/// Conditions that all must hold.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only with this error code
    #[arg(long, value_parser = code)]
    code: Option<ErrorCode>,

    /// Only with codes of this class: transient, permanent, user_action or infrastructure
    #[arg(long, value_parser = class)]
    class: Option<Class>,

    /// Only of this project
    #[arg(long, value_name = "SLUG")]
    project: Option<Slug>,

    /// Only from this stage: one of the seven, `intake` or `engine`
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    stage: Option<String>,

    /// Only what failed last after this: an age such as `2h` or `3d`, or a time as RFC 3339 writes it
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,

    /// Only what failed last before this: an age or a time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

impl FilterArgs {
    /// As the store has it.
    pub(super) fn of(&self, state: Option<DeadLetterState>) -> DeadLetterFilter {
        DeadLetterFilter {
            ids: Vec::new(),
            state,
            project: self.project.clone().map(Into::into),
            stage: self.stage.clone(),
            code: self.code.map(|c| c.to_string()),
            class: self.class.map(|c| c.to_string()),
            since: self.since,
            until: self.until,
        }
    }

    fn is_empty(&self) -> bool {
        self.of(None) == DeadLetterFilter::default()
    }
}

/// In which state.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum StateArg {
    /// Those that wait for somebody
    Open,
    /// Those that were sent again
    Replayed,
    /// Those that were put aside
    Archived,
    /// All of them
    All,
}

impl StateArg {
    pub(super) fn state(self) -> Option<DeadLetterState> {
        match self {
            Self::Open => Some(DeadLetterState::Open),
            Self::Replayed => Some(DeadLetterState::Replayed),
            Self::Archived => Some(DeadLetterState::Archived),
            Self::All => None,
        }
    }
}

/// Dead letters by name or by what they have in common.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Which ones: ids, or beginnings of them that no other has
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<String>,

    /// All of them; not needed beside a condition
    #[arg(long, conflicts_with = "ids")]
    all: bool,

    #[command(flatten)]
    filter: FilterArgs,
}

impl Selection {
    /// The dead letters that are meant: by name in any state, so that it can be told why one isn't fit; by conditions
    /// in `state` only.
    pub(super) async fn find(
        &self,
        state: Option<DeadLetterState>,
        memory: &Database,
    ) -> Result<DeadLetterFilter, CliError> {
        match (self.ids.is_empty(), self.filter.is_empty()) {
            (true, true) if !self.all => {
                Err(CliError::usage("which dead letters?").hint("give ids, conditions such as --code, or --all"))
            }
            (true, _) => Ok(self.filter.of(state)),
            (false, false) => Err(CliError::usage("either ids or conditions choose dead letters, not both")),
            (false, true) => {
                let mut ids = Vec::new();
                for id in &self.ids {
                    ids.push(by_prefix(id, memory).await?);
                }
                ids.sort();
                ids.dedup();
                Ok(DeadLetterFilter { ids, ..DeadLetterFilter::default() })
            }
        }
    }
}

/// Who does it, and why.
#[derive(Debug, Args)]
pub(super) struct OperatorArgs {
    /// Who does it, for the record; `user@host` when left out
    #[arg(long = "as", alias = "by", value_name = "NAME")]
    who: Option<String>,

    /// Why, for the record
    #[arg(long, alias = "note", value_name = "TEXT")]
    why: Option<String>,
}

impl OperatorArgs {
    /// For the record.
    pub(super) fn operator(&self) -> Operator {
        let why = self.why.as_deref().map(str::trim).filter(|why| !why.is_empty()).map(str::to_owned);
        Operator { who: self.who.clone().unwrap_or_else(at_the_keyboard), why }
    }

    /// For the record of what nobody will understand later without a reason.
    pub(super) fn with_reason(&self, what: &str) -> Result<Operator, CliError> {
        let operator = self.operator();
        if operator.why.is_none() {
            return Err(CliError::usage(format!("{what} needs a reason")).hint("say why with --why TEXT"));
        }
        Ok(operator)
    }
}

/// Who is at the keyboard, as far as the system knows.
pub(crate) fn at_the_keyboard() -> String {
    let user =
        ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), if host.is_empty() { "unknown" } else { host })
}

/// The right to change what somebody chose without naming each; only [`consent`] gives it.
pub(super) struct BulkConsent(());

/// Consent to do `what` with `count` dead letters: given by naming each of them, by `--yes`, or by a person who is
/// asked.
pub(super) fn consent(
    filter: &DeadLetterFilter,
    yes: bool,
    what: &str,
    count: u64,
    printer: &Printer,
) -> Result<BulkConsent, CliError> {
    if yes || !filter.ids.is_empty() {
        return Ok(BulkConsent(()));
    }
    let question = format!("{what} {count} dead letters?");
    match printer.ask(&question) {
        Some(true) => Ok(BulkConsent(())),
        Some(false) => Err(CliError::new(CommandExit::Failed, "nothing was done")),
        None => Err(CliError::usage(format!("{question} Nobody is there to be asked"))
            .hint("look at what is meant with `slipway dead-letters list`, then give --yes")),
    }
}

/// The id of the one dead letter whose id begins with `prefix`.
pub(super) async fn by_prefix(prefix: &str, memory: &Database) -> Result<Uuid, CliError> {
    let prefix = prefix.to_ascii_lowercase();
    let unknown = || {
        CliError::usage(format!("there is no dead letter {}", clean(&prefix)))
            .hint("`slipway dead-letters list --state all` shows them")
    };
    if prefix.len() < 4 {
        return Err(unknown());
    }
    let found = memory.store.dead_letters_like(&prefix).await.map_err(|e| memory.trouble(&e))?;
    match found.as_slice() {
        [id] => Ok(*id),
        [] => Err(unknown()),
        several => Err(CliError::usage(format!("several dead letters begin with {prefix}"))
            .details(several.iter().map(ToString::to_string).collect())
            .hint("give more digits")),
    }
}

/// The one dead letter whose id begins with `prefix`, in full.
pub(super) async fn one(prefix: &str, memory: &Database) -> Result<DeadLetter, CliError> {
    let id = by_prefix(prefix, memory).await?;
    let letter = memory.store.dead_letter(id).await.map_err(|e| memory.trouble(&e))?;
    letter.ok_or_else(|| CliError::usage(format!("dead letter {id} has just gone")))
}

fn code(text: &str) -> Result<ErrorCode, String> {
    explain::parse(text).map_err(|trouble| trouble.message)
}

fn class(text: &str) -> Result<Class, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "must be transient, permanent, user_action or infrastructure".to_owned())
}

fn stage(text: &str) -> Result<String, String> {
    let known = matches!(text, "intake" | "engine") || text.parse::<slipway_protocol::Stage>().is_ok();
    known.then(|| text.to_owned()).ok_or_else(|| "must be one of the seven stages, `intake` or `engine`".to_owned())
}

/// A time, or an age before now.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
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
        assert_eq!(moment("2026-11-20T09:30:00Z").unwrap().to_string(), "2026-11-20T09:30:00Z");
        for (age, seconds) in [("90m", 5400), ("2h", 7200), ("3d", 259_200), ("1w", 604_800), ("1h 30m", 5400)] {
            let at = moment(age).unwrap();
            let back = Timestamp::now().duration_since(at).as_secs();
            assert!((seconds..seconds + 60).contains(&back), "{age}: {back}");
        }
        for nonsense in ["", "yesterday", "2", "h"] {
            assert!(moment(nonsense).is_err(), "{nonsense}");
        }
    }
}
