//! Compose: images pulled, containers started, health proven.

use slipway_protocol::names::ServiceName;
use slipway_protocol::{ErrorCode, ServiceReport, Stage};

use crate::lines::ScriptOutput;
use crate::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn compose(&mut self) -> Result<StageReport, StageError> {
        let env = self.known_env(Stage::Compose).await?;
        // A digest and the tag of a commit never move; any other tag may.
        let fixed = |image: &String| image.contains(":sha-") || image.contains("@sha256:");
        let fixed = env.iter().filter(|(name, _)| name.ends_with("_IMAGE")).all(|(_, image)| fixed(image));
        // A module that isn't one of these may be a bot, with or without a port: two must not run with one token.
        let web = |module: &&ServiceName| matches!(module.as_str(), "backend" | "frontend");
        let rehearsed: Vec<_> = self.work.request.modules.iter().filter(web).cloned().collect();
        let script = Script::new("compose", scripts::COMPOSE)
            .words("rehearsed", &rehearsed)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .word("policy", &if fixed { "missing" } else { "always" })
            .number("limit", self.limit())
            .number("patience", self.config().health_timeout.as_secs());
        let outcome = self.exec(Stage::Compose, &script).await?;
        let said = match &outcome {
            Ok(said) | Err(said) => said,
        };
        let services = services(said);
        if outcome.is_err() {
            let error = StageError { services: services.into(), ..explain(said) };
            let touched = said.value("phase") != Some("pull");
            return Err(if touched { self.put_back(Stage::Compose, error).await } else { error });
        }
        let mut report = StageReport::of(said.value("change") == Some("changed"))
            .fact("services", services.len())
            .fact("rehearsed", said.values("rehearsed"));
        if let Some(proof) = said.value("proof") {
            report = report.fact("proof", proof);
        }
        report.services = services;
        Ok(report)
    }
}

/// The services as the gate tells them.
pub(super) fn services(said: &ScriptOutput) -> Vec<ServiceReport> {
    said.values("service").iter().filter_map(|line| service(line)).collect()
}

/// `service state health restarts exit-code image`.
fn service(line: &str) -> Option<ServiceReport> {
    let mut words = line.split(' ');
    let service = ServiceName::new(words.next()?).ok()?;
    let state = words.next()?.to_owned();
    let health = words.next().filter(|h| *h != "-").map(str::to_owned);
    let restarts = words.next()?.parse().ok()?;
    let image = words.nth(1)?.to_owned();
    Some(ServiceReport { service, state, health, image, restarts })
}

pub(super) fn explain(said: &ScriptOutput) -> StageError {
    let fail = |code, message: String| StageError::new(code, message).with_tail(said.tail());
    let mut verdict = said.value("verdict").unwrap_or_default().split(' ');
    let (kind, name) = (verdict.next().unwrap_or_default(), verdict.next().unwrap_or_default());
    let state = said.values("service").iter().find(|line| line.split(' ').next() == Some(name));
    let state = state.map(|line| line.split(' ').skip(1).take(4).collect::<Vec<_>>().join(" ")).unwrap_or_default();
    let full = said.tail().iter().any(|line| line.to_lowercase().contains("no space left on device"));
    match (said.value("phase"), kind) {
        _ if is_daemon_gone(said) => fail(ErrorCode::DockerNotRunning, "the docker daemon went away".to_owned()),
        (Some("pull"), _) => pull(said),
        (Some("rehearsal"), "unstartable") => start(said),
        (Some("rehearsal"), "crash-loop") => {
            fail(ErrorCode::CrashLoop, format!("service {name} exits when it's tried beside the running release"))
        }
        (Some("rehearsal"), _) => {
            let message = format!("service {name} doesn't become healthy when it's tried beside the running release");
            fail(ErrorCode::Unhealthy, message)
        }
        (_, "crash-loop") if full => {
            fail(ErrorCode::DiskFull, format!("service {name} exits, and its log says that the disk is full"))
        }
        (_, "crash-loop") if state.starts_with("exited") => {
            fail(ErrorCode::CrashLoop, format!("service {name} has exited (state, health, restarts, code: {state})"))
        }
        (_, "crash-loop") => {
            fail(ErrorCode::CrashLoop, format!("service {name} keeps exiting (state, health, restarts, code: {state})"))
        }
        (_, "unhealthy") => fail(ErrorCode::Unhealthy, format!("the health check of service {name} doesn't pass")),
        (Some("done"), "wait") => fail(
            ErrorCode::Unhealthy,
            format!("service {name} didn't become stable in time (state, health, restarts, code: {state})"),
        ),
        _ => start(said),
    }
}

/// Whether the client itself complains of the daemon: then no verdict about a container says anything of the project.
fn is_daemon_gone(said: &ScriptOutput) -> bool {
    let words = ["Cannot connect to the Docker daemon at ", "error during connect: "];
    said.tail().iter().any(|line| words.iter().any(|words| line.starts_with(words)))
}

/// The same of a failed `up`.
fn start(said: &ScriptOutput) -> StageError {
    let text = said.tail().join("\n").to_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| text.contains(w));
    let (code, what) = if any(&["no space left", "disk quota"]) {
        (ErrorCode::DiskFull, "the server's disk is full")
    } else if any(&["port is already allocated", "address already in use"]) {
        (ErrorCode::PortOccupied, "something else has taken the project's port")
    } else if any(&["address pool", "fully subnetted"]) {
        (ErrorCode::NetworksExhausted, "docker has no address range left for the project's network")
    } else if any(&["cannot connect to the docker daemon", "is the docker daemon running", "error during connect"]) {
        // As part of another line.
        (ErrorCode::DockerNotRunning, "the docker daemon went away")
    } else if any(&["exec format error", "no matching manifest", "does not match the detected host platform"]) {
        (ErrorCode::StartFailed, "an image is built for another architecture than the server's")
    } else if any(&["executable file not found", "no such file or directory: unknown"]) {
        (ErrorCode::StartFailed, "an image lacks the program that it's to start")
    } else {
        (ErrorCode::StartFailed, "docker compose up failed")
    };
    StageError::new(code, what).with_tail(said.tail())
}

