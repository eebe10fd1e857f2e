//! What a server doesn't get from others: code, by git's words, and images, by Docker's.

use slipway_protocol::ErrorCode;

use super::{DISK_FULL, DOCKER_GONE, OTHER_ARCHITECTURE, Text};
use crate::StageError;
use crate::remote::output::ScriptOutput;

const REFUSED: [&str; 7] = [
    "unauthorized",
    "denied",
    "forbidden",
    "no basic auth credentials",
    "authentication required",
    "not authorized",
    "insufficient_scope",
];
const SILENT: [&str; 20] = [
    "connection refused",
    "connection reset",
    "no such host",
    "server misbehaving",
    "temporary failure",
    "timeout",
    "timed out",
    "deadline exceeded",
    "request canceled",
    "tls handshake",
    " eof ",
    "network is unreachable",
    "no route to host",
    "bad gateway",
    "service unavailable",
    "gateway time-out",
    "internal server error",
    " 502 ",
    " 503 ",
    " 504 ",
];

/// As docker's registries say it where it's not about who asks.
const CLOSED_TO_ADDRESS: [&str; 2] = ["is not allowed access", "export control"];
/// As git and docker say it of what stands between.
const PROXY: [&str; 5] = [
    "proxy authentication required",
    "proxyconnect",
    "from proxy after connect",
    "connect tunnel failed",
    "resolve proxy",
];
const LIMITED: [&str; 7] =
    ["toomanyrequests", "too many requests", "rate limit", "pull limit", "rate exceeded", "quota exceeded", " 429 "];
/// As the TLS libraries of git say it.
const UNTRUSTED: [&str; 4] = [
    "certificate problem",
    "certificate verification failed",
    "certificate verify locations",
    "alternative certificate",
];
/// As GitHub says it to git.
const CLOSED_REPOSITORY: [&str; 3] = ["is disabled. please ask the owner", "disabled by github", "dmca"];
/// As docker says it of manifests that it runs no more, and of what is no image.
const NO_IMAGE: [&str; 3] =
    ["support is disabled by default", "no longer supported since containerd", "unsupported media type"];

/// A failed fetch or checkout of `url`.
pub(crate) fn explain_fetch(output: &ScriptOutput, url: &str) -> StageError {
    let text = Text::of(output);
    let (code, what) = if output.value("fetch").is_none() {
        (ErrorCode::CheckoutFailed, "checking out the commit failed".to_owned())
    } else if text.has(&["ip allow list"]) {
        (ErrorCode::GithubIpNotAllowed, format!("{url} isn't open to the server's address"))
    } else if text.has(&["saml", "single sign-on"]) {
        (ErrorCode::GithubSsoRequired, format!("{url} wants a token that is authorized for single sign-on"))
    } else if text.has(&["suspended"]) {
        (ErrorCode::GithubSuspended, format!("{url} is closed to what is suspended"))
    } else if text.has(&["rate limit", "too many requests", "error: 429"]) {
        (ErrorCode::GithubRateLimited, format!("{url} allows no more for now"))
    } else if text.has(&["http 301", "error: 301", "http 307", "error: 307", "base from redirection"]) {
        (ErrorCode::RepositoryMoved, format!("{url} leads to another place"))
    } else if text.has(&["not our ref", "couldn't find remote ref", "unadvertised object", "no such remote ref"]) {
        (ErrorCode::CommitNotFound, format!("{url} doesn't have the commit"))
    } else if text.has(&CLOSED_REPOSITORY) {
        (ErrorCode::RepositoryNotFound, format!("{url} was closed by GitHub, whose words are in the tail"))
    } else if text.has(&["repository not found", "not found", "error: 404", "does not exist"]) {
        (ErrorCode::RepositoryNotFound, format!("{url} wasn't found"))
    } else if text.has(&[
        "authentication failed",
        "could not read username",
        "error: 403",
        "error: 401",
        "invalid username",
    ]) {
        (ErrorCode::GitCredentialRefused, format!("{url} refused the credential"))
    } else if text.has(&DISK_FULL) {
        (ErrorCode::DiskFull, "the server's disk is full".to_owned())
    } else if text.has(&["out of memory", "cannot allocate memory"]) {
        (ErrorCode::RepositoryTooLarge, "unpacking what git sends takes more memory than it may have".to_owned())
    } else if text.has(&["maximum allowed tree depth"]) {
        (ErrorCode::UnsupportedRepository, "the folders of the commit are nested too deeply for git".to_owned())
    } else if text.has(&["read-only file system", "permission denied"]) {
        (ErrorCode::CheckoutFailed, "the fetched code couldn't be written".to_owned())
    } else if text.has(&UNTRUSTED) {
        let what = format!(
            "the server doesn't trust the certificate that {url} shows it: it needs the package ca-certificates, the right \
             time, or the authority of what stands between"
        );
        (ErrorCode::GitUnavailable, what)
    } else if text.has(&PROXY) {
        (ErrorCode::GitUnavailable, format!("the proxy that git on the server goes through doesn't lead to {url}"))
    } else {
        return explain_unreached(output, ErrorCode::GitUnavailable, &format!("fetching from {url} failed"));
    };
    StageError::new(code, what).with_tail(output.tail())
}

