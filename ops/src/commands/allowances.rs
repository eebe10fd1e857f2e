//! `allow`, `revoke` and `allowances` of `slipway servers` and `slipway projects`: what operators allow beyond what every
//! project gets. Whom it's for is given by those two.

use clap::Args;
use serde_json::json;
use slipway_deploy::Allowance;
use slipway_protocol::names::Slug;
use slipway_protocol::{Project, ProjectId};
use slipway_worker::store::{AllowanceScope, RecordedAllowance};
use uuid::Uuid;

use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_time, text_or_dash};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Args)]
pub(crate) struct AllowanceArgs {
    /// `privileged`, `network:host`, `pid:host`, `ipc:host`, `cap:NAME`, `device:/dev/…`, `bind:/PATH`, `bind:/PATH:ro`, `port:NUMBER`,
    /// `external-volume:NAME`, `external-network:NAME`, `sysctl:NAME` or `image:REGISTRY/OWNER/NAME`
    allowance: Allowance,

    #[command(flatten)]
    operator: RecordArgs,
}

/// Whose allowances they are: the one project of that slug or, where there are several or none yet, the one with `id`.
pub(crate) async fn project_scope(
    slug: Slug,
    id: Option<Uuid>,
    database: &Database,
) -> Result<AllowanceScope, CliError> {
    if let Some(id) = id {
        return Ok(AllowanceScope::Project(Project { id: ProjectId(id), slug }));
    }
    let found = database.store.projects_called(&slug).await.map_err(|e| database.cli_error(&e))?;
    match &found[..] {
        [project] => Ok(AllowanceScope::Project(project.clone())),
        [] => Err(CliError::usage(format!("no project {slug} was ever requested"))
            .hint("allow it once its first deployment was refused, or give its id with --id")),
        several => {
            let ids = several.iter().map(|project| project.id.0.to_string()).collect();
            Err(CliError::usage(format!("several projects are or were called {slug}"))
                .details(ids)
                .hint("say which one with --id"))
        }
    }
}

/// Allows it from the next deployment on.
pub(crate) async fn allow(
    scope: AllowanceScope,
    args: AllowanceArgs,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let operator = args.operator.require_reason("an allowance")?;
    let added = database.store.allow(&scope, &args.allowance, &operator).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&json!({ "allowance": args.allowance.to_string(), "changed": added }));
    } else if added {
        printer.message(&format!("Allowed {} {}", describe(&scope), args.allowance));
        printer.hint("it counts from the next deployment on; one that was refused can be replayed");
    } else {
        printer.message(&format!("{} has been allowed {} already", capitalised(&scope), args.allowance));
    }
    Ok(CommandExit::Success)
}

/// Takes it back from the next deployment on.
pub(crate) async fn revoke(
    scope: AllowanceScope,
    args: AllowanceArgs,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let operator = args.operator.require_reason("taking an allowance back")?;
    let revoked = database.store.revoke_allowance(&scope, &args.allowance, &operator).await;
    if !revoked.map_err(|e| database.cli_error(&e))? {
        return Err(CliError::usage(format!("{} isn't allowed {}", describe(&scope), args.allowance))
            .hint("the command `allowances` beside this one lists what is allowed"));
    }
    if printer.is_json() {
        printer.json(&json!({ "allowance": args.allowance.to_string(), "changed": true }));
    } else {
        printer.message(&format!("Took {} back from {}", args.allowance, describe(&scope)));
        printer.hint("what runs goes on as it is; the next deployment is refused if it still asks for it");
    }
    Ok(CommandExit::Success)
}

/// Lists all that was ever allowed.
pub(crate) async fn list(
    scope: &AllowanceScope,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let found = database.store.recorded_allowances(scope).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&found.iter().map(allowance_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["ALLOWANCE", "SINCE", "BY", "WHY", "TAKEN BACK"]);
    for RecordedAllowance { allowance, operator, at, revoked } in &found {
        let revoked = revoked.as_ref().map(|(by, at)| {
            let why = by.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("{} by {}{why}", format_time(*at), by.who)
        });
        table.row([
            allowance.clone(),
            format_time(*at),
            operator.who.clone(),
            text_or_dash(operator.why.as_deref()),
            text_or_dash(revoked.as_deref()),
        ]);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.message(&format!("{} was never allowed anything", capitalised(scope)));
    }
    Ok(CommandExit::Success)
}

fn allowance_json(recorded: &RecordedAllowance) -> serde_json::Value {
    let RecordedAllowance { allowance, operator, at, revoked } = recorded;
    let revoked = revoked.as_ref().map(|(by, at)| json!({ "who": by.who, "why": by.why, "at": at }));
    json!({ "allowance": allowance, "who": operator.who, "why": operator.why, "at": at, "revoked": revoked })
}

fn describe(scope: &AllowanceScope) -> String {
    match scope {
        AllowanceScope::Server(handle) => format!("every project on {handle}"),
        AllowanceScope::Project(project) => format!("project {}", project.slug),
    }
}

fn capitalised(scope: &AllowanceScope) -> String {
    let text = describe(scope);
    text[..1].to_ascii_uppercase() + &text[1..]
}
