//! The words of a refusal: which field, which rule, and never a value.

use crate::ErrorCode;
use crate::credential_shapes::holds_credential;
use crate::secret::PLAINTEXT;

/// A code, the JSON pointer of the field where there is one, and the message.
pub(super) type DecodeFailure = (ErrorCode, Option<String>, String);

pub(super) fn refuse(code: ErrorCode, message: impl Into<String>) -> DecodeFailure {
    (code, None, message.into())
}

pub(super) fn refuse_at(code: ErrorCode, pointer: &str, rule: &str) -> DecodeFailure {
    (code, Some(pointer.to_owned()), format!("{pointer} {rule}"))
}

pub(super) fn broken((pointer, rule): (String, String)) -> DecodeFailure {
    refuse_at(ErrorCode::InvalidField, &pointer, &rule)
}

pub(super) fn unsupported() -> DecodeFailure {
    refuse_at(ErrorCode::UnsupportedType, "/type", "isn't a type of request that is handled here")
}

pub(super) const PLAINTEXT_RULE: &str =
    "holds a secret in plain text; send it in /data/secrets as a sealed box or a reference";

/// A key as it may stand in a message: keys can be hostile, too, and secrets.
pub(super) fn shown(key: &str) -> String {
    if holds_credential(key) {
        return "?".to_owned();
    }
    key.chars().take(100).map(|c| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '?' }).collect()
}

pub(super) fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", shown(key)),
            Segment::Enum { variant } => format!("/{}", shown(variant)),
            Segment::Unknown => "/?".to_owned(),
        })
        .collect()
}

/// Serde's messages repeat the offending value; this keeps the rule and drops the value.
pub(super) fn from_serde(pointer: &str, message: &str) -> DecodeFailure {
    if let Some(field) = message.strip_prefix("missing field `").and_then(|m| m.split('`').next()) {
        return refuse_at(ErrorCode::MissingField, &format!("{pointer}/{field}"), "is required");
    }
    if message.contains(PLAINTEXT) {
        return refuse_at(ErrorCode::PlaintextSecret, pointer, PLAINTEXT_RULE);
    }
    let malformed = || match pointer.rsplit('/').next() {
        Some("time" | "expires_at") => {
            "must be a time as RFC 3339 writes it, such as 2026-11-20T09:30:00Z, up to 9999-12-30"
        }
        _ => "is malformed",
    };
    let rule =
        if message.starts_with("invalid ") || message.starts_with("unknown ") || message.starts_with("duplicate ") {
            match message.rsplit_once(", expected ") {
                Some((_, expected)) => format!("must be {}", in_words(expected)),
                None => malformed().to_owned(),
            }
        } else {
            match message.find(" must ") {
                Some(at) => message[at + 1..].to_owned(),
                None => malformed().to_owned(),
            }
        };
    refuse_at(ErrorCode::InvalidField, pointer, &rule)
}

/// What serde expects, in words of JSON and not of Rust.
fn in_words(expected: &str) -> String {
    let whole = |most: u64| format!("a whole number from 0 to {most}");
    match expected {
        "u8" => whole(u8::MAX.into()),
        "u16" => whole(u16::MAX.into()),
        "u32" => whole(u32::MAX.into()),
        "u64" | "usize" => whole(u64::MAX),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a map" => "an object".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a boolean" => "true or false".to_owned(),
        // One of some names, which are told where another text was given.
        "string or map" | "map with a single key" | "variant identifier" => "a string".to_owned(),
        // A type's name says nothing to whoever writes the event.
        other if other.starts_with("struct ") => "an object".to_owned(),
        other => other.to_owned(),
    }
}
