//! `slipway dead-letters replay ID --edit` and `--with FILE`: the event, corrected by a person, goes out as a new event
//! of the same source, whose `causationid` names the old one. It's checked as the workers check it before anything is
//! written.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use slipway_protocol::{CONTENT_TYPE, Metadata, Request, decode};
use slipway_worker::store::{DeadLetter, DeadLetterFilter, Replay, ReplayVerdict};
use uuid::Uuid;

use super::replay_args::ReplayArgs;
use super::selection;
use super::verdict::{explain_refusal, withheld_error};
use crate::commands::submit;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

pub(super) async fn run(args: &ReplayArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let [id] = args.selection.ids.as_slice() else {
        return Err(CliError::usage("one dead letter at a time can be edited").hint("give one id"));
    };
    let letter = selection::load_by_prefix(id, database).await?;
    let operator = if args.dry_run { args.operator.to_operator() } else { args.operator.require_reason("editing")? };
    require_sendable(&letter, args, database).await?;
    let edited = match &args.with {
        Some(file) => submit::read_input(file)?.1,
        None => edit_in_editor(&letter)?,
    };
    let ready = build_edited_request(&letter, &edited)
        .map_err(|error| save_edited_text(error, &letter, &edited, args.with.is_none()))?;
    let (request, body) = (&ready.request, ready.body);
    let deployment = request.deployment_id();
    let sent_json = json!({ "id": letter.id, "event_id": request.event.id, "causationid": request.event.causationid,
                       "deployment_id": deployment });
    if args.dry_run {
        if printer.is_json() {
            printer.json(&json!({ "would_replay": 1, "edited": sent_json }));
        } else {
            printer.message(&format!("Would send the edited event as {}", request.event.id));
        }
        return Ok(CommandExit::Success);
    }
    let sent = database.store.replay_edited(letter.id, request, body, args.force, &operator).await;
    if !sent.map_err(|e| database.cli_error(&e))? {
        return Err(CliError::new(
            CommandExit::Failed,
            format!("dead letter {} has changed meanwhile; nothing was sent", letter.id),
        )
        .hint(format!("`slipway dead-letters show {}` says what became of it", letter.id)));
    }
    if printer.is_json() {
        printer.json(&json!({ "replayed": [sent_json], "errors": [] }));
    } else {
        printer.line(&deployment.to_string());
        printer.message("Sent the edited event; a worker's relay publishes it");
        printer.hint(&format!("run `slipway watch {deployment}`"));
    }
    Ok(CommandExit::Success)
}

/// An edited event may be sent though the original has expired or isn't kept.
async fn require_sendable(letter: &DeadLetter, args: &ReplayArgs, database: &Database) -> Result<(), CliError> {
    let only = DeadLetterFilter { ids: vec![letter.id], ..DeadLetterFilter::default() };
    let planned = database.store.plan_replay(&only, 1).await.map_err(|e| database.cli_error(&e))?;
    let replay = Replay { from_start: true, force: args.force };
    let refused = planned.iter().find(|one| !matches!(one.verdict, ReplayVerdict::Expired | ReplayVerdict::Withheld));
    if let Some(error) = refused.and_then(|one| explain_refusal(one, replay)) {
        return Err(error);
    }
    if letter.body.is_none() && args.with.is_none() {
        return Err(withheld_error(letter.id).hint("give the whole event, without that secret, with --with FILE"));
    }
    Ok(())
}

/// A new event, as it will be published.
struct EditedRequest {
    request: Request,
    body: Vec<u8>,
}

fn build_edited_request(letter: &DeadLetter, edited: &[u8]) -> Result<EditedRequest, CliError> {
    let original = structured_event(letter);
    let value: Value = serde_json::from_slice(edited).map_err(|e| {
        CliError::usage(format!("the edited event isn't JSON (line {}, column {})", e.line(), e.column()))
    })?;
    if original.as_ref() == Some(&value) {
        return Err(
            CliError::usage("nothing was changed, and nothing was sent").hint("without --edit it's sent as it is")
        );
    }
    let Value::Object(mut event) = value else { return Err(CliError::usage("the edited event isn't a JSON object")) };
    let cause = original.as_ref().and_then(|o| o.get("id")).filter(|id| id.as_str().is_some_and(|id| !id.is_empty()));
    match cause {
        Some(id) => event.insert("causationid".to_owned(), id.clone()),
        None => event.remove("causationid"),
    };
    event.insert("id".to_owned(), Uuid::now_v7().to_string().into());
    // A person who left the time as it was gets the present time: workers might refuse the old one as too old.
    if event.get("time") == original.as_ref().and_then(|o| o.get("time")) {
        event.insert("time".to_owned(), Timestamp::now().to_string().into());
    }
    let body = serde_json::to_vec(&Value::Object(event))
        .map_err(|e| CliError::usage(format!("the edited event can't be written: {e}")))?;
    let metadata = Metadata { content_type: Some(CONTENT_TYPE.to_owned()), ..Metadata::default() };
    let request = decode(&body, &metadata).map_err(|rejection| {
        CliError::usage(format!("the workers would refuse the edited event: {}", rejection.message))
            .hint(rejection.code.next_action())
    })?;
    if request.event.data.expires_at.is_some_and(|expiry| expiry <= Timestamp::now()) {
        return Err(CliError::usage("the workers would refuse the edited event: /data/expires_at is over"));
    }
    Ok(EditedRequest { request, body })
}

