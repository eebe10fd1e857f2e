//! One `env.contract.yaml`: its version, its owner and its entries. No I/O.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::VariableName;

use super::declaration::{Declaration, ValueSource};
use crate::StageError;

/// The version whose meaning is known here.
const VERSION: &str = "1";
const FIELDS: [&str; 3] = ["version", "owner", "entries"];

/// The entries of one file. The owner is somebody to ask, and has no meaning here.
pub(super) struct Fragment {
    pub entries: BTreeMap<String, Declaration>,
}

impl Fragment {
    /// Reads a file.
    ///
    /// # Errors
    /// `env-contract-version` and `env-contract-invalid`, with the file and the entry.
    pub(super) fn read(file: &str, yaml: &[u8]) -> Result<Self, StageError> {
        let fields = mapping(yaml).map_err(|what| invalid(file, &what))?;
        // Before anything else: other versions may have other fields.
        match fields.get("version") {
            None => {}
            Some(Value::String(version)) if version == VERSION => {}
            Some(_) => {
                let message =
                    format!("{file} has another version than \"{VERSION}\" (with quotes), the one known here");
                return Err(StageError::new(ErrorCode::EnvContractVersion, message));
            }
        }
        if let Some(unknown) = fields.keys().find(|f| !FIELDS.contains(&f.as_str())) {
            return Err(invalid(file, &format!("has the unknown field {unknown}")));
        }
        if fields.get("owner").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(invalid(file, "has no owner"));
        }
        let declared = match fields.get("entries") {
            None => return Ok(Self { entries: BTreeMap::new() }),
            Some(Value::Object(entries)) => entries,
            Some(_) => return Err(invalid(file, "has entries that aren't a mapping")),
        };
        let mut entries = BTreeMap::new();
        for (name, entry) in declared {
            if !is_name(name) {
                return Err(invalid(file, &format!("has the entry {name}, which isn't a variable's name")));
            }
            let declaration = Declaration::read(entry);
            let declaration = declaration.map_err(|rule| invalid(file, &format!("breaks a rule: {name} {rule}")))?;
            if is_reserved(name) && declaration.is_for_production() && declaration.source != ValueSource::Derived {
                return Err(invalid(file, &format!("sets {name}, which no deployment may set")));
            }
            entries.insert(name.clone(), declaration);
        }
        Ok(Self { entries })
    }
}

/// The file as a mapping. Budgets and lengths are for a file of a stranger's.
fn mapping(yaml: &[u8]) -> Result<Map<String, Value>, String> {
    let text = std::str::from_utf8(yaml).map_err(|_| "isn't UTF-8".to_owned())?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 20_000,
            max_nodes: 10_000,
            max_depth: 16,
            max_documents: 1,
            max_aliases: 100,
            max_anchors: 100,
        },
        // A number that begins with 0 is an identifier that somebody forgot to quote.
        leading_zero_numbers_as_strings: true,
    };
    match serde_saphyr::from_str_with_options(text, options) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err("isn't a mapping".to_owned()),
        Err(error) => {
            let line = error.location().map(|l| format!(" near line {}", l.line())).unwrap_or_default();
            Err(format!("isn't YAML that can be read{line}, or has a key twice there"))
        }
    }
}

fn is_name(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.len() <= 100
        && name.bytes().next().is_some_and(letter)
        && name.bytes().all(|b| letter(b) || b.is_ascii_digit())
}

/// What events may not give either: it would change how compose and the programs around it work. `PORT` is declared in
/// the field, and simply not written.
fn is_reserved(name: &str) -> bool {
    name != "PORT" && VariableName::new(name.to_ascii_uppercase()).is_err()
}

pub(super) fn invalid(file: &str, what: &str) -> StageError {
    StageError::new(ErrorCode::EnvContractInvalid, format!("{file} {what}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn refused(yaml: &str) -> (ErrorCode, String) {
        let error = Fragment::read("infra/env.contract.yaml", yaml.as_bytes()).err().unwrap();
        (error.code, error.message)
    }

    #[test]
    fn a_file_of_the_known_version_is_read_and_others_are_told_apart() {
        let yaml = "version: \"1\"\nowner: infra\nentries:\n  DEBUG:\n    source: literal\n    environments: [local]\n    \
                    required: yes\n    value: 0123\n";
        let fragment = Fragment::read("f", yaml.as_bytes()).unwrap();
        assert_eq!(fragment.entries["DEBUG"].literal().as_deref(), Some("0123"));
        assert!(fragment.entries["DEBUG"].required);
        assert!(Fragment::read("f", b"owner: x\n").unwrap().entries.is_empty(), "a version is optional");
        for version in ["\"2\"", "1", "[]"] {
            let (code, message) = refused(&format!("version: {version}\nnew_field: 1\n"));
            assert_eq!(code, ErrorCode::EnvContractVersion);
            assert!(message.starts_with("infra/env.contract.yaml "), "{message}");
        }
    }

    #[test]
    fn fuzzed_contracts_are_read_or_refused() {
        let sample = include_bytes!("../../../../../tests/samples/generation-2/infra/env.contract.yaml");
        let backend = include_bytes!("../../../../../tests/samples/generation-2/services/backend/env.contract.yaml");
        slipway_protocol::fuzz::run("variables' contracts", &[sample, backend], |yaml| {
            if let Err(error) = Fragment::read("infra/env.contract.yaml", yaml) {
                let codes = [ErrorCode::EnvContractInvalid, ErrorCode::EnvContractVersion];
                assert!(codes.contains(&error.code), "{error}");
            }
        });
    }

    #[test]
    fn what_breaks_a_rule_is_named_with_its_file_and_entry_and_no_value() {
        let entry = |fields: &str| format!("owner: x\nentries:\n  KEY:\n    {}\n", fields.replace(", ", "\n    "));
        for (yaml, told) in [
            ("owner: x\nextra: hunter2\n".to_owned(), "has the unknown field extra"),
            ("entries: {}\n".to_owned(), "has no owner"),
            ("owner: x\nentries: hunter2\n".to_owned(), "has entries that aren't a mapping"),
            ("owner: x\nentries: {a-b: {}}\n".to_owned(), "has the entry a-b, which isn't a variable's name"),
            (
                entry("source: derived, environments: [p], required: true, valeu: hunter2"),
                "KEY has the unknown field valeu",
            ),
            (entry("source: derived, environments: [p]"), "KEY required is missing"),
            (
                entry("source: literal, environments: [production], required: true, value: x")
                    .replace("KEY", "LD_PRELOAD"),
                "sets LD_PRELOAD",
            ),
            ("owner: x\nowner: hunter2\n".to_owned(), "isn't YAML that can be read near line 2"),
            ("owner: [\n".to_owned(), "isn't YAML"),
            ("- hunter2\n".to_owned(), "isn't a mapping"),
            ("owner: x\n---\nowner: y\n".to_owned(), "isn't YAML"),
            (format!("{}x{}", "[".repeat(60), "]".repeat(60)), "isn't YAML"),
        ] {
            let (code, message) = refused(&yaml);
            assert_eq!(code, ErrorCode::EnvContractInvalid, "{yaml}");
            assert!(message.starts_with("infra/env.contract.yaml ") && message.contains(told), "{yaml}: {message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn aliases_that_multiply_are_refused_within_a_budget() {
        let mut yaml = String::from("owner: x\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let of = format!("*a{}", level - 1);
            yaml += &format!("a{level}: &a{level} [{}]\n", vec![of; 10].join(", "));
        }
        assert_eq!(refused(&yaml).0, ErrorCode::EnvContractInvalid);
    }
}
