//! `slipway dead-letters replay`: sends the very bytes again, under a replay id, so that it's a deployment of its own.
//! The database does it in batches; of the messages nothing comes here but their ids. What was sent isn't sent twice,
//! so that an interrupted command is simply given again.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_protocol::{Class, ErrorCode};
use slipway_worker::store::{DeadLetterFilter, DeadLetterState, Operator, Replay, SentReplay, StoreError};

use super::consent::{BulkConsent, require_consent};
use super::outlook::Outlook;
use super::replay_args::{LIMIT, ReplayArgs};
use super::verdict::{describe_replay, explain_refusal, would_be_sent};
use super::{edit, json};
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{short_id, text_or_dash};
use crate::terminal::print::{Printer, Table};

/// Dead letters that are sent in one transaction.
const BATCH: u32 = 500;
/// Dead letters that a dry run shows one by one to a person.
const SHOWN: usize = 50;

pub(super) async fn run(args: ReplayArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    if args.edit || args.with.is_some() {
        return edit::run(&args, database, printer).await;
    }
    let filter = args.selection.resolve(Some(DeadLetterState::Open), database).await?;
    let replay = Replay { from_start: args.from_start, force: args.force };
    let outlook = Outlook::of(&filter, replay, args.limit, database).await?;
    if args.dry_run {
        print_preview(&outlook, replay, printer);
        return Ok(CommandExit::Success);
    }
    let operator = if args.force { args.operator.require_reason("forcing")? } else { args.operator.to_operator() };
    let mut sent = Vec::new();
    let mut failure = None;
    if !outlook.is_hopeless() {
        let token = require_consent(&filter, args.yes, "Replay", &outlook.how_many(), printer)?;
        let (max, rate, outlook) = (args.limit, args.rate, &outlook);
        let sending = ReplayRun { filter: &filter, replay, operator: &operator, max, rate, outlook };
        failure = sending.run(&mut sent, &token, database, printer).await.err();
    }
    let failed = if failure.is_some() { Vec::new() } else { find_refusals(&filter, &sent, replay, database).await? };
    print_report(&sent, &failed, &outlook, printer);
    if let Some(error) = failure {
        return Err(database.cli_error(&error).hint("give the same command again: what was sent isn't sent twice"));
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
    /// What was looked at before the first one was sent.
    outlook: &'a Outlook,
}

impl ReplayRun<'_> {
    async fn run(
        &self,
        sent: &mut Vec<SentReplay>,
        _: &BulkConsent,
        database: &Database,
        printer: &Printer,
    ) -> Result<(), StoreError> {
        let begun = database.store.clock().await?;
        // A dead letter that fails again while this runs isn't sent a second time, or it might never end.
        let until = Some(self.filter.until.map_or(begun, |until| until.min(begun)));
        let mut filter = DeadLetterFilter { until, ..self.filter.clone() };
        let batch = self.rate.map_or(BATCH, |rate| rate.min(BATCH));
        let pause = self.rate.map(|rate| Duration::from_secs_f64(f64::from(batch) / f64::from(rate)));
        let mut ticks = tokio::time::interval(pause.unwrap_or(Duration::from_millis(1)));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let limit = batch.min(self.max.saturating_sub(u32::try_from(sent.len()).unwrap_or(u32::MAX)));
            let done = database.store.replay_dead_letters(&filter, self.replay, self.operator, limit).await?;
            let Some(last) = done.last() else { return Ok(()) };
            filter.after = Some((last.failed_at, last.id));
            if !printer.is_json() {
                done.iter().for_each(|one| printer.line(&deployment_id_or_dash(one)));
            }
            sent.extend(done);
            if self.outlook.count > u64::from(batch) {
                printer.message(&self.outlook.progress(sent.len()));
            }
        }
    }
}

fn deployment_id_or_dash(one: &SentReplay) -> String {
    one.deployment.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// The errors for dead letters that were named and were not sent.
async fn find_refusals(
    filter: &DeadLetterFilter,
    sent: &[SentReplay],
    replay: Replay,
    database: &Database,
) -> Result<Vec<CliError>, CliError> {
    let ids: Vec<_> = filter.ids.iter().copied().filter(|id| sent.iter().all(|one| one.id != *id)).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let left = DeadLetterFilter { ids, ..DeadLetterFilter::default() };
    let planned = database.store.plan_replay(&left, LIMIT).await.map_err(|e| database.cli_error(&e))?;
    Ok(planned.iter().filter_map(|one| explain_refusal(one, replay)).collect())
}

fn print_preview(outlook: &Outlook, replay: Replay, printer: &Printer) {
    if printer.is_json() {
        let by_verdict: serde_json::Map<_, _> =
            outlook.counts.iter().map(|(verdict, count)| (verdict.as_str().to_owned(), json!(count))).collect();
        let letters: Vec<_> = outlook.letters.iter().map(|one| json::replay_json(one, replay)).collect();
        let (count, more) = (outlook.count, !outlook.is_whole);
        printer.json(&json!({ "would_replay": count, "counts": by_verdict, "more": more, "dead_letters": letters }));
        return;
    }
    let mut table = Table::new(&["DEPLOYMENT", "PROJECT", "STAGE", "CODE", "A REPLAY"]);
    let shown = || outlook.letters.iter().take(SHOWN);
    for one in shown() {
        table.row([
            short_id(&one.id.to_string()),
            text_or_dash(one.project.as_deref()),
            one.stage.clone(),
            one.code.clone(),
            describe_replay(one, replay),
        ]);
    }
    printer.table(&table);
    let (hidden, more) = (outlook.letters.len().saturating_sub(SHOWN), !outlook.is_whole);
    if hidden > 0 || more {
        printer.message(&format!("and {}{hidden} more", if more { "more than " } else { "" }));
    }
    printer.message(&format!("{} would be sent again{}", outlook.how_many(), outlook.describe_unsent()));
    let permanent = shown().filter(|one| would_be_sent(one.verdict, replay)).filter_map(|one| one.code.parse().ok());
    if let Some(code) = permanent.into_iter().find(|code: &ErrorCode| code.class() == Class::Permanent) {
        printer.hint(&format!(
            "{code} is permanent: a replay will fail in the same way unless Slipway itself was changed, or it's edited"
        ));
    }
}

fn print_report(sent: &[SentReplay], failed: &[CliError], outlook: &Outlook, printer: &Printer) {
    if printer.is_json() {
        let row = |s: &SentReplay| json!({ "id": s.id, "replay_id": s.replay, "deployment_id": s.deployment });
        let errors: Vec<Value> = failed.iter().map(|t| json!(t.message)).collect();
        printer.json(&json!({ "replayed": sent.iter().map(row).collect::<Vec<_>>(), "errors": errors }));
    } else if !sent.is_empty() || failed.is_empty() {
        let relay = if sent.is_empty() { "" } else { "; a worker's relay publishes them" };
        printer.message(&format!("Sent {} again{}{relay}", sent.len(), outlook.describe_unsent()));
    }
    for error in failed {
        printer.error(error);
    }
    if let (false, Some(id)) = (printer.is_json(), sent.iter().find_map(|s| s.deployment)) {
        printer.hint(&format!("run `slipway watch {id}`"));
    }
}