/// Docker has no codes for a failed pull: its words decide.
fn pull(said: &ScriptOutput) -> StageError {
    let text = said.tail().join("\n").to_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| text.contains(w));
    let (code, what) = if any(&["manifest unknown", "not found", "no such manifest"]) && !any(&["lookup"]) {
        (ErrorCode::ImageNotFound, "an image isn't in the registry")
    } else if any(&["unauthorized", "denied", "no basic auth credentials", "authentication required", "forbidden"]) {
        (ErrorCode::RegistryCredentialRefused, "the registry refused the credential for an image")
    } else if any(&["no space left", "disk quota"]) {
        (ErrorCode::DiskFull, "the server's disk is full")
    } else if any(&["toomanyrequests", "too many requests", "rate limit"]) {
        (ErrorCode::RegistryRateLimited, "the registry allows no more pulls for now")
    } else if any(&["cannot connect to the docker daemon", "is the docker daemon running"]) {
        (ErrorCode::DockerNotRunning, "the docker daemon went away")
    } else if any(&[
        "connection refused",
        "no such host",
        "timeout",
        "timed out",
        "tls handshake",
        "502 ",
        "503 ",
        "504 ",
        "500 internal",
        "eof",
        "connection reset",
        "network is unreachable",
        "no route to host",
        "temporary failure",
    ]) {
        (ErrorCode::RegistryUnavailable, "the registry doesn't answer")
    } else {
        (ErrorCode::PullFailed, "docker compose pull failed")
    };
    StageError::new(code, what).with_tail(said.tail())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &[&str], tail: &[&str]) -> ScriptOutput {
        let mut said = ScriptOutput::default();
        for value in values {
            assert_eq!(said.take("m", format!("m {value}").as_bytes()), None);
        }
        tail.iter().for_each(|line| said.keep((*line).to_owned()));
        said
    }

    #[test]
    fn dockers_words_about_a_pull_become_codes() {
        let words = [
            ("manifest for ghcr.io/a/b:sha-1 not found: manifest unknown", ErrorCode::ImageNotFound),
            ("Head \"https://ghcr.io/v2/a/b\": unauthorized", ErrorCode::RegistryCredentialRefused),
            ("dial tcp: lookup ghcr.io: no such host", ErrorCode::RegistryUnavailable),
            ("write /var/lib/docker/tmp: no space left on device", ErrorCode::DiskFull),
            ("toomanyrequests: You have reached your pull rate limit", ErrorCode::RegistryRateLimited),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", ErrorCode::DockerNotRunning),
            ("something else", ErrorCode::PullFailed),
        ];
        for (line, code) in words {
            assert_eq!(explain(&said(&["phase pull"], &[line])).code, code, "{line}");
        }
    }

    #[test]
    fn a_daemon_that_went_away_is_no_fault_of_the_project() {
        let tails = [
            "error during connect: Post \"http://%2Fvar%2Frun%2Fdocker.sock/v1.45/containers/x/start\": EOF",
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
        ];
        for tail in tails {
            for values in [["phase pull", "verdict ok"], ["phase rehearsal", "verdict crash-loop backend"]] {
                assert_eq!(explain(&said(&values, &[tail])).code, ErrorCode::DockerNotRunning, "{values:?}");
            }
        }
        let other = said(&["phase rehearsal", "verdict crash-loop backend"], &["app: cannot connect"]);
        assert_eq!(explain(&other).code, ErrorCode::CrashLoop);
    }

    #[test]
    fn dockers_words_about_a_start_become_codes() {
        let words = [
            ("failed to register layer: write /usr/x: no space left on device", ErrorCode::DiskFull),
            ("Bind for 0.0.0.0:8080 failed: port is already allocated", ErrorCode::PortOccupied),
            (
                "could not find an available, non-overlapping IPv4 address pool among the defaults",
                ErrorCode::NetworksExhausted,
            ),
            ("all predefined address pools have been fully subnetted", ErrorCode::NetworksExhausted),
            ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock", ErrorCode::DockerNotRunning),
            ("exec: \"/app/serve\": stat /app/serve: no such file or directory: unknown", ErrorCode::StartFailed),
            ("something else", ErrorCode::StartFailed),
        ];
        for (line, code) in words {
            for verdict in ["ok", "wait backend"] {
                let values = ["phase failed".to_owned(), format!("verdict {verdict}")];
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                assert_eq!(explain(&said(&values, &[line])).code, code, "{line}");
            }
        }
    }

    #[test]
    fn the_gates_verdict_becomes_a_code_that_names_the_service() {
        let service = "service backend restarting - 4 1 ghcr.io/a/b:sha-1234567";
        let error = explain(&said(&[service, "phase done", "verdict crash-loop backend"], &["boom"]));
        assert_eq!(error.code, ErrorCode::CrashLoop);
        assert!(error.message.contains("backend"), "{error}");
        assert_eq!(error.tail, ["boom"]);
        let error = explain(&said(&["phase failed", "verdict ok"], &[]));
        assert_eq!(error.code, ErrorCode::StartFailed);
    }
}
