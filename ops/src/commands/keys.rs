//! `slipway keys`: makes the keys that secrets are sealed to and that servers' SSH keys are encrypted to. Private
//! halves go into files that only their owner can read, and never to the terminal. The cryptography is `deploy`'s.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use slipway_deploy::secrets::{keys, seal};

use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Make a key; a file that exists is never overwritten
    #[command(subcommand)]
    Generate(Generate),
    /// Print the public keys that producers seal secrets to, as KEY_ID:PUBLIC
    Public(Public),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Generate {
    /// A key that producers seal secrets to (X25519)
    Sealing(Sealing),
    /// An age identity that servers' SSH keys are encrypted to
    Age(AgeArgs),
}

#[derive(Debug, Args)]
pub(crate) struct Sealing {
    /// Name of the key, such as the month: 2026-11
    #[arg(long, value_name = "ID")]
    key_id: String,

    /// Directory for the private key, ID.key; the workers' SLIPWAY_SEALING_KEYS_DIR
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct AgeArgs {
    /// File for the identity; the workers' SLIPWAY_AGE_IDENTITY_FILE
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Public {
    /// Directory of the private keys
    #[arg(long, value_name = "DIR", env = "SLIPWAY_SEALING_KEYS_DIR", hide_env_values = true)]
    dir: PathBuf,
}

pub(crate) fn run(command: &Keys, printer: &Printer) -> Result<CommandExit, CliError> {
    match command {
        Keys::Generate(Generate::Sealing(args)) => generate_sealing(args, printer),
        Keys::Generate(Generate::Age(args)) => generate_age(args, printer),
        Keys::Public(args) => print_public(args, printer),
    }?;
    Ok(CommandExit::Success)
}

fn generate_sealing(args: &Sealing, printer: &Printer) -> Result<(), CliError> {
    let id = &args.key_id;
    let (private, public) = seal::generate(id).map_err(|e| CliError::usage(format!("--key-id: {e}")))?;
    create_private_directory(&args.out)?;
    let file = args.out.join(format!("{id}.key"));
    write_private(&file, &private)?;
    if printer.is_json() {
        printer.json(&json!({ "key_id": id, "public_key": public, "file": file }));
        return Ok(());
    }
    printer.line(&format!("{id}:{public}"));
    printer.message(&format!("Wrote the private key to {}", file.display()));
    printer
        .hint("give the workers the file and producers the line; keep older keys until nothing sealed to them is left");
    Ok(())
}

fn generate_age(args: &AgeArgs, printer: &Printer) -> Result<(), CliError> {
    let made = keys::AgeIdentity::generate();
    let text = format!("# public key: {}\n{}\n", made.recipient, made.identity.expose_secret());
    write_private(&args.out, &SecretString::from(text))?;
    if printer.is_json() {
        printer.json(&json!({ "recipient": made.recipient, "file": args.out }));
        return Ok(());
    }
    printer.line(&made.recipient);
    printer.message(&format!("Wrote the identity to {}", args.out.display()));
    printer.hint("encrypt a server's SSH key with `slipway servers add --key-file FILE --recipient` and this line");
    Ok(())
}

fn print_public(args: &Public, printer: &Printer) -> Result<(), CliError> {
    let ring = seal::KeyRing::load(&args.dir).map_err(|e| CliError::usage(e.to_string()))?;
    let keys = ring.public_keys();
    if printer.is_json() {
        printer.json(&keys);
        return Ok(());
    }
    for (id, public) in keys {
        printer.line(&format!("{id}:{public}"));
    }
    Ok(())
}

/// Makes a directory for its owner alone; one that exists stays as it is.
fn create_private_directory(path: &Path) -> Result<(), CliError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| CliError::usage(format!("the directory {} can't be made: {e}", path.display())))
}

/// Writes a new file of mode 0600, and never over one that exists. A file cut short is removed.
pub(crate) fn write_private(path: &Path, text: &SecretString) -> Result<(), CliError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|e| {
        if e.kind() == ErrorKind::AlreadyExists {
            CliError::usage(format!("{} exists and is not overwritten", path.display()))
                .hint("what was sealed or encrypted to that key would be lost; choose another name")
        } else {
            CliError::usage(format!("{} can't be written: {e}", path.display()))
        }
    })?;
    file.write_all(text.expose_secret().as_bytes()).and_then(|()| file.sync_all()).map_err(|e| {
        let _ = fs::remove_file(path);
        CliError::new(CommandExit::Failed, format!("{} can't be written: {e}", path.display()))
    })
}
