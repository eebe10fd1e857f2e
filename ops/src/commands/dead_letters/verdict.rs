//! Whether dead letters can be sent again, and if not, why. The store decides it; this file words it.

use slipway_protocol::Stage;
use slipway_worker::store::{PlannedReplay, Replay, ReplayVerdict};
use uuid::Uuid;

use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::short_id;

pub(super) fn would_be_sent(verdict: ReplayVerdict, replay: Replay) -> bool {
    verdict == ReplayVerdict::Ready || (replay.force && verdict == ReplayVerdict::Superseded)
}

/// The error for a dead letter that can't be sent; `None` for one that can.
pub(super) fn explain_refusal(one: &PlannedReplay, replay: Replay) -> Option<CliError> {
    let id = one.id;
    let failed = |message: String| CliError::new(CommandExit::Failed, message);
    match one.verdict {
        verdict if would_be_sent(verdict, replay) => None,
        ReplayVerdict::Ready => None,
        ReplayVerdict::Withheld => Some(withheld_error(id)),
        ReplayVerdict::NotOpen => Some(
            failed(format!("dead letter {id} isn't open any more"))
                .hint(format!("`slipway dead-letters show {id}` says what became of it")),
        ),
        ReplayVerdict::Superseded => Some(
            failed(format!(
                "dead letter {id} is superseded: its project has the newer deployment {}",
                describe_newer(one)
            ))
            .hint("--force deploys it all the same, as the newest"),
        ),
        ReplayVerdict::Expired => Some(
            failed(format!("the request of dead letter {id} has expired and would be refused"))
                .hint("have it emitted anew, or change `expires_at` with --edit"),
        ),
    }
}

fn describe_newer(one: &PlannedReplay) -> String {
    one.newer.map_or_else(|| "-".to_owned(), |id| short_id(&id.to_string()))
}

pub(super) fn describe_replay(one: &PlannedReplay, replay: Replay) -> String {
    let resumes = one.stage.parse::<Stage>().is_ok() && !replay.from_start;
    match one.verdict {
        verdict if would_be_sent(verdict, replay) && resumes => format!("resumes at {}", one.stage),
        verdict if would_be_sent(verdict, replay) => "runs every stage".to_owned(),
        ReplayVerdict::Superseded => format!("not without --force: {} is newer", describe_newer(one)),
        ReplayVerdict::Expired => "not: expired".to_owned(),
        ReplayVerdict::Withheld => "not: its body is withheld".to_owned(),
        ReplayVerdict::NotOpen | ReplayVerdict::Ready => format!("not: {}", one.state),
    }
}

pub(super) fn withheld_error(id: Uuid) -> CliError {
    CliError::new(CommandExit::Failed, format!("the body of {id} held a secret in plain text and isn't kept"))
        .hint("have the secret replaced and the event emitted anew")
}
