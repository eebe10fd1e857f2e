//! `slipway servers`: the inventory of servers. What is known there wins over what an event says.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use slipway_deploy::secrets::keys;
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName};
use slipway_worker::scheduler::{Circuit, CircuitState};
use slipway_worker::store::ServerRecord;

use crate::check::{self, CheckArgs};
use crate::memory::Database;
use crate::print::{Printer, Table};
use crate::settings::ConnectionSettings;
use crate::submit::port;
use crate::trouble::{CliError, CommandExit};
use crate::watch::line::clock;

#[derive(Debug, Subcommand)]
pub(crate) enum Servers {
    /// Add a server, or change what is given of one that is known
    Add(Box<AddServer>),
    /// List the servers
    List,
    /// Connect to a server as the workers do, and show whether it's fit
    Check(Box<CheckArgs>),
    /// Take a server out of the inventory; what runs on it stays
    Remove {
        /// The server's name
        handle: ServerHandle,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddServer {
    /// The server's name, such as vps-267179
    handle: ServerHandle,

    /// Where it answers; required for a new server
    #[arg(long, value_name = "HOST")]
    address: Option<Host>,

    /// SSH port [default: 22]
    #[arg(long, value_name = "PORT", value_parser = port)]
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
}

pub(crate) async fn run(
    command: Servers,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let memory = Database::new(settings)?;
    match command {
        Servers::Add(args) => add(*args, &memory, printer).await,
        Servers::List => list(&memory, printer).await,
        Servers::Check(args) => check::run(*args, &memory, printer).await,
        Servers::Remove { handle } => remove(&handle, &memory, printer).await,
    }
}

async fn add(args: AddServer, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let key = args.key_file.as_deref().map(|file| encrypted(file, &args)).transpose()?;
    let known = memory.store.server(&args.handle).await.map_err(|e| memory.trouble(&e))?;
    let is_new = known.is_none();
    let record = merged(args, known, key)?;
    memory.store.put_server(&record).await.map_err(|e| memory.trouble(&e))?;
    if printer.is_json() {
        printer.json(&as_json(&record));
    } else {
        printer.note(&format!("{} {}", if is_new { "Added" } else { "Changed" }, record.handle));
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
fn merged(args: AddServer, known: Option<ServerRecord>, key: Option<String>) -> Result<ServerRecord, CliError> {
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
    if args.host_key.is_some() {
        (record.host_key, record.trust_on_first_use) = (args.host_key, false);
    } else if args.trust_on_first_use {
        // Said about a server whose key is pinned, this means: it was reinstalled, learn its key anew.
        (record.host_key, record.trust_on_first_use) = (None, true);
    }
    Ok(record)
}

/// The private key of `file`, encrypted to the recipient that was given, or else to the workers' identity.
fn encrypted(file: &Path, args: &AddServer) -> Result<String, CliError> {
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
    let armored = encrypt(&recipient_of(identity)?)?;
    // The recipient is read from a comment, which may lie: proven by opening it.
    let opened = keys::decrypt_ssh_key(&armored, identity).map_err(|e| CliError::usage(e.message))?;
    if opened.expose_secret() == key.expose_secret() {
        Ok(armored)
    } else {
        Err(CliError::new(CommandExit::Failed, format!("{}: the key doesn't come out as it went in", file.display())))
    }
}

/// The recipient that age-keygen, and `slipway keys generate age`, note in an identity file.
fn recipient_of(identity: &Path) -> Result<String, CliError> {
    let refuse = |why: String| {
        CliError::usage(format!("the age identity file {} {why}", identity.display())).hint("give --recipient age1…")
    };
    let text =
        SecretString::from(std::fs::read_to_string(identity).map_err(|e| refuse(format!("can't be read: {e}")))?);
    let noted = text.expose_secret().lines().find_map(|line| line.trim().strip_prefix("# public key:"));
    noted.map(|r| r.trim().to_owned()).ok_or_else(|| refuse("doesn't note its public key".to_owned()))
}

async fn list(memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let servers = memory.store.servers().await.map_err(|e| memory.trouble(&e))?;
    let circuits = memory.store.circuits().await.map_err(|e| memory.trouble(&e))?;
    if printer.is_json() {
        let with_circuit = |server: &ServerRecord| {
            let mut value = as_json(server);
            value["circuit"] = circuits.get(&server.handle).map_or(Value::Null, circuit_json);
            value
        };
        printer.json(&servers.iter().map(with_circuit).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["SERVER", "ADDRESS", "PORT", "USER", "HOST KEY", "SSH KEY", "CONNECTION", "NOTE"]);
    for s in &servers {
        table.row([
            s.handle.to_string(),
            s.address.to_string(),
            s.ssh_port.to_string(),
            s.ssh_user.to_string(),
            host_key(s).to_owned(),
            ssh_key(s).to_owned(),
            connection(circuits.get(&s.handle)),
            s.notes.clone().unwrap_or_default(),
        ]);
    }
    printer.table(&table);
    // A server that only events describe can be out of reach, too.
    for (handle, circuit) in circuits.iter().filter(|(handle, _)| servers.iter().all(|s| s.handle != **handle)) {
        printer.note(&format!("{handle}, which isn't in the inventory: {}", connection(Some(circuit))));
    }
    if circuits.values().any(|(_, gate)| *gate != CircuitState::Closed) {
        printer.hint(
            "deployments wait for a server that fails, and one at a time tries to connect; `slipway servers check` tries \
             at once, and `slipway servers add` lets all through again",
        );
    }
    if table.is_empty() {
        printer.note("The inventory is empty");
        printer.hint("add a server with `slipway servers add HANDLE --address HOST --host-key KEY`");
    }
    Ok(CommandExit::Success)
}

async fn remove(handle: &ServerHandle, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    if !memory.store.remove_server(handle).await.map_err(|e| memory.trouble(&e))? {
        return Err(CliError::usage(format!("{handle} isn't in the inventory")).hint("`slipway servers list` shows it"));
    }
    if printer.is_json() {
        printer.json(&json!({ "handle": handle, "removed": true }));
    } else {
        printer.note(&format!("Removed {handle} from the inventory; what runs on it stays"));
    }
    Ok(CommandExit::Success)
}

fn host_key(server: &ServerRecord) -> &'static str {
    match (&server.host_key, server.trust_on_first_use) {
        (Some(_), _) => "pinned",
        (None, true) => "trusted on first use",
        (None, false) => "unknown",
    }
}

fn ssh_key(server: &ServerRecord) -> &'static str {
    if server.ssh_key_enc.is_some() { "its own" } else { "the workers'" }
}

/// How the last connections went.
fn connection(circuit: Option<&(Circuit, CircuitState)>) -> String {
    match circuit {
        None => "-".to_owned(),
        Some((circuit, CircuitState::Closed)) => format!("{} failed", circuit.failures),
        Some((circuit, CircuitState::Open(until))) => {
            format!("{} failed, none before {}", circuit.failures, clock(*until))
        }
        Some((circuit, CircuitState::HalfOpen)) => format!("{} failed, one may try", circuit.failures),
    }
}

fn circuit_json((circuit, gate): &(Circuit, CircuitState)) -> Value {
    let state = match gate {
        CircuitState::Closed => "closed",
        CircuitState::Open(_) => "open",
        CircuitState::HalfOpen => "half_open",
    };
    json!({
        "state": state,
        "failures": circuit.failures,
        "since": circuit.since,
        "open_until": circuit.open_until,
    })
}

/// A server without its private key, not even the encrypted one.
fn as_json(server: &ServerRecord) -> Value {
    json!({
        "handle": server.handle,
        "address": server.address,
        "ssh_port": server.ssh_port,
        "ssh_user": server.ssh_user,
        "host_key": server.host_key,
        "trust_on_first_use": server.trust_on_first_use,
        "has_own_ssh_key": server.ssh_key_enc.is_some(),
        "note": server.notes,
    })
}
