//! `slipway servers add`: adds a server to the inventory, or changes what is given of one that is known.

use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use slipway_deploy::secrets::keys;
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName};
use slipway_worker::store::ServerRecord;

use super::json::server_json;
use super::twins::{find_twins, twins_hint};
use crate::commands::arguments::parse_port;
use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct AddServer {
    /// The server's name, such as vps-267179
    handle: ServerHandle,

    /// Where it answers; required for a new server
    #[arg(long, value_name = "HOST")]
    address: Option<Host>,

    /// SSH port [default: 22]
    #[arg(long, value_name = "PORT", value_parser = parse_port)]
    port: Option<Port>,

    /// SSH user [default: root]
    #[arg(long, value_name = "USER")]
    user: Option<UserName>,

    /// The host key to pin, as `ssh-keyscan` prints it without the host: "ssh-ed25519 AAAA…"
    #[arg(long, value_name = "KEY", conflicts_with = "trust_on_first_use")]
    host_key: Option<HostKey>,

    /// Pin whatever host key the server shows first
    #[arg(long)]
    trust_on_first_use: bool,

    /// The private SSH key for this server; it's stored encrypted. Without it the workers' own key is used
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,

    /// The age recipient to encrypt the key to, as `slipway keys generate age` printed it
    #[arg(long, value_name = "age1…", requires = "key_file")]
    recipient: Option<String>,

    /// The workers' age identity, from which the recipient is taken
    #[arg(long, value_name = "FILE", env = "SLIPWAY_AGE_IDENTITY_FILE", hide_env_values = true)]
    age_identity_file: Option<PathBuf>,

    /// Something to remember about it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,

    /// Whether it has a front door; default: as the workers' SLIPWAY_FRONT_DOOR says
    #[arg(long, value_name = "on|off|default", value_parser = parse_choice)]
    front_door: Option<FrontDoorChoice>,

    #[command(flatten)]
    record: RecordArgs,
}

/// What is said of a server's front door; nothing: as all have it.
#[derive(Debug, Clone, Copy)]
struct FrontDoorChoice(Option<bool>);

fn parse_choice(text: &str) -> Result<FrontDoorChoice, &'static str> {
    match text {
        "on" => Ok(FrontDoorChoice(Some(true))),
        "off" => Ok(FrontDoorChoice(Some(false))),
        "default" => Ok(FrontDoorChoice(None)),
        _ => Err("must be on, off or default"),
    }
}

pub(super) async fn run(args: AddServer, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let key = args.key_file.as_deref().map(|file| encrypt_key_file(file, &args)).transpose()?;
    let known = database.store.server(&args.handle).await.map_err(|e| database.cli_error(&e))?;
    let is_new = known.is_none();
    let operator = args.record.to_operator();
    let record = merge(args, known, key)?;
    database.store.put_server(&record, &operator).await.map_err(|e| database.cli_error(&e))?;
    let all = database.store.servers().await.map_err(|e| database.cli_error(&e))?;
    let twins = find_twins(&record, &all);
    if printer.is_json() {
        let mut value = server_json(&record);
        value["same_machine_as"] = json!(twins);
        printer.json(&value);
    } else {
        printer.message(&format!("{} {}", if is_new { "Added" } else { "Changed" }, record.handle));
    }
    if let Some(hint) = twins_hint(&record.handle, &twins) {
        printer.hint(&hint);
    }
    if record.host_key.is_none() && !record.trust_on_first_use {
        printer.hint(&format!(
            "no deployment will reach {0} before its host key is known: compare the output of `ssh-keyscan {1}` with the \
             server's own, then give it with `slipway servers add {0} --host-key`",
            record.handle, record.address
        ));
    }
    Ok(CommandExit::Success)
}

/// What is given, over what is known.
fn merge(args: AddServer, known: Option<ServerRecord>, key: Option<String>) -> Result<ServerRecord, CliError> {
    let fixed = |e: slipway_protocol::names::InvalidName| CliError::new(CommandExit::Failed, e.to_string());
    let mut record = match (known, &args.address) {
        (Some(known), _) => known,
        (None, Some(address)) => ServerRecord {
            handle: args.handle,
            address: address.clone(),
            ssh_port: Port::new(22).map_err(fixed)?,
            ssh_user: UserName::new("root").map_err(fixed)?,
            host_key: None,
            trust_on_first_use: false,
            ssh_key_enc: None,
            notes: None,
            front_door: None,
        },
        (None, None) => {
            return Err(CliError::usage(format!("{} isn't in the inventory yet", args.handle))
                .hint("give its address too: --address HOST"));
        }
    };
    record.address = args.address.unwrap_or(record.address);
    record.ssh_port = args.port.unwrap_or(record.ssh_port);
    record.ssh_user = args.user.unwrap_or(record.ssh_user);
    record.ssh_key_enc = key.or(record.ssh_key_enc);
    record.notes = args.note.or(record.notes);
    record.front_door = args.front_door.map_or(record.front_door, |choice| choice.0);
    if args.host_key.is_some() {
        (record.host_key, record.trust_on_first_use) = (args.host_key, false);
    } else if args.trust_on_first_use {
        // For a server whose key is pinned this means that it was reinstalled: its new key is learned.
        (record.host_key, record.trust_on_first_use) = (None, true);
    }
    Ok(record)
}

/// The private key of `file`, encrypted to the recipient that was given, or else to the workers' identity.
fn encrypt_key_file(file: &Path, args: &AddServer) -> Result<String, CliError> {
    let text = std::fs::read_to_string(file)
        .map_err(|e| CliError::usage(format!("--key-file {} can't be read: {e}", file.display())))?;
    let key = SecretString::from(text);
    let encrypt = |recipient: &str| {
        keys::encrypt_ssh_key(&key, recipient)
            .map_err(|e| CliError::usage(format!("--key-file {}: {}", file.display(), e.message)))
    };
    if let Some(recipient) = &args.recipient {
        return encrypt(recipient);
    }
    let Some(identity) = &args.age_identity_file else {
        return Err(CliError::usage("--key-file needs an age recipient to encrypt the key to")
            .hint("give --recipient age1…, or set SLIPWAY_AGE_IDENTITY_FILE"));
    };
    let armored = encrypt(&read_recipient(identity)?)?;
    // The recipient comes from a comment in the file, which may be wrong. Decrypting the key proves that it is right.
    let opened = keys::decrypt_ssh_key(&armored, identity).map_err(|e| CliError::usage(e.message))?;
    if opened.expose_secret() == key.expose_secret() {
        Ok(armored)
    } else {
        Err(CliError::new(CommandExit::Failed, format!("{}: the key doesn't come out as it went in", file.display())))
    }
}

/// The recipient that age-keygen, and `slipway keys generate age`, note in an identity file.
fn read_recipient(identity: &Path) -> Result<String, CliError> {
    let refuse = |why: String| {
        CliError::usage(format!("the age identity file {} {why}", identity.display())).hint("give --recipient age1…")
    };
    let text =
        SecretString::from(std::fs::read_to_string(identity).map_err(|e| refuse(format!("can't be read: {e}")))?);
    let recipient = text.expose_secret().lines().find_map(|line| line.trim().strip_prefix("# public key:"));
    recipient.map(|r| r.trim().to_owned()).ok_or_else(|| refuse("doesn't note its public key".to_owned()))
}
