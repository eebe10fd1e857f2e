//! `slipway dead-letters replay`: sends the very bytes again, under a replay id, so that it's a deployment of its own.
//! The database does it in batches; of the messages nothing comes here but their ids. What was sent isn't sent twice,
//! so that an interrupted command is simply given again.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use slipway_protocol::{Class, ErrorCode, Stage};
use slipway_worker::store::{
    DeadLetterFilter, DeadLetterState, Operator, PlannedReplay, Replay, ReplayVerdict, SentReplay, StoreError,
};

use super::choice::{BulkConsent, OperatorArgs, Selection, consent};
use super::{edit, view};
use crate::deployments::{dash, short_id};
use crate::memory::Database;
use crate::print::{Printer, Table};
use crate::trouble::{CliError, CommandExit};

/// Dead letters that are sent in one transaction.
const BATCH: u32 = 500;
/// Dead letters that a dry run shows one by one to a person.
const SHOWN: usize = 50;
/// The most that one command sends.
const LIMIT: u32 = 1_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(super) choice: Selection,

    /// Only say what would be sent
    #[arg(long)]
    pub(super) dry_run: bool,

    /// At most so many, the oldest first
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    max: u32,

    /// At most so many a second
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<u32>,

    /// Run every stage again, not only from the one that failed
    #[arg(long)]
    from_start: bool,

    /// Also those whose project has a newer deployment by now; they count as the newest then
    #[arg(long)]
    pub(super) force: bool,

    /// Edit the event in $EDITOR and send it as a new one, with `causationid` naming the old one
    #[arg(long, conflicts_with_all = ["max", "rate"])]
    pub(super) edit: bool,

    /// Send what this file holds as the edited event; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["edit", "max", "rate"])]
    pub(super) with: Option<PathBuf>,

    #[command(flatten)]
    pub(super) doer: OperatorArgs,

    /// Don't ask, though they are chosen by conditions
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(args: ReplayArgs, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    if args.edit || args.with.is_some() {
        return edit::run(&args, memory, printer).await;
    }
    let filter = args.choice.find(Some(DeadLetterState::Open), memory).await?;
    let replay = Replay { from_start: args.from_start, force: args.force };
    let counts = memory.store.count_replay(&filter).await.map_err(|e| memory.trouble(&e))?;
    let fit = counts.iter().filter(|(verdict, _)| is_sent(*verdict, replay)).map(|(_, count)| count).sum::<u64>();
    let count = fit.min(u64::from(args.max));
    if args.dry_run {
        return preview(&filter, replay, count, &counts, memory, printer).await;
    }
    let operator = if args.force { args.doer.with_reason("forcing")? } else { args.doer.operator() };
    let mut sent = Vec::new();
    let mut broken = None;
    if count > 0 {
        let token = consent(&filter, args.yes, "Replay", count, printer)?;
        let sending = ReplayRun { filter: &filter, replay, operator: &operator, max: args.max, rate: args.rate, count };
        broken = sending.run(&mut sent, &token, memory, printer).await.err();
    }
    let failed = if broken.is_some() { Vec::new() } else { refusals(&filter, &sent, replay, memory).await? };
    report(&sent, &failed, &counts, replay, printer);
    if let Some(error) = broken {
        return Err(memory.trouble(&error).hint("give the same command again: what was sent isn't sent twice"));
    }
    Ok(if failed.is_empty() { CommandExit::Success } else { CommandExit::Failed })
}

/// A replay under way.
struct ReplayRun<'a> {
    filter: &'a DeadLetterFilter,
    replay: Replay,
    operator: &'a Operator,
    max: u32,
    rate: Option<u32>,
    /// How many it will be, as counted before.
    count: u64,
}