/// The event as one JSON object, whether it came structured or with attributes as headers. `None` when the body isn't
/// JSON, or isn't kept.
fn structured_event(letter: &DeadLetter) -> Option<Value> {
    let body: Value = serde_json::from_slice(letter.body.as_deref()?).ok()?;
    Some(with_attributes(body, letter.content_type.as_deref(), &letter.headers))
}

/// The mode is told apart as the workers do it.
fn with_attributes(body: Value, content_type: Option<&str>, headers: &BTreeMap<String, String>) -> Value {
    let attribute = |(name, value): (&String, &String)| {
        let name = ["cloudEvents_", "cloudEvents:", "ce-"].iter().find_map(|prefix| name.strip_prefix(prefix))?;
        Some((name.to_ascii_lowercase(), Value::from(value.as_str())))
    };
    let mut attributes: Map<String, Value> = headers.iter().filter_map(attribute).collect();
    let structured = match content_type.filter(|told| !told.trim().is_empty()) {
        Some(told) => told.starts_with(CONTENT_TYPE),
        None => body.get("specversion").is_some(),
    };
    if structured || !attributes.contains_key("specversion") {
        return body;
    }
    attributes.insert("data".to_owned(), body);
    Value::Object(attributes)
}

fn edit_in_editor(letter: &DeadLetter) -> Result<Vec<u8>, CliError> {
    let text = match structured_event(letter) {
        Some(event) => serde_json::to_string_pretty(&event).unwrap_or_default(),
        None => String::from_utf8_lossy(letter.body.as_deref().unwrap_or_default()).into_owned(),
    };
    let file = write_private_file(letter.id, text.as_bytes())?;
    let edited = run_editor(&file).and_then(|()| Ok(submit::read_input(&file)?.1));
    remove_private_file(&file);
    edited
}

/// Runs the editor as git does: it may have arguments of its own.
fn run_editor(file: &Path) -> Result<(), CliError> {
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|e| !e.trim().is_empty()));
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    let status = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(CliError::usage(format!("the editor `{editor}` ended with {status}; nothing was sent"))),
        Err(error) => Err(CliError::usage(format!("the editor can't be started: {error}"))
            .hint("set EDITOR, or give the edited event with --with FILE")),
    }
}

/// The file can be read by its owner only, because an event holds values of variables.
fn write_private_file(id: Uuid, content: &[u8]) -> Result<PathBuf, CliError> {
    let dir = std::env::temp_dir().join(format!("slipway-edit-{}", Uuid::new_v4()));
    let file = dir.join(format!("{id}.json"));
    let made = DirBuilder::new()
        .mode(0o700)
        .create(&dir)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file)?.write_all(content));
    made.map_err(|e| CliError::new(CommandExit::Failed, format!("{} can't be written: {e}", file.display())))?;
    Ok(file)
}

fn remove_private_file(file: &Path) {
    let _ = std::fs::remove_file(file);
    if let Some(dir) = file.parent() {
        let _ = std::fs::remove_dir(dir);
    }
}

/// Saves the text that somebody typed when it is refused, so that a mistake doesn't cost the whole text.
fn save_edited_text(error: CliError, letter: &DeadLetter, edited: &[u8], typed: bool) -> CliError {
    if !typed || serde_json::from_slice::<Value>(edited).ok() == structured_event(letter) {
        return error;
    }
    match write_private_file(letter.id, edited) {
        Ok(file) => {
            let details = vec![format!("the edited text is kept in {}", file.display())];
            error.details(details).hint("correct it there, and give it with --with FILE")
        }
        Err(_) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_whole_whether_its_attributes_came_as_headers_or_in_the_body() {
        let headers = [("cloudEvents:specversion", "1.0"), ("cloudEvents:id", "1")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let data = json!({ "project": 1 });
        let event = json!({ "specversion": "1.0", "id": "1", "data": data });
        for (body, content_type) in [
            (&data, None),
            (&data, Some("")),
            (&data, Some("application/json")),
            (&event, None),
            (&event, Some("application/cloudevents+json; charset=utf-8")),
        ] {
            assert_eq!(with_attributes(body.clone(), content_type, &headers), event, "{content_type:?}");
        }
    }
}
