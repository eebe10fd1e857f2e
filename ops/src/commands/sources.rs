//! `slipway sources`: which producers may ask for what. Nothing is restricted while there is no rule.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use slipway_protocol::Action;
use slipway_worker::scheduler::{Pattern, SourceScope};
use slipway_worker::store::{SourceRule, SourceRuleChange};

use crate::commands::operator::RecordArgs;
use crate::commands::submit;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::format_time;
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Sources {
    /// Allow a source something; as soon as there is one rule, what none allows is refused
    Allow(AllowSource),
    /// List the rules that hold
    List(ListRules),
    /// Take a rule back; when it was the last one, nothing is restricted any more
    Revoke(RevokeRule),
}

#[derive(Debug, Args)]
pub(crate) struct AllowSource {
    /// The `source` of its events; `*` stands for any text, here and in all patterns
    source: Pattern,

    /// The user that RabbitMQ must have checked it to be (property `user-id`); without it anybody can use this source
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Which projects, by slug
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    projects: Pattern,

    /// Which repositories, `owner/name`
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    repositories: Pattern,

    /// Which servers, by handle
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    servers: Pattern,

    /// What: deploy, stop, start, rollback, undeploy, cancel; repeatable; everything when left out
    #[arg(long = "action", value_name = "ACTION")]
    actions: Vec<Action>,

    #[command(flatten)]
    record: RecordArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ListRules {
    /// Also those that were revoked
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeRule {
    /// Its number in `slipway sources list`
    number: i64,

    #[command(flatten)]
    record: RecordArgs,
}

pub(crate) async fn run(
    command: Sources,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    match command {
        Sources::Allow(args) => allow(args, &database, printer).await,
        Sources::List(args) => {
            let rules = database.store.source_rules(args.all).await.map_err(|e| database.cli_error(&e))?;
            print_rules(&rules, printer);
            Ok(CommandExit::Success)
        }
        Sources::Revoke(RevokeRule { number, record }) => {
            let operator = record.require_reason("revoking a rule")?;
            let found = database.store.revoke_source(number, &operator).await;
            if !found.map_err(|e| database.cli_error(&e))? {
                return Err(CliError::usage(format!("no rule {number} holds"))
                    .hint("`slipway sources list` shows those that do"));
            }
            if printer.is_json() {
                printer.json(&json!({ "number": number, "done": "revoked" }));
            } else {
                printer.message(&format!("Rule {number} holds no more"));
            }
            tell_of_none(&database, printer).await?;
            Ok(CommandExit::Success)
        }
    }
}

async fn allow(args: AllowSource, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let operator = args.record.require_reason("a rule")?;
    let AllowSource { source, user, projects, repositories, servers, actions, .. } = args;
    let scope = SourceScope { source, user, projects, repositories, servers, actions };
    let number = database.store.allow_source(&scope, &operator).await;
    let number = number.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&json!({ "number": number, "done": "allowed" }));
    } else {
        printer.message(&format!("Rule {number} holds from now on; what no rule allows is refused"));
    }
    let rules = database.store.source_rules(false).await.map_err(|e| database.cli_error(&e))?;
    if !rules.iter().any(|rule| rule.scope.source.matches(submit::SOURCE)) {
        printer.hint(&format!(
            "no rule is about {0}, which `slipway submit`, `stop` and the like send as: `slipway sources allow {0} --why …`",
            submit::SOURCE
        ));
    }
    Ok(CommandExit::Success)
}

async fn tell_of_none(database: &Database, printer: &Printer) -> Result<(), CliError> {
    let rules = database.store.source_rules(false).await.map_err(|e| database.cli_error(&e))?;
    if rules.is_empty() {
        printer.hint("it was the last one: every source may ask for everything now");
    }
    Ok(())
}

fn print_rules(rules: &[SourceRule], printer: &Printer) {
    if printer.is_json() {
        return printer.json(&rules.iter().map(rule_json).collect::<Vec<_>>());
    }
    let mut table =
        Table::new(&["NUMBER", "SOURCE", "USER", "PROJECTS", "REPOSITORIES", "SERVERS", "ACTIONS", "BY", "WHY"]);
    for rule in rules {
        let scope = &rule.scope;
        let revoked =
            rule.revoked.as_ref().map(|by| format!("; revoked {} by {}: {}", format_time(by.at), by.who, by.why));
        table.row([
            rule.id.to_string(),
            scope.source.as_str().to_owned(),
            scope.user.clone().unwrap_or_else(|| "any".to_owned()),
            scope.projects.as_str().to_owned(),
            scope.repositories.as_str().to_owned(),
            scope.servers.as_str().to_owned(),
            match scope.actions.as_slice() {
                [] => "all".to_owned(),
                actions => actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", "),
            },
            rule.added.who.clone(),
            format!("{}{}", rule.added.why, revoked.unwrap_or_default()),
        ]);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.message("There is no rule: every source may ask for everything");
    }
}

fn rule_json(rule: &SourceRule) -> Value {
    let change = |change: &SourceRuleChange| json!({ "who": change.who, "why": change.why, "at": change.at });
    json!({
        "number": rule.id,
        "source": rule.scope.source.as_str(),
        "user": rule.scope.user,
        "projects": rule.scope.projects.as_str(),
        "repositories": rule.scope.repositories.as_str(),
        "servers": rule.scope.servers.as_str(),
        "actions": rule.scope.actions,
        "added": change(&rule.added),
        "revoked": rule.revoked.as_ref().map(change),
    })
}