impl ReplayRun<'_> {
    async fn run(
        &self,
        sent: &mut Vec<SentReplay>,
        _: &BulkConsent,
        memory: &Database,
        printer: &Printer,
    ) -> Result<(), StoreError> {
        let begun = memory.store.clock().await?;
        // What fails again meanwhile is another night's work, else this might never end.
        let until = Some(self.filter.until.map_or(begun, |until| until.min(begun)));
        let filter = DeadLetterFilter { until, ..self.filter.clone() };
        let batch = self.rate.map_or(BATCH, |rate| rate.min(BATCH));
        let pause = self.rate.map(|rate| Duration::from_secs_f64(f64::from(batch) / f64::from(rate)));
        let mut ticks = tokio::time::interval(pause.unwrap_or(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let limit = batch.min(self.max.saturating_sub(u32::try_from(sent.len()).unwrap_or(u32::MAX)));
            let done = memory.store.replay_dead_letters(&filter, self.replay, self.operator, limit).await?;
            if done.is_empty() {
                return Ok(());
            }
            if !printer.is_json() {
                done.iter().for_each(|one| printer.line(&deployment(one)));
            }
            sent.extend(done);
            if self.count > u64::from(batch) {
                printer.note(&format!("{} of {}", sent.len(), self.count));
            }
        }
    }
}

