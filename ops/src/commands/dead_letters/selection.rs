//! Which dead letters are meant: by their ids, or by conditions. Consent to change many at once is in `consent`.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{Class, ErrorCode};
use slipway_worker::store::{DeadLetter, DeadLetterFilter, DeadLetterState};
use uuid::Uuid;

use crate::commands::arguments::parse_time_or_age;
use crate::commands::explain;
use crate::connect::store::Database;
use crate::terminal::error::CliError;
use crate::terminal::print::clean;

/// Conditions that all must hold.
#[derive(Debug, Args)]
pub(super) struct FilterArgs {
    /// Only with this error code
    #[arg(long, value_parser = parse_code)]
    code: Option<ErrorCode>,

    /// Only with codes of this class: transient, permanent, user_action or infrastructure
    #[arg(long, value_parser = parse_class)]
    class: Option<Class>,

    /// Only of this project
    #[arg(long, value_name = "SLUG")]
    project: Option<Slug>,

    /// Only of deployments to this server
    #[arg(long, value_name = "HANDLE")]
    server: Option<ServerHandle>,

    /// Only from this stage: one of the seven, `intake` or `engine`
    #[arg(long, value_name = "STAGE", value_parser = parse_stage)]
    stage: Option<String>,

    /// Only what failed last after this: an age such as `2h` or `3d`, or a time as RFC 3339 writes it
    #[arg(long, value_name = "TIME", value_parser = parse_time_or_age)]
    since: Option<Timestamp>,

    /// Only what failed last before this: an age or a time
    #[arg(long, value_name = "TIME", value_parser = parse_time_or_age)]
    until: Option<Timestamp>,
}

impl FilterArgs {
    /// As the store has it.
    pub(super) fn to_filter(&self, state: Option<DeadLetterState>) -> DeadLetterFilter {
        DeadLetterFilter {
            ids: Vec::new(),
            state,
            project: self.project.clone().map(Into::into),
            server: self.server.clone().map(Into::into),
            stage: self.stage.clone(),
            code: self.code.map(|c| c.to_string()),
            class: self.class.map(|c| c.to_string()),
            since: self.since,
            until: self.until,
            after: None,
            before: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.to_filter(None) == DeadLetterFilter::default()
    }
}

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
    pub(super) fn to_state(self) -> Option<DeadLetterState> {
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
    pub(super) async fn resolve(
        &self,
        state: Option<DeadLetterState>,
        database: &Database,
    ) -> Result<DeadLetterFilter, CliError> {
        match (self.ids.is_empty(), self.filter.is_empty()) {
            (true, true) if !self.all => {
                Err(CliError::usage("which dead letters?").hint("give ids, conditions such as --code, or --all"))
            }
            (true, _) => Ok(self.filter.to_filter(state)),
            (false, false) => Err(CliError::usage("either ids or conditions choose dead letters, not both")),
            (false, true) => {
                let mut ids = Vec::new();
                for id in &self.ids {
                    ids.push(find_id_by_prefix(id, database).await?);
                }
                ids.sort();
                ids.dedup();
                Ok(DeadLetterFilter { ids, ..DeadLetterFilter::default() })
            }
        }
    }
}

/// The id of the one dead letter whose id begins with `prefix`.
pub(super) async fn find_id_by_prefix(prefix: &str, database: &Database) -> Result<Uuid, CliError> {
    let prefix = prefix.to_ascii_lowercase();
    let unknown = || {
        CliError::usage(format!("there is no dead letter {}", clean(&prefix)))
            .hint("`slipway dead-letters list --state all` shows them")
    };
    if prefix.len() < 4 {
        return Err(unknown());
    }
    let found = database.store.dead_letters_like(&prefix).await.map_err(|e| database.cli_error(&e))?;
    match found.as_slice() {
        [id] => Ok(*id),
        [] => Err(unknown()),
        several => Err(CliError::usage(format!("several dead letters begin with {prefix}"))
            .details(several.iter().map(ToString::to_string).collect())
            .hint("give more digits")),
    }
}

/// The one dead letter whose id begins with `prefix`, in full.
pub(super) async fn load_by_prefix(prefix: &str, database: &Database) -> Result<DeadLetter, CliError> {
    let id = find_id_by_prefix(prefix, database).await?;
    let letter = database.store.dead_letter(id).await.map_err(|e| database.cli_error(&e))?;
    letter.ok_or_else(|| CliError::usage(format!("dead letter {id} has just gone")))
}

fn parse_code(text: &str) -> Result<ErrorCode, String> {
    explain::parse_code(text).map_err(|error| error.message)
}

fn parse_class(text: &str) -> Result<Class, String> {
    serde_json::from_value(text.into())
        .map_err(|_| "must be transient, permanent, user_action or infrastructure".to_owned())
}

fn parse_stage(text: &str) -> Result<String, String> {
    let known = matches!(text, "intake" | "engine") || text.parse::<slipway_protocol::Stage>().is_ok();
    known.then(|| text.to_owned()).ok_or_else(|| "must be one of the seven stages, `intake` or `engine`".to_owned())
}
