//! A server's front door, as the workers' settings describe it: its image, how long releases are proven and drained, and
//! where certificates come from. What is done with it on a server is in `stages`.

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

/// The reverse proxy that takes the requests for a server's projects.
#[derive(Debug, Clone)]
pub struct FrontDoor {
    /// Whether servers have one for which nothing else was said.
    pub by_default: bool,
    /// Its image.
    pub image: DoorImage,
    /// How long requests to a release that is replaced may go on.
    pub drain_limit: Duration,
    /// How long a new release has to have run beside the one that serves before it gets the traffic.
    pub proving_time: Duration,
    /// Where certificates come from.
    pub acme: Acme,
}

impl FrontDoor {
    /// This door, if a server is to have it: what was said for the server alone wins over the default.
    #[must_use]
    pub fn for_server(&self, of_server: Option<bool>) -> Option<&Self> {
        of_server.unwrap_or(self.by_default).then_some(self)
    }
}

/// What was seen of a server's front door.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontDoorFacts {
    /// The proxy's version, as it tells it.
    pub version: String,
    /// The image that it runs.
    pub image: String,
    /// The slugs of the projects that it serves.
    #[serde(default)]
    pub projects: Vec<String>,
    /// The certificates that it has.
    #[serde(default)]
    pub certificates: Vec<DoorCertificate>,
    /// In which state it was found, where it didn't work and was repaired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_down: Option<String>,
}

impl FrontDoorFacts {
    /// The fact of a stage that holds them; `null` there: the server has no door any more.
    pub const FACT: &'static str = "front_door";
}

/// A certificate for one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorCertificate {
    /// The domain.
    pub domain: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Where certificates come from. What isn't set is as the proxy has it.
#[derive(Debug, Clone, Default)]
pub struct Acme {
    /// The URL of the authority's directory.
    pub directory: Option<PlainWord>,
    /// Whom the authority may write to.
    pub email: Option<PlainWord>,
    /// The account at the authority that new ones are bound to.
    pub external_account: Option<ExternalAccount>,
    /// The authority's own certificates (PEM), where the proxy's system doesn't trust it already.
    pub ca_certificates: Option<String>,
}

/// An account at a certificate authority that the door's own is bound to.
#[derive(Debug, Clone)]
pub struct ExternalAccount {
    /// Its id.
    pub key_id: PlainWord,
    /// Its key, base64url as the authority gives it.
    pub key: SecretString,
}

impl ExternalAccount {
    /// The account, if `key` is base64url, which is all that may stand in the proxy's configuration.
    #[must_use]
    pub fn new(key_id: PlainWord, key: SecretString) -> Option<Self> {
        let text = key.expose_secret().trim_end_matches('=');
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        ((16..=512).contains(&text.len()) && text.bytes().all(plain)).then(|| Self { key_id, key })
    }
}

/// An image that is pinned by its digest: `HOST/NAME[:TAG]@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorImage(String);

impl DoorImage {
    /// Checks that `value` is such an image, in plain characters.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let (name, digest) = value.split_once("@sha256:")?;
        let hex = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':' | b'/');
        let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphanumeric());
        let named = name.len() <= 400 && name.bytes().all(plain) && name.split('/').all(part) && name.contains('/');
        (hex && named).then(|| Self(value.to_owned()))
    }

    /// The reference as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DoorImage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One word that means itself in the proxy's configuration: no blank, quote, brace, backslash, comment or variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainWord(String);

impl PlainWord {
    /// Checks that `value` is such a word.
    #[must_use]
    pub fn new(value: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/@+%=".contains(&b);
        let valid = (1..=400).contains(&value.len()) && value.bytes().all(plain);
        valid.then(|| Self(value.to_owned()))
    }

    /// The word as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const DIGEST: &str = "ad27e531c8b286ff153c0e6e16587a1583e4111bb58c4d83bd73d6d3ef0a0ce1";

    fn door(by_default: bool) -> FrontDoor {
        FrontDoor {
            by_default,
            image: DoorImage::new(&format!("docker.io/library/caddy:2.11.4-alpine@sha256:{DIGEST}")).unwrap(),
            drain_limit: Duration::from_secs(30),
            proving_time: Duration::from_secs(12),
            acme: Acme::default(),
        }
    }

    #[test]
    fn what_is_said_for_a_server_wins_over_the_default() {
        for (by_default, of_server, has_one) in [
            (true, None, true),
            (true, Some(true), true),
            (true, Some(false), false),
            (false, None, false),
            (false, Some(true), true),
            (false, Some(false), false),
        ] {
            assert_eq!(door(by_default).for_server(of_server).is_some(), has_one, "{by_default} {of_server:?}");
        }
    }

    #[test]
    fn an_image_is_pinned_or_refused() {
        for good in ["docker.io/library/caddy:2@sha256:", "127.0.0.1:5000/a/b@sha256:", "library/caddy@sha256:"] {
            assert!(DoorImage::new(&format!("{good}{DIGEST}")).is_some(), "{good}");
        }
        for bad in ["docker.io/library/caddy:2", "docker.io/library/caddy:2@sha256:ab", "@sha256:", ""] {
            assert!(DoorImage::new(bad).is_none(), "{bad}");
        }
        for bad in ["caddy@sha256:", "-x/y@sha256:", "a//b@sha256:", "a/b c@sha256:", "a/$(id)@sha256:", "a/..@sha256:"]
        {
            assert!(DoorImage::new(&format!("{bad}{DIGEST}")).is_none(), "{bad}");
        }
        assert!(DoorImage::new(&format!("a/b@sha256:{}", DIGEST.to_uppercase())).is_none());
    }

    #[test]
    fn nothing_in_a_word_acts_in_the_proxys_configuration() {
        for good in ["https://ca.example/acme/directory", "ops+acme@example.org", "kid-1"] {
            assert!(PlainWord::new(good).is_some(), "{good}");
        }
        for bad in ["", "a b", "a{b", "a}", "\"a", "a`", "a\\b", "a\nb", "#a", "{$HOME}", "a\u{e9}", "a;b", "a'b"] {
            assert!(PlainWord::new(bad).is_none(), "{bad:?}");
        }
        let account = |key: &str| ExternalAccount::new(PlainWord::new("kid-1").unwrap(), key.into());
        assert!(account("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W").is_some());
        for bad in ["short", "zWNDZM6eQGHWpSRT Pal5eIUYFTu7", "zWNDZM6eQGHWpSRT{Pal5eIUYFTu7", &"a".repeat(600)] {
            assert!(account(bad).is_none(), "{bad}");
        }
        assert!(!format!("{:?}", account("zWNDZM6eQGHWpSRTPal5")).contains("zWND"));
    }
}