fn deployment(one: &SentReplay) -> String {
    one.deployment.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

fn is_sent(verdict: ReplayVerdict, replay: Replay) -> bool {
    verdict == ReplayVerdict::Ready || (replay.force && verdict == ReplayVerdict::Superseded)
}

/// Why those that were named and not sent can't be.
async fn refusals(
    filter: &DeadLetterFilter,
    sent: &[SentReplay],
    replay: Replay,
    memory: &Database,
) -> Result<Vec<CliError>, CliError> {
    let ids: Vec<_> = filter.ids.iter().copied().filter(|id| sent.iter().all(|one| one.id != *id)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let left = DeadLetterFilter { ids, ..DeadLetterFilter::default() };
    let planned = memory.store.plan_replay(&left, LIMIT).await.map_err(|e| memory.trouble(&e))?;
    Ok(planned.iter().filter_map(|one| refusal(one, replay)).collect())
}

/// Why this one can't be sent.
pub(super) fn refusal(one: &PlannedReplay, replay: Replay) -> Option<CliError> {
    let id = one.id;
    let failed = |message: String| CliError::new(CommandExit::Failed, message);
    match one.verdict {
        verdict if is_sent(verdict, replay) => None,
        ReplayVerdict::Ready => None,
        ReplayVerdict::Withheld => Some(view::withheld(id)),
        ReplayVerdict::NotOpen => Some(
            failed(format!("dead letter {id} isn't open any more"))
                .hint(format!("`slipway dead-letters show {id}` says what became of it")),
        ),
        ReplayVerdict::Superseded => Some(
            failed(format!("dead letter {id} is superseded: its project has the newer deployment {}", newer(one)))
                .hint("--force deploys it all the same, as the newest"),
        ),
        ReplayVerdict::Expired => Some(
            failed(format!("the request of dead letter {id} has expired and would be refused"))
                .hint("have it emitted anew, or change `expires_at` with --edit"),
        ),
    }
}

fn newer(one: &PlannedReplay) -> String {
    one.newer.map_or_else(|| "-".to_owned(), |id| short_id(&id.to_string()))
}

/// What a replay would do with it.
pub(super) fn words(one: &PlannedReplay, replay: Replay) -> String {
    let resumes = one.stage.parse::<Stage>().is_ok() && !replay.from_start;
    match one.verdict {
        verdict if is_sent(verdict, replay) && resumes => format!("resumes at {}", one.stage),
        verdict if is_sent(verdict, replay) => "runs every stage".to_owned(),
        ReplayVerdict::Superseded => format!("not without --force: {} is newer", newer(one)),
        ReplayVerdict::Expired => "not: expired".to_owned(),
        ReplayVerdict::Withheld => "not: its body is withheld".to_owned(),
        ReplayVerdict::NotOpen | ReplayVerdict::Ready => format!("not: {}", one.state),
    }
}

pub(super) fn as_json(one: &PlannedReplay, replay: Replay) -> Value {
    json!({
        "id": one.id,
        "project": one.project,
        "stage": one.stage,
        "code": one.code,
        "state": one.state,
        "replayable": is_sent(one.verdict, replay),
        "verdict": one.verdict.as_str(),
        "resumes_at": one.stage.parse::<Stage>().ok().filter(|_| !replay.from_start),
        "newer_deployment": one.newer,
    })
}

async fn preview(
    filter: &DeadLetterFilter,
    replay: Replay,
    count: u64,
    counts: &[(ReplayVerdict, u64)],
    memory: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let limit = if printer.is_json() { LIMIT } else { u32::try_from(SHOWN).unwrap_or(LIMIT) };
    let planned = memory.store.plan_replay(filter, limit).await.map_err(|e| memory.trouble(&e))?;
    if printer.is_json() {
        let by_verdict: serde_json::Map<_, _> =
            counts.iter().map(|(verdict, count)| (verdict.as_str().to_owned(), json!(count))).collect();
        let letters: Vec<_> = planned.iter().map(|one| as_json(one, replay)).collect();
        printer.json(&json!({ "would_replay": count, "counts": by_verdict, "dead_letters": letters }));
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["DEPLOYMENT", "PROJECT", "STAGE", "CODE", "A REPLAY"]);
    for one in &planned {
        table.row([
            short_id(&one.id.to_string()),
            dash(one.project.as_deref()),
            one.stage.clone(),
            one.code.clone(),
            words(one, replay),
        ]);
    }
    printer.table(&table);
    let there: u64 = counts.iter().map(|(_, count)| count).sum();
    let more = there.saturating_sub(planned.len() as u64);
    if more > 0 {
        printer.note(&format!("and {more} more"));
    }
    printer.note(&format!("{count} would be sent again{}", not_sent(counts, replay)));
    let permanent = planned.iter().filter(|one| is_sent(one.verdict, replay)).filter_map(|one| one.code.parse().ok());
    if let Some(code) = permanent.into_iter().find(|code: &ErrorCode| code.class() == Class::Permanent) {
        printer.hint(&format!(
            "{code} is permanent: a replay will fail in the same way unless Slipway itself was changed, or it's edited"
        ));
    }
    Ok(CommandExit::Success)
}

/// `, 3 not: 2 superseded, 1 withheld`
fn not_sent(counts: &[(ReplayVerdict, u64)], replay: Replay) -> String {
    let left: Vec<_> = counts.iter().filter(|(verdict, _)| !is_sent(*verdict, replay)).collect();
    if left.is_empty() {
        return String::new();
    }
    let reasons: Vec<String> = left.iter().map(|(verdict, count)| format!("{count} {}", verdict.as_str())).collect();
    format!(", {} not: {}", left.iter().map(|(_, count)| count).sum::<u64>(), reasons.join(", "))
}

fn report(
    sent: &[SentReplay],
    failed: &[CliError],
    counts: &[(ReplayVerdict, u64)],
    replay: Replay,
    printer: &Printer,
) {
    if printer.is_json() {
        let row = |s: &SentReplay| json!({ "id": s.id, "replay_id": s.replay, "deployment_id": s.deployment });
        let errors: Vec<Value> = failed.iter().map(|t| json!(t.message)).collect();
        printer.json(&json!({ "replayed": sent.iter().map(row).collect::<Vec<_>>(), "errors": errors }));
    } else if !sent.is_empty() || failed.is_empty() {
        let relay = if sent.is_empty() { "" } else { "; a worker's relay publishes them" };
        printer.note(&format!("Sent {} again{}{relay}", sent.len(), not_sent(counts, replay)));
    }
    for trouble in failed {
        printer.trouble(trouble);
    }
    if let (false, Some(id)) = (printer.is_json(), sent.iter().find_map(|s| s.deployment)) {
        printer.hint(&format!("run `slipway watch {id}`"));
    }
}

/// `20` or `20/s`.
fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse::<u32>();
    number.ok().filter(|n| *n > 0).ok_or_else(|| "must be a number a second, such as 20 or 20/s".to_owned())
}
