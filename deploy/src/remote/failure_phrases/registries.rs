//! What docker says when a registry refuses, in the words of six registries and of both image stores: each has its code.

use super::*;

use ErrorCode::{
    ImageBlocked, ImageNotFound, PullFailed, RegistryCredentialRefused as Refused, RegistryRateLimited as Limited,
    RegistryTlsFailed, RegistryUnavailable as Silent, StartFailed, WrongArchitecture,
};

#[rustfmt::skip]
const WORDS: &[(&str, &str, ErrorCode)] = &[
    ("ghcr", "Error response from daemon: manifest unknown", ImageNotFound),
    ("ghcr", "failed to resolve reference \"ghcr.io/acme/shop-backend:sha-1\": ghcr.io/acme/shop-backend:sha-1: not found", ImageNotFound),
    ("ghcr", "Error response from daemon: Head \"https://ghcr.io/v2/acme/shop-backend/manifests/sha-1\": unauthorized", Refused),
    ("ghcr", "Error response from daemon: Head \"https://ghcr.io/v2/acme/shop-backend/manifests/sha-1\": denied: denied", Refused),
    ("ghcr", "error from registry: denied", Refused),
    ("ghcr", "failed to authorize: failed to fetch oauth token: unexpected status from GET request to https://ghcr.io/token?scope=repository%3Aacme: 403 Forbidden", Refused),
    ("ghcr", "Error response from daemon: toomanyrequests: retry-after: 665.208us, allowed: 44000/minute", Limited),
    ("ghcr", "received unexpected HTTP status: 503 Service Unavailable", Silent),
    ("ghcr", "Error response from daemon: Get \"https://ghcr.io/v2/\": dial tcp: lookup ghcr.io on 127.0.0.53:53: server misbehaving", Silent),
    ("docker hub", "Error response from daemon: manifest for acme/shop:sha-1 not found: manifest unknown: manifest unknown", ImageNotFound),
    ("docker hub", "docker.io/acme/shop:sha-1: not found", ImageNotFound),
    ("docker hub", "Error response from daemon: pull access denied for acme/shop, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", Refused),
    ("docker hub", "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed", Refused),
    ("docker hub", "Error response from daemon: Get \"https://registry-1.docker.io/v2/\": unauthorized: incorrect username or password", Refused),
    ("docker hub", "unauthorized: your account must log in with a Personal Access Token (PAT)", Refused),
    ("docker hub", "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/increase-rate-limit", Limited),
    ("docker hub", "error from registry: You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit", Limited),
    ("docker hub", "unexpected status from HEAD request to https://registry-1.docker.io/v2/library/postgres/manifests/16: 429 Too Many Requests", Limited),
    ("docker hub", "Error response from daemon: Get \"https://registry-1.docker.io/v2/\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)", Silent),
    ("docker hub", "Error response from daemon: Get \"https://auth.docker.io/token?service=registry.docker.io\": EOF", Silent),
    ("docker hub", "no matching manifest for linux/arm64/v8 in the manifest list entries", WrongArchitecture),
    ("docker hub", "no matching manifest for linux/arm64/v8 in the manifest list entries: no match for platform in manifest: not found", WrongArchitecture),
    ("docker hub", "image with reference acme/shop was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64", WrongArchitecture),
    ("gitlab", "Error response from daemon: manifest unknown: manifest unknown", ImageNotFound),
    ("gitlab", "Error response from daemon: name unknown: repository name not known to registry", ImageNotFound),
    ("gitlab", "Error response from daemon: Head \"https://registry.gitlab.com/v2/acme/shop/manifests/1\": denied: access forbidden", Refused),
    ("gitlab", "unauthorized: HTTP Basic: Access denied. If a password was provided for Git authentication, the password was incorrect", Refused),
    ("gitlab", "received unexpected HTTP status: 429 Too Many Requests", Limited),
    ("gitlab", "received unexpected HTTP status: 502 Bad Gateway", Silent),
    ("ecr", "Error response from daemon: Head \"https://1.dkr.ecr.eu-central-1.amazonaws.com/v2/shop/manifests/1\": no basic auth credentials", Refused),
    ("ecr", "Error response from daemon: pull access denied for 1.dkr.ecr.eu-central-1.amazonaws.com/shop, repository does not exist or may require 'docker login': denied: Your authorization token has expired. Reauthenticate and try again.", Refused),
    ("ecr", "denied: User: arn:aws:iam::1:user/x is not authorized to perform: ecr:BatchGetImage on resource: arn:aws:ecr:x because no identity-based policy allows the action", Refused),
    ("ecr", "Error response from daemon: repository 1.dkr.ecr.eu-central-1.amazonaws.com/shop not found: name unknown: The repository with name 'shop' does not exist in the registry with id '1'", ImageNotFound),
    ("ecr", "Error response from daemon: manifest for 1.dkr.ecr.eu-central-1.amazonaws.com/shop:1 not found: manifest unknown: Requested image not found", ImageNotFound),
    ("ecr", "toomanyrequests: Rate exceeded", Limited),
    ("harbor", "Error response from daemon: unknown: artifact acme/shop:1 not found", ImageNotFound),
    ("harbor", "Error response from daemon: unknown: repository acme/shop not found", ImageNotFound),
    ("harbor", "Error response from daemon: unauthorized: unauthorized to access repository: acme/shop, action: pull: unauthorized to access repository: acme/shop, action: pull", Refused),
    ("harbor", "Error response from daemon: unknown: current image with \"3\" vulnerabilities cannot be pulled due to configured policy in 'Prevent images with vulnerability severity of \"High\" or higher from running.'", ImageBlocked),
    ("harbor", "Error response from daemon: unknown: The image is not signed by cosign.", ImageBlocked),
    ("harbor", "toomanyrequests: too many requests", Limited),
    ("harbor", "received unexpected HTTP status: 504 Gateway Time-out", Silent),
    ("distribution", "Error response from daemon: manifest for registry.example.com/shop:1 not found: manifest unknown: manifest unknown", ImageNotFound),
    ("distribution", "Error response from daemon: name unknown: repository name not known to registry", ImageNotFound),
    ("distribution", "Error response from daemon: Head \"https://registry.example.com/v2/shop/manifests/1\": unauthorized: authentication required", Refused),
    ("distribution", "Error response from daemon: Get \"https://registry.example.com/v2/\": http: server gave HTTP response to HTTPS client", RegistryTlsFailed),
    ("distribution", "Error response from daemon: Get \"https://registry.example.com/v2/\": tls: failed to verify certificate: x509: certificate signed by unknown authority", RegistryTlsFailed),
    ("distribution", "Error response from daemon: Get \"https://registry.example.com/v2/\": x509: certificate has expired or is not yet valid: current time 2026-11-30T00:00:00Z is after 2026-11-29T00:00:00Z", RegistryTlsFailed),
    ("distribution", "Error response from daemon: Get \"https://registry.example.com/v2/\": dial tcp 192.0.2.1:443: connect: connection refused", Silent),
    ("distribution", "Error response from daemon: Get \"https://registry.example.com/v2/\": net/http: TLS handshake timeout", Silent),
    ("distribution", "Error response from daemon: received unexpected HTTP status: 500 Internal Server Error", Silent),
    ("docker hub", "error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: \"<html><body><h1>403 Forbidden</h1>\\n Since Docker is a US company, we must comply with US export control regulations.", ImageBlocked),
    ("docker hub", "You have reached your organization's pull limit", Limited),
    ("acr", "Error response from daemon: Head \"https://acme.azurecr.io/v2/shop/manifests/1\": denied: client with IP '203.0.113.7' is not allowed access. Refer https://aka.ms/acr/firewall to grant access.", ImageBlocked),
    ("acr", "Head \"https://acme.azurecr.io/v2/shop/manifests/1\": unauthorized: authentication required, visit https://aka.ms/acr/authorization for more information.", Refused),
    ("artifact registry", "denied: Quota exceeded for quota metric 'Requests per project per region' and limit 'x' of service 'artifactregistry.googleapis.com'", Limited),
    ("artifact registry", "denied: Permission \"artifactregistry.repositories.downloadArtifacts\" denied on resource \"projects/p/locations/eu/repositories/r\" (or it may not exist)", Refused),
    ("quay", "unauthorized: access to the requested resource is not authorized", Refused),
    ("quay", "manifest unknown: Tag 1 was deleted or has expired. To pull, revive via time machine", ImageNotFound),
    ("a proxy", "Error response from daemon: Get \"https://registry-1.docker.io/v2/\": Proxy Authentication Required", Silent),
    ("a proxy", "Get \"https://registry-1.docker.io/v2/\": proxyconnect tcp: tls: first record does not look like a TLS handshake", Silent),
    ("schema 1", "[DEPRECATION NOTICE] Docker Image Format v1 and Docker Image manifest version 2, schema 1 support is disabled by default and will be removed in an upcoming release.", StartFailed),
    ("schema 1", "not implemented: media type \"application/vnd.docker.distribution.manifest.v1+prettyjws\" is no longer supported since containerd v2.0, please rebuild the image", StartFailed),
    ("a chart", "unsupported media type application/vnd.cncf.helm.config.v1+json", StartFailed),
    ("any", "error getting credentials - err: exec: \"docker-credential-pass\": executable file not found in $PATH, out: ``", PullFailed),
    ("any", "Error response from daemon: layers from manifest don't match image configuration", PullFailed),
    ("a name", "Error response from daemon: Get \"https://ghcr.io/v2/acme/denied-and-not-found/manifests/1\": context deadline exceeded", Silent),
];

#[test]
fn every_registrys_words_have_their_code() {
    for (registry, line, code) in WORDS {
        let mut output = ScriptOutput::default();
        output.push_tail((*line).to_owned());
        let error = explain_pull(&output);
        assert_eq!(error.code, *code, "{registry}: {line}");
        assert_eq!(line.contains("token has expired"), error.message.contains("has expired"), "{registry}: {error}");
    }
}
