//! `slipway projects owners`: whose a slug on a server is, whose CI secrets a repository holds, and whose a domain is. It only reads.

use clap::Args;
use serde_json::{Value, json};
use slipway_worker::store::{Owned, OwnedThing};

use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_time, text_or_dash};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Args)]
pub(crate) struct OwnersArgs {
    /// Only those whose slug, server, repository, domain or project id holds this text
    #[arg(value_name = "TEXT")]
    text: Option<String>,
}

pub(super) async fn run(args: &OwnersArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let owned = database.store.owned().await.map_err(|e| database.cli_error(&e))?;
    let fits = |owned: &&Owned| {
        let text = format!("{} {}", name(&owned.thing), owned.project);
        args.text.as_ref().is_none_or(|wanted| text.contains(wanted.as_str()))
    };
    let owned: Vec<&Owned> = owned.iter().filter(fits).collect();
    if printer.is_json() {
        printer.json(&owned.iter().map(|owned| owned_json(owned)).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["WHAT", "PROJECT", "SINCE", "DEPLOYED", "HANDED OVER FROM"]);
    for owned in &owned {
        let former = owned.former.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        table.row([
            name(&owned.thing),
            owned.project.to_string(),
            format_time(owned.since),
            deployed(owned).to_owned(),
            text_or_dash(Some(former.as_str()).filter(|former| !former.is_empty())),
        ]);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.message("Nothing belongs to a project");
    }
    Ok(CommandExit::Success)
}

fn name(thing: &OwnedThing) -> String {
    match thing {
        OwnedThing::Slug { slug, server } => format!("{slug} on {server}"),
        OwnedThing::Repository(repository) => format!("CI of {repository}"),
        OwnedThing::Domain { domain, slug, server } => format!("{domain} ({slug} on {server})"),
    }
}

fn deployed(owned: &Owned) -> &'static str {
    match (owned.deployed, owned.proven) {
        (true, _) => "yes",
        (false, true) => "no longer",
        (false, false) => "not yet",
    }
}

fn owned_json(owned: &Owned) -> Value {
    let mut value = json!({
        "project_id": owned.project,
        "since": owned.since,
        "proven": owned.proven,
        "deployed": owned.deployed,
        "handed_over_from": owned.former,
    });
    match &owned.thing {
        OwnedThing::Slug { slug, server } => {
            value["slug"] = json!(slug);
            value["server"] = json!(server);
        }
        OwnedThing::Repository(repository) => value["repository"] = json!(repository),
        OwnedThing::Domain { domain, slug, server } => {
            value["domain"] = json!(domain);
            value["slug"] = json!(slug);
            value["server"] = json!(server);
        }
    }
    value
}
