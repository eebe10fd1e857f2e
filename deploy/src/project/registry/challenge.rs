//! What a registry asks for before it answers, and which hosts may give tokens for it. No I/O.

use reqwest::Url;

/// Registries whose tokens come from another host of theirs.
const KNOWN: [(&str, &str); 2] = [("registry-1.docker.io", "auth.docker.io"), ("registry.gitlab.com", "gitlab.com")];

/// Who may be asked for a token, and so be shown the credential: the registry itself, the host that is known for it, and
/// the one that the workers are told of.
#[derive(Debug, Clone)]
pub(super) struct TokenHosts {
    registry: Option<Url>,
    others: Vec<String>,
}

impl TokenHosts {
    pub(super) fn new(registry: &str, told: Option<&str>) -> Self {
        let registry = Url::parse(registry).ok();
        let host = registry.as_ref().and_then(Url::host_str).unwrap_or_default();
        let known = KNOWN.iter().filter(|(of, _)| *of == host).map(|(_, host)| *host);
        Self { others: known.chain(told).map(str::to_owned).collect(), registry }
    }

    /// The place that a challenge names, if tokens may come from there. Over TLS, unless the registry itself is without.
    pub(super) fn trusted(&self, realm: &str) -> Option<Url> {
        let (url, registry) = (Url::parse(realm).ok()?, self.registry.as_ref()?);
        let origin = |url: &Url| Some((url.host_str()?.to_owned(), url.port_or_known_default()));
        let same = origin(&url)? == origin(registry)? && url.scheme() == registry.scheme();
        let host = url.host_str()?;
        let named = url.port().map_or(host.to_owned(), |port| format!("{host}:{port}"));
        let other = url.scheme() == "https" && self.others.contains(&named);
        let plain = url.username().is_empty() && url.password().is_none();
        (plain && (same || other)).then_some(url)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// `Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:a/b:pull"`. Its scope isn't read: what is
    /// asked for is known here.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        // A scope's value holds commas of its own.
        let value = |name: &str| {
            let from = rest.find(&format!("{name}=\""))? + name.len() + 2;
            Some(rest[from..].split('"').next()?.to_owned())
        };
        Some(Self::Bearer { realm: value("realm")?, service: value("service") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_from_the_registry_and_from_hosts_that_are_known_for_it() {
        for (registry, told, realm, trusted) in [
            ("https://ghcr.io", None, "https://ghcr.io/token", true),
            ("https://ghcr.io", None, "https://GHCR.io:443/token", true),
            ("https://ghcr.io", None, "http://ghcr.io/token", false),
            ("https://ghcr.io", None, "http://ghcr.io:443/token", false),
            ("https://ghcr.io", None, "https://ghcr.io:8443/token", false),
            ("https://ghcr.io", None, "https://ghcr.io.evil.example/token", false),
            ("https://ghcr.io", None, "https://ghcr.io@evil.example/token", false),
            ("https://ghcr.io", None, "https://robot:x@ghcr.io/token", false),
            ("https://ghcr.io", None, "https://token.ghcr.io/token", false),
            ("https://ghcr.io", None, "https://169.254.169.254/latest", false),
            ("https://ghcr.io", None, "//ghcr.io/token", false),
            ("https://ghcr.io", None, "file:///etc/passwd", false),
            ("https://registry-1.docker.io", None, "https://auth.docker.io/token", true),
            ("https://registry.gitlab.com", None, "https://gitlab.com/jwt/auth", true),
            ("https://registry.example.com", None, "https://auth.docker.io/token", false),
            ("https://registry.example.com", None, "https://git.example.com/jwt/auth", false),
            ("https://registry.example.com", Some("git.example.com"), "https://git.example.com/jwt/auth", true),
            ("https://registry.example.com", Some("git.example.com"), "http://git.example.com/jwt/auth", false),
            ("https://registry.example.com", Some("git.example.com"), "https://git.example.com:8443/jwt", false),
            ("https://registry.example.com", Some("git.example.com:8443"), "https://git.example.com:8443/jwt", true),
            ("http://127.0.0.1:5000", None, "http://127.0.0.1:5000/token", true),
            ("http://127.0.0.1:5000", None, "http://127.0.0.1:5001/token", false),
        ] {
            let found = TokenHosts::new(registry, told).trusted(realm);
            assert_eq!(found.is_some(), trusted, "{registry} {told:?} {realm}");
        }
    }

    #[test]
    fn fuzzed_challenges_are_understood_or_not() {
        let bearer = b"Bearer realm=\"https://ghcr.io/token\",service=\"ghcr.io\",scope=\"repository:a/b:pull,push\"";
        slipway_protocol::fuzz::run("registries' challenges", &[bearer, b"Basic realm=\"x\"", b"Bearer"], |input| {
            let header = String::from_utf8_lossy(input);
            if let Some(Challenge::Bearer { realm, service }) = Challenge::parse(&header) {
                for value in [Some(realm), service].into_iter().flatten() {
                    assert!(!value.contains('"') && header.contains(&value), "{value}");
                }
            }
        });
    }
}
