//! The phrases by which errors of git, Docker and the server's disk are recognised: these programs have no error codes,
//! so their text decides. All of it is English, since every script runs with `LC_ALL=C`. This module
//! alone knows such phrases; what a stage does about an error is decided there.

mod fetching;

use slipway_protocol::ErrorCode;

pub(crate) use self::fetching::{explain_fetch, explain_pull};
use super::output::{ScriptOutput, cut};
use crate::StageError;

/// As git and Docker say it, who shorten or reword the kernel's text.
const DISK_FULL: [&str; 2] = ["no space left", "disk quota"];
/// The kernel's own text, for output that may also hold a project's log: that may speak of any quota.
const KERNEL_DISK_FULL: [&str; 2] = ["no space left on device", "disk quota exceeded"];
/// Docker's words with either of its image stores.
const OTHER_ARCHITECTURE: [&str; 3] =
    ["no matching manifest for", "no match for platform", "does not match the specified platform"];
const DOCKER_GONE: [&str; 3] =
    ["cannot connect to the docker daemon", "is the docker daemon running", "error during connect"];

/// As shells and programs say it before a script has begun.
const OUT_OF_PROCESSES: [&str; 3] = ["cannot fork", "cannot allocate memory", "resource temporarily unavailable"];
/// How many lines of a program that ran in a script's place are part of the message.
const WORDS_OF_OTHERS: usize = 3;

/// The end of a program's output, to be searched for phrases. Without paths, URLs and names of images: these are a
/// project's own words, and one may be called `acme/forbidden-lessons`.
struct Text(String);

impl Text {
    fn of(output: &ScriptOutput) -> Self {
        let lines = output.tail().join("\n").to_lowercase();
        let words: Vec<&str> = lines.split_whitespace().filter(|word| !word.contains('/')).collect();
        Self(format!(" {} ", words.join(" ")))
    }

    fn has(&self, phrases: &[&str]) -> bool {
        phrases.iter().any(|phrase| self.0.contains(phrase))
    }
}

/// Whether a project's log says that the disk is full.
pub(crate) fn is_disk_full(output: &ScriptOutput) -> bool {
    Text::of(output).has(&KERNEL_DISK_FULL)
}

/// Whether Docker's client itself says that the daemon is gone: then no state of a container is the project's fault. A
/// project's own log may hold the same phrase, but not at the beginning of a line.
pub(crate) fn is_docker_client_complaining(output: &ScriptOutput) -> bool {
    let beginnings = ["Cannot connect to the Docker daemon at ", "error during connect: "];
    output.tail().iter().any(|line| beginnings.iter().any(|beginning| line.starts_with(beginning)))
}

/// `failed CODE MESSAGE`, as a script's `die` reports it.
pub(crate) fn read_explained(output: &ScriptOutput) -> Option<StageError> {
    let (code, message) = output.value("failed")?.split_once(' ')?;
    Some(StageError::new(code.parse().ok()?, message).with_tail(output.tail()))
}

/// A failure that the script didn't explain: `code`, unless the disk is full or Docker is gone.
pub(crate) fn explain_unexpected(output: &ScriptOutput, code: ErrorCode, message: &str) -> StageError {
    let text = Text::of(output);
    let code = if text.has(&KERNEL_DISK_FULL) {
        ErrorCode::DiskFull
    } else if text.has(&DOCKER_GONE) {
        ErrorCode::DockerNotRunning
    } else {
        code
    };
    StageError::new(code, message).with_tail(output.tail())
}

/// Where the server lets `login` in, and then opens no session.
pub(crate) fn explain_no_session(login: &str) -> StageError {
    let message = format!("{login} is let in, but its sshd opens no session: see MaxSessions in its configuration");
    StageError::new(ErrorCode::SshCommandRefused, message)
}