/// Something that wasn't had from a host: `code`, unless the server has no way there.
fn explain_unreached(output: &ScriptOutput, code: ErrorCode, what: &str) -> StageError {
    let is_v6 = |address: &str| address.contains(':');
    let (host, unrouted) = (output.value("asked").unwrap_or_default(), output.values("unrouted"));
    let (code, why) = if host.is_empty() || !output.values("routed").is_empty() {
        (code, String::new())
    } else if unrouted.is_empty() {
        (code, format!(": the server can't resolve {host}, see its /etc/resolv.conf"))
    } else {
        let (code, way) = if unrouted.iter().any(|address| is_v6(address)) {
            (code, format!("any address of {host}"))
        } else {
            (ErrorCode::ServerLacksIpv4, format!("IPv4 addresses, and {host} has no others"))
        };
        (code, format!(": the server has no route to {way} ({})", unrouted.join(", ")))
    };
    StageError::new(code, format!("{what}{why}")).with_tail(output.tail())
}

/// A failed `docker compose pull`. What can't pass by itself comes first, then what is about all images, then about one.
pub(crate) fn explain_pull(output: &ScriptOutput) -> StageError {
    let text = Text::of(output);
    let (code, what) = if text.has(&OTHER_ARCHITECTURE) {
        (ErrorCode::WrongArchitecture, "an image isn't built for the server's processor")
    } else if text.has(&DISK_FULL) {
        (ErrorCode::DiskFull, "the server's disk is full")
    } else if text.has(&DOCKER_GONE) {
        (ErrorCode::DockerNotRunning, "the docker daemon went away")
    } else if text.has(&["error getting credentials", "docker-credential-"]) {
        (ErrorCode::PullFailed, "the credential helper that docker on the server is configured with fails")
    } else if text.has(&PROXY) {
        (
            ErrorCode::RegistryUnavailable,
            "the proxy that docker on the server goes through doesn't lead to the registry",
        )
    } else if text.has(&CLOSED_TO_ADDRESS) {
        (ErrorCode::ImageBlocked, "the registry isn't open to the server's address")
    } else if text.has(&LIMITED) {
        (ErrorCode::RegistryRateLimited, "the registry allows no more pulls for now")
    } else if text.has(&["x509: ", "tls: ", "gave http response to https client"]) {
        (ErrorCode::RegistryTlsFailed, "the server can't make a trusted connection to the registry")
    } else if text.has(&["due to configured policy", "is not signed"]) {
        (ErrorCode::ImageBlocked, "the registry's policy forbids to pull an image")
    } else if text.has(&NO_IMAGE) {
        (ErrorCode::StartFailed, "what the registry has under that name is no image that docker on the server can run")
    } else if text.has(&["manifest unknown", "name unknown", "not found", "no such manifest", "not known to registry"])
        && !text.has(&[" lookup "])
    {
        (ErrorCode::ImageNotFound, "an image isn't in the registry")
    } else if text.has(&REFUSED) {
        let what = match text.has(&["expired"]) {
            true => "the registry says that the credential has expired",
            false => "the registry refused the credential for an image, or doesn't show it that there is one",
        };
        (ErrorCode::RegistryCredentialRefused, what)
    } else if text.has(&SILENT) {
        return explain_unreached(output, ErrorCode::RegistryUnavailable, "the registry doesn't answer the server");
    } else {
        (ErrorCode::PullFailed, "docker compose pull failed")
    };
    StageError::new(code, what).with_tail(output.tail())
}
