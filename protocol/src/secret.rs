//! How the value of a secret travels: never in plain text. Opening the boxes is `deploy`'s job.

use base64::Engine as _;
use schemars::JsonSchema;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::names::{SecretReference, VariableName};

/// The marker by which [`crate::decode()`] recognises the error of a plaintext secret.
pub(crate) const PLAINTEXT: &str = "a secret must be a sealed box or a reference, never plain text";

/// An anonymous sealed box (X25519, XSalsa20-Poly1305): libsodium's `crypto_box_seal`, PyNaCl's `SealedBox`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SealedSecret {
    /// Which of the workers' public keys it's sealed to.
    #[schemars(length(min = 1, max = 64))]
    pub key_id: String,
    /// The box in standard base64; at least 48 bytes of overhead, at most 64 KiB.
    #[schemars(length(min = 64, max = 90000))]
    pub sealed_box: String,
}

impl SealedSecret {
    /// The bytes of the box, or `None` when it isn't base64 or too short to be a sealed box.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(&self.sealed_box).ok()?;
        (bytes.len() >= 48).then_some(bytes)
    }
}

/// Whether a text can be a sealed box: base64 of enough bytes.
pub(crate) fn is_sealed_box(text: &str) -> bool {
    base64::engine::general_purpose::STANDARD.decode(text).is_ok_and(|bytes| bytes.len() >= 48)
}

/// Where the value of a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// A box sealed to the workers' public key.
    Sealed(SealedSecret),
    /// A secret that is mounted into the workers under this name.
    Reference(SecretReference),
}

impl<'de> Deserialize<'de> for SecretSource {
    /// By hand, so that no error can repeat a value that should have been sealed.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let serde_json::Value::Object(mut map) = serde_json::Value::deserialize(deserializer)? else {
            return Err(D::Error::custom(PLAINTEXT));
        };
        match (map.remove("sealed"), map.remove("reference")) {
            (Some(sealed), None) => {
                let sealed: SealedSecret = serde_json::from_value(sealed)
                    .map_err(|_| D::Error::custom("sealed must hold key_id and sealed_box"))?;
                if sealed.key_id.is_empty() || sealed.key_id.len() > 64 || sealed.bytes().is_none() {
                    return Err(D::Error::custom("sealed_box must be base64 of a sealed box and key_id its key"));
                }
                Ok(Self::Sealed(sealed))
            }
            (None, Some(serde_json::Value::String(name))) => {
                SecretReference::new(name).map(Self::Reference).map_err(D::Error::custom)
            }
            _ => Err(D::Error::custom(PLAINTEXT)),
        }
    }
}

impl VariableName {
    /// Whether a variable of this name holds a secret, judged by its words: `TOKEN`, `PASSWORD`, `API_KEY`…
    #[must_use]
    pub fn names_a_secret(&self) -> bool {
        names_a_secret(self.as_str())
    }

    /// The words of [`Self::names_a_secret`]: a name without any of them isn't a secret's.
    pub fn words_of_secrets() -> impl Iterator<Item = &'static str> {
        WORDS.into_iter().chain(PAIRS)
    }
}

const WORDS: [&str; 8] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "APIKEY"];
const PAIRS: [&str; 5] = ["API_KEY", "SECRET_KEY", "PRIVATE_KEY", "ACCESS_KEY", "ENCRYPTION_KEY"];

/// Whether `name` is one whose value must not travel as a plain variable.
pub(crate) fn names_a_secret(name: &str) -> bool {
    name.split('_').any(|word| WORDS.contains(&word)) || PAIRS.iter().any(|pair| name.contains(pair))
}

/// Whether `value` begins as a well-known credential does, however short or broken it is.
pub(crate) fn looks_like_a_secret(value: &str) -> bool {
    const PREFIXES: [&str; 8] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "xoxb-", "AGE-SECRET-KEY-"];
    PREFIXES.iter().any(|prefix| value.starts_with(prefix))
}

/// Another variable's name, as `${DB_PASSWORD}` and `$DB_PASSWORD` are.
pub(crate) fn is_variable(text: &str) -> bool {
    let Some(name) = text.strip_prefix('$') else { return false };
    let name = name.strip_prefix('{').map_or(Some(name), |braced| braced.strip_suffix('}'));
    name.is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}