/// A script in whose place something else ran for `login`, which ended as `how` says.
pub(crate) fn explain_other_program(login: &str, how: &str, output: &ScriptOutput) -> StageError {
    let tail = output.tail();
    if Text::of(output).has(&OUT_OF_PROCESSES) {
        let message = format!("the server has no process or memory left for a command of {login}");
        return StageError::new(ErrorCode::ServerConnectionLost, message).with_tail(tail);
    }
    if output.has_values() {
        let message = format!(
            "{login} is let in, but something else than a shell ran there, {how} and gave back what it was sent"
        );
        return StageError::new(ErrorCode::SshCommandRefused, message);
    }
    let said: String = tail.iter().take(WORDS_OF_OTHERS).map(|line| format!(" {}", line.trim())).collect();
    let said = if said.is_empty() { " nothing".to_owned() } else { cut(said) };
    let message =
        format!("{login} is let in, but something else than Slipway's command ran there, {how} and said:{said}");
    StageError::new(ErrorCode::SshCommandRefused, message).with_tail(tail)
}

/// A failed `docker compose up`.
pub(crate) fn explain_start(output: &ScriptOutput) -> StageError {
    let text = Text::of(output);
    let (code, what) = if text.has(&DISK_FULL) {
        (ErrorCode::DiskFull, "the server's disk is full")
    } else if text.has(&["port is already allocated", "address already in use"]) {
        (ErrorCode::PortOccupied, "something else has taken the project's port")
    } else if text.has(&["address pool", "fully subnetted"]) {
        (ErrorCode::NetworksExhausted, "docker has no address range left for the project's network")
    } else if text.has(&["iptables failed"]) {
        let what = "Docker's own firewall rules are gone from the server, as after another program has loaded its own: \
                    restart docker there";
        (ErrorCode::FirewallFailed, what)
    } else if text.has(&["range of cpus is from"]) {
        (ErrorCode::StartFailed, "a service is given more processors than the server has")
    } else if text.has(&DOCKER_GONE) {
        (ErrorCode::DockerNotRunning, "the docker daemon went away")
    } else if text.has(&["exec format error", "does not match the detected host platform"])
        || text.has(&OTHER_ARCHITECTURE)
    {
        (ErrorCode::WrongArchitecture, "an image is built for another architecture than the server's")
    } else if text.has(&["executable file not found", "no such file or directory: unknown"]) {
        (ErrorCode::StartFailed, "an image lacks the program that it's to start")
    } else {
        (ErrorCode::StartFailed, "docker compose up failed")
    };
    StageError::new(code, what).with_tail(output.tail())
}

