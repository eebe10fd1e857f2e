//! Signatures of webhooks as Standard Webhooks has them: HMAC-SHA256 over id, time and body, with each key that counts, so
//! that a receiver may change its key at any moment.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

/// The header's value: `v1,<base64>` for each key, separated by spaces.
pub(super) fn sign(keys: &[SecretString], id: &str, timestamp: i64, body: &[u8]) -> String {
    let sign = |key: &SecretString| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes(key));
        let mut context = hmac::Context::with_key(&key);
        for part in [id.as_bytes(), b".", timestamp.to_string().as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    keys.iter().map(sign).collect::<Vec<_>>().join(" ")
}

/// A key behind `whsec_` is base64; any other stands for itself.
fn bytes(key: &SecretString) -> Zeroizing<Vec<u8>> {
    let text = key.expose_secret();
    let decoded = text.strip_prefix("whsec_").and_then(|encoded| STANDARD.decode(encoded).ok());
    Zeroizing::new(decoded.unwrap_or_else(|| text.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the Standard Webhooks specification.
    #[test]
    fn the_specifications_example_is_signed_as_it_says() {
        let key = SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let signed = sign(&[key.clone(), key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signed, format!("{one} {one}"));
    }
}
