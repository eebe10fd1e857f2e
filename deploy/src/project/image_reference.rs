//! References to images as Docker reads them: which registry, which repository, which manifest. No I/O.

/// Other names of Docker Hub.
const DOCKER_HUB: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];
const OFFICIAL: &str = "library/";

/// An image in a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageReference {
    /// The registry's host, perhaps with a port.
    pub host: String,
    /// The name in the registry.
    pub repository: String,
    /// The digest, else the tag.
    pub manifest: String,
}

impl ImageReference {
    /// Reads a reference; whatever it is, Docker understands it no other way.
    pub(crate) fn read(reference: &str) -> Self {
        let (name, digest) = reference.split_once('@').map_or((reference, None), |(name, digest)| (name, Some(digest)));
        let last = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[last..].find(':') {
            Some(at) => (&name[..last + at], &name[last + at + 1..]),
            None => (name, "latest"),
        };
        let names_host = |first: &str| {
            first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase())
        };
        let (host, path) = match name.split_once('/').filter(|(first, _)| names_host(first)) {
            Some((host, path)) => (host.to_ascii_lowercase(), path.to_owned()),
            None => ("docker.io".to_owned(), name.to_owned()),
        };
        let host = if DOCKER_HUB.contains(&host.as_str()) { "docker.io".to_owned() } else { host };
        let official = host == "docker.io" && !path.contains('/');
        let repository = if official { format!("{OFFICIAL}{path}") } else { path };
        Self { host, repository, manifest: digest.unwrap_or(tag).to_owned() }
    }

    /// Whether it's one of Docker Hub's official images, which are everybody's.
    pub(crate) fn is_official(&self) -> bool {
        self.host == "docker.io" && self.repository.starts_with(OFFICIAL)
    }

    /// Whether it can be asked for in a URL: Docker allows no other characters.
    pub(crate) fn is_plain(&self) -> bool {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':');
        let parts = self.repository.split('/').chain([self.manifest.as_str()]);
        parts.clone().all(|part| !part.is_empty() && part != "." && part != "..")
            && self.repository.bytes().chain(self.manifest.bytes()).all(plain)
            && !self.manifest.contains('/')
            && !self.repository.contains(':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_docker_reads_it() {
        for (reference, host, repository, manifest) in [
            ("redis", "docker.io", "library/redis", "latest"),
            ("redis:7", "docker.io", "library/redis", "7"),
            ("grafana/loki:3", "docker.io", "grafana/loki", "3"),
            ("docker.io/redis:7", "docker.io", "library/redis", "7"),
            ("index.docker.io/a/b", "docker.io", "a/b", "latest"),
            ("ghcr.io/acme/shop-backend:sha-0123456", "ghcr.io", "acme/shop-backend", "sha-0123456"),
            ("GHCR.io/acme/shop-backend", "ghcr.io", "acme/shop-backend", "latest"),
            ("GHCR/acme/x", "ghcr", "acme/x", "latest"),
            ("ghcr.io:443/acme/x:1@sha256:ab", "ghcr.io:443", "acme/x", "sha256:ab"),
            ("localhost/x", "localhost", "x", "latest"),
            ("127.0.0.1:5000/x/y:z", "127.0.0.1:5000", "x/y", "z"),
        ] {
            let read = ImageReference::read(reference);
            let wanted = (host.to_owned(), repository.to_owned(), manifest.to_owned());
            assert_eq!((read.host, read.repository, read.manifest), wanted, "{reference}");
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_not_asked_for() {
        for odd in
            ["ghcr.io/a/../../b", "ghcr.io/a/b?x=1", "ghcr.io/a/b#x", "ghcr.io/a/%2e%2e/b", "ghcr.io//b", "ghcr.io/"]
        {
            assert!(!ImageReference::read(odd).is_plain(), "{odd}");
        }
        assert!(ImageReference::read("ghcr.io/acme/shop-backend@sha256:ab").is_plain());
        assert!(ImageReference::read("redis").is_official() && !ImageReference::read("a/redis").is_official());
    }
}
