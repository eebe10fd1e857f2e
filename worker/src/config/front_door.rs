//! The section of front doors: what their variables mean together. A single one is parsed in `parse`.

use slipway_deploy::{Acme, ExternalAccount, FrontDoor};

use super::reader::VariableReader;
use super::variables as var;

/// The door of servers that have one. It's known though doors are off, since a single server may have one all the same.
pub(super) fn front_door(reader: &mut VariableReader) -> Option<FrontDoor> {
    let (by_default, image) = (reader.take(&var::FRONT_DOOR), reader.take(&var::FRONT_DOOR_IMAGE));
    let (drain_limit, proving_time) = (reader.take(&var::DRAIN_LIMIT), reader.take(&var::PROVING_TIME));
    let (directory, email) = (reader.take(&var::ACME_DIRECTORY), reader.take(&var::ACME_EMAIL));
    let acme =
        Acme { directory, email, external_account: external_account(reader), ca_certificates: authorities(reader) };
    Some(FrontDoor {
        by_default: by_default?,
        image: image?,
        drain_limit: drain_limit?,
        proving_time: proving_time?,
        acme,
    })
}

fn external_account(reader: &mut VariableReader) -> Option<ExternalAccount> {
    let set = (reader.is_set(&var::ACME_EAB_KEY_ID), reader.is_set(&var::ACME_EAB_KEY_FILE));
    let (id, key) = (reader.take(&var::ACME_EAB_KEY_ID), reader.secret(&var::ACME_EAB_KEY_FILE));
    let mistake = match set {
        (true, false) => (var::ACME_EAB_KEY_FILE.entry, "is missing, though SLIPWAY_ACME_EAB_KEY_ID is set"),
        (false, true) => (var::ACME_EAB_KEY_ID.entry, "is missing, though SLIPWAY_ACME_EAB_KEY_FILE is set"),
        _ => {
            let account = ExternalAccount::new(id?, key?);
            if account.is_none() {
                let problem = "names a file that doesn't hold a key as base64url, as authorities give it";
                reader.mistake(&var::ACME_EAB_KEY_FILE.entry, problem.into());
            }
            return account;
        }
    };
    reader.mistake(&mistake.0, mistake.1.into());
    None
}

fn authorities(reader: &mut VariableReader) -> Option<String> {
    let path = reader.take(&var::ACME_CA_FILE)?.0;
    match std::fs::read_to_string(&path) {
        Ok(text) if text.len() <= 256 * 1024 => Some(text),
        Ok(_) => {
            reader.mistake(&var::ACME_CA_FILE.entry, "names a file that is larger than 256 KiB".into());
            None
        }
        Err(error) => {
            reader.mistake(&var::ACME_CA_FILE.entry, format!("names a file that can't be read: {error}"));
            None
        }
    }
}
