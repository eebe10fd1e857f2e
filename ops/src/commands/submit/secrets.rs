//! Values of secrets, read from files or stdin and sealed at once to the workers' public key. A value in an argument
//! is refused: everybody on this machine could read it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use slipway_deploy::secrets::bound::{SecretOwner, seal_for};
use slipway_protocol::names::VariableName;
use slipway_protocol::{ProjectId, SealedSecret, SecretSource};

use crate::commands::arguments::parse_assignment;
use crate::terminal::error::CliError;

/// The largest value, as the workers accept it.
const MAX_BYTES: u64 = 64 * 1024;

/// A public key of the workers, with its id: what `slipway keys public` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealTo {
    key_id: String,
    public_key: Vec<u8>,
}

impl FromStr for SealTo {
    type Err = String;

    /// `KEY_ID:PUBLIC`, or the path of a file whose first line is that.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(key) = Self::parse_inline(text) {
            return Ok(key);
        }
        let file = std::fs::read_to_string(text)
            .map_err(|e| format!("neither KEY_ID:PUBLIC in base64 nor a file that can be read ({e})"))?;
        let line = file.lines().map(str::trim).find(|l| !l.is_empty() && !l.starts_with('#')).unwrap_or_default();
        Self::parse_inline(line).ok_or_else(|| "the file's first line must be KEY_ID:PUBLIC in base64".to_owned())
    }
}

impl SealTo {
    fn parse_inline(text: &str) -> Option<Self> {
        let (key_id, public) = text.split_once(':')?;
        let public_key = STANDARD.decode(public.trim()).ok().filter(|k| k.len() == 32)?;
        (!key_id.is_empty() && key_id.len() <= 64).then(|| Self { key_id: key_id.to_owned(), public_key })
    }
}

/// Every `NAME=@FILE` and `NAME=-` of `arguments`, sealed for the project.
pub(super) fn seal_all(
    arguments: &[String],
    project: ProjectId,
    seal_to: Option<&SealTo>,
) -> Result<BTreeMap<VariableName, SecretSource>, CliError> {
    let mut secrets = BTreeMap::new();
    let mut stdin_read = false;
    for argument in arguments {
        let (name, from) =
            parse_assignment(argument).map_err(|e| CliError::usage(format!("--secret {e}")).hint(FORM))?;
        let Some(key) = seal_to else {
            return Err(CliError::usage(format!("--secret {name} needs --seal-to, the workers' public key"))
                .hint("ask whoever runs the workers for what `slipway keys public` prints"));
        };
        if from == "-" && std::mem::replace(&mut stdin_read, true) {
            return Err(CliError::usage(format!("--secret {name}: only one value can come from stdin")).hint(FORM));
        }
        let value = read_value(&name, from)?;
        let sealed_box = seal_for(&key.public_key, SecretOwner { project, name: name.as_str() }, &value)
            .map_err(|e| CliError::usage(format!("--seal-to: the key {} is {e}", key.key_id)).hint(FORM))?;
        let source = SecretSource::Sealed(SealedSecret { key_id: key.key_id.clone(), sealed_box });
        if secrets.insert(name.clone(), source).is_some() {
            return Err(CliError::usage(format!("the secret {name} is given twice")));
        }
    }
    Ok(secrets)
}

const FORM: &str = "give --secret NAME=@FILE, or NAME=- for stdin, with --seal-to KEY_ID:PUBLIC";

fn read_value(name: &VariableName, from: &str) -> Result<SecretString, CliError> {
    let mut text = String::new();
    let done = match from.strip_prefix('@') {
        Some(path) => {
            std::fs::File::open(Path::new(path)).and_then(|f| f.take(MAX_BYTES + 2).read_to_string(&mut text))
        }
        None if from == "-" => std::io::stdin().lock().take(MAX_BYTES + 2).read_to_string(&mut text),
        None => {
            return Err(CliError::usage(format!("--secret {name}: a value in an argument can be read by others"))
                .hint(FORM.to_owned() + "; treat the value that you gave as leaked"));
        }
    };
    done.map_err(|e| CliError::usage(format!("--secret {name}: its value can't be read: {e}")).hint(FORM))?;
    // Editors and `echo` end a file with a newline that isn't meant; the workers do the same for mounted secrets.
    if text.ends_with('\n') {
        text.pop();
    }
    if text.is_empty() || text.len() as u64 > MAX_BYTES {
        return Err(CliError::usage(format!("--secret {name}: its value must have 1 byte to 64 KiB")));
    }
    Ok(SecretString::from(text))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use slipway_deploy::secrets::seal;

    use super::*;

    #[test]
    fn a_sealed_value_opens_with_the_private_key_and_loses_one_newline() {
        let dir = tempfile::tempdir().unwrap();
        let (private, public) = seal::generate("2026-11").unwrap();
        crate::commands::keys::write_private(&dir.path().join("2026-11.key"), &private).unwrap();
        let ring = seal::KeyRing::load(dir.path()).unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "123:abc\n\n").unwrap();

        let project = ProjectId(uuid::Uuid::new_v4());
        let key: SealTo = format!("2026-11:{public}").parse().unwrap();
        let secrets = seal_all(&[format!("TELEGRAM_BOT_TOKEN=@{}", file.display())], project, Some(&key)).unwrap();
        let SecretSource::Sealed(sealed) = secrets.values().next().unwrap() else { panic!("a reference") };
        let owner = SecretOwner { project, name: "TELEGRAM_BOT_TOKEN" };
        let opened = ring.open_for(sealed, owner, false).unwrap();
        assert_eq!(secrecy::ExposeSecret::expose_secret(&opened.value), "123:abc\n");
    }

    #[test]
    fn a_value_in_an_argument_is_refused_without_repeating_it() {
        let key = SealTo { key_id: "k".to_owned(), public_key: vec![9; 32] };
        let error =
            seal_all(&["TELEGRAM_BOT_TOKEN=hunter2".to_owned()], ProjectId(uuid::Uuid::nil()), Some(&key)).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}