#[cfg(test)]
mod registries;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_docker_that_is_gone_are_recognised_in_every_script() {
        let tails = [
            ("cat: write error: No space left on device", ErrorCode::DiskFull),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", ErrorCode::DockerNotRunning),
            ("ERROR: problem running iptables", ErrorCode::FirewallFailed),
        ];
        for (line, code) in tails {
            let mut output = ScriptOutput::default();
            output.push_tail(line.to_owned());
            let error = explain_unexpected(&output, ErrorCode::FirewallFailed, "ufw failed");
            assert_eq!((error.code, error.tail), (code, vec![line.to_owned()]));
        }
    }

    #[test]
    fn what_the_server_has_no_way_to_is_told_in_the_place_of_who_did_not_answer() {
        let found = |told: &[&str]| {
            let mut output = ScriptOutput::default();
            for line in [&["fetch failed"], told].concat() {
                assert_eq!(output.take_line("m", format!("m {line}").as_bytes()), None);
            }
            output.push_tail("fatal: unable to access: Couldn't connect to server; network is unreachable".to_owned());
            let (fetch, pull) = (explain_fetch(&output, "https://x"), explain_pull(&output));
            (fetch.code, pull.code, fetch.message)
        };
        let (git, registry, no_v4) =
            (ErrorCode::GitUnavailable, ErrorCode::RegistryUnavailable, ErrorCode::ServerLacksIpv4);
        for (told, codes, message) in [
            (
                &["asked x.y", "unrouted 1.2.3.4"][..],
                (no_v4, no_v4),
                "no route to IPv4 addresses, and x.y has no others (1.2.3.4)",
            ),
            (&["asked x.y", "unrouted 1.2.3.4", "unrouted fd00::1"], (git, registry), "no route to any address of x.y"),
            (&["asked x.y", "unrouted 1.2.3.4", "routed fd00::1"], (git, registry), ""),
            (&["asked x.y"], (git, registry), "can't resolve x.y"),
        ] {
            let (fetch, pull, said) = found(told);
            assert_eq!((fetch, pull), codes, "{told:?}");
            assert!(said.contains(message), "{said}");
        }
    }

    #[test]
    fn what_stands_between_is_named_and_neither_git_nor_a_credential_is_blamed() {
        for (line, cause) in [
            (
                "fatal: unable to access 'https://x/': server certificate verification failed. CAfile: none",
                "certificate",
            ),
            ("fatal: SSL certificate problem: self-signed certificate in certificate chain", "certificate"),
            ("fatal: Received HTTP code 407 from proxy after CONNECT", "proxy"),
            ("fatal: CONNECT tunnel failed, response 407", "proxy"),
            ("fatal: Could not resolve proxy: proxy.corp", "proxy"),
            ("Error response from daemon: Get \"https://x/v2/\": Proxy Authentication Required", "proxy"),
        ] {
            let mut output = ScriptOutput::default();
            assert_eq!(output.take_line("m", b"m fetch failed"), None);
            output.push_tail(line.to_owned());
            let error =
                if line.contains("daemon") { explain_pull(&output) } else { explain_fetch(&output, "https://x") };
            assert!(error.message.contains(cause) && error.code.class().retries(), "{line}: {error:?}");
        }
    }

    #[test]
    fn gits_words_become_codes() {
        let words = [
            ("fatal: remote error: upload-pack: not our ref 0123", ErrorCode::CommitNotFound),
            ("remote: Repository not found.", ErrorCode::RepositoryNotFound),
            (
                "fatal: unable to access 'https://x/': The requested URL returned error: 404",
                ErrorCode::RepositoryNotFound,
            ),
            ("fatal: Authentication failed for 'https://github.com/a/b.git/'", ErrorCode::GitCredentialRefused),
            ("fatal: unable to access 'https://x/': The requested URL returned error: 503", ErrorCode::GitUnavailable),
            ("remote: You have exceeded a secondary rate limit.", ErrorCode::GithubRateLimited),
            (
                "fatal: unable to access 'https://x/': The requested URL returned error: 429",
                ErrorCode::GithubRateLimited,
            ),
            (
                "remote: The `acme' organization has an IP allow list enabled, and 192.0.2.7 is not permitted to access it.",
                ErrorCode::GithubIpNotAllowed,
            ),
            (
                "remote: The `acme' organization has enabled or enforced SAML SSO. To access",
                ErrorCode::GithubSsoRequired,
            ),
            ("remote: This installation has been suspended", ErrorCode::GithubSuspended),
            ("error: RPC failed; HTTP 301 curl 22 The requested URL returned error: 301", ErrorCode::RepositoryMoved),
            (
                "fatal: unable to access 'https://x/acme/saml-suspended/': The requested URL returned error: 503",
                ErrorCode::GitUnavailable,
            ),
            ("fatal: unable to access 'https://x/': Could not resolve host: github.com", ErrorCode::GitUnavailable),
            (
                "remote: Repository `acme/shop' is disabled. Please ask the owner to check their account. error: 403",
                ErrorCode::RepositoryNotFound,
            ),
            ("error: file write error: No space left on device", ErrorCode::DiskFull),
            ("fatal: Out of memory, malloc failed (tried to allocate 9663676416 bytes)", ErrorCode::RepositoryTooLarge),
            ("remote: fatal: exceeded maximum allowed tree depth", ErrorCode::UnsupportedRepository),
            ("error: file write error: Read-only file system", ErrorCode::CheckoutFailed),
        ];
        for (line, code) in words {
            let mut output = ScriptOutput::default();
            assert_eq!(output.take_line("m", b"m fetch failed"), None);
            output.push_tail(line.to_owned());
            assert_eq!(explain_fetch(&output, "https://x").code, code, "{line}");
        }
    }
}
