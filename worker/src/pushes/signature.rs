//! The signature of a webhook: HMAC-SHA256 over its body, with the secret that GitHub was given.

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};

/// Checks signatures.
pub(super) struct SignatureKey(hmac::Key);

impl SignatureKey {
    pub(super) fn new(secret: &SecretString) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()))
    }

    /// Whether `signature` is that of `body`; the comparison takes as long whatever they are.
    pub(super) fn accepts(&self, signature: &[u8; 32], body: &[u8]) -> bool {
        hmac::verify(&self.0, body, signature).is_ok()
    }
}

/// The signature that a header `X-Hub-Signature-256` holds: `sha256=` and 64 hexadecimal digits.
pub(super) fn parse_signature(header: &str) -> Option<[u8; 32]> {
    let digits = header.strip_prefix("sha256=")?;
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// The example in GitHub's documentation.
    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn key() -> SignatureKey {
        SignatureKey::new(&"It's a Secret to Everybody".into())
    }

    #[test]
    fn only_the_signature_of_the_very_body_with_the_very_secret_is_accepted() {
        let signature = parse_signature(SIGNATURE).unwrap();
        assert!(key().accepts(&signature, b"Hello, World!"));
        assert!(!key().accepts(&signature, b"Hello, World?"));
        assert!(!SignatureKey::new(&"another".into()).accepts(&signature, b"Hello, World!"));
        for place in 0..32 {
            let mut wrong = signature;
            wrong[place] ^= 1;
            assert!(!key().accepts(&wrong, b"Hello, World!"), "byte {place}");
        }
    }

    #[test]
    fn what_isnt_a_signature_isnt_taken_for_one() {
        let upper = SIGNATURE.replace("757107ea", "757107EA");
        assert!(parse_signature(&upper).is_some(), "digits are digits");
        let signed = format!("sha256=+1{}", &SIGNATURE[9..]);
        let others = ["", "sha256=", &SIGNATURE[7..], &SIGNATURE[..70], "sha1=757107ea0eb2509f", &signed];
        for other in others.into_iter().chain([format!("{SIGNATURE}0").as_str(), &format!("sha256={}", "ä".repeat(32))])
        {
            assert_eq!(parse_signature(other), None, "{other}");
        }
    }
}
