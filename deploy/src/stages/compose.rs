//! Compose: images pulled, containers started, health proven. The phrases by which docker's own errors are recognised
//! are in `remote::failure_phrases`.

use secrecy::ExposeSecret as _;
use slipway_protocol::names::ServiceName;
use slipway_protocol::{Action, ErrorCode, ServiceReport, Stage};

use super::after_ci::are_kept;
use super::door::{add_replacements, with_door};
use super::service_check::{CheckedService, ServiceCheck, checked_services};
use super::verify::warm_up;
use crate::project::grants::JudgedModel;
use crate::project::image_tag;
use crate::remote::failure_phrases;
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn compose(&mut self) -> Result<StageReport, StageError> {
        let outcome = self.run_compose("").await?;
        let output = match &outcome {
            Ok(output) | Err(output) => output,
        };
        let mut services = parse_services(output);
        add_replacements(&mut services, output);
        if outcome.is_err() {
            let error = StageError { services: services.into(), ..explain_failure(output) };
            // Whatever a move leaves here is taken away.
            let touched = output.value("phase") != Some("pull") && self.work.action != Action::Move;
            return Err(if touched { self.restore_after(Stage::Compose, error).await } else { error });
        }
        self.note_firewall(output);
        let mut report = StageReport::of(output.value("change") == Some("changed"))
            .fact("services", services.len())
            .fact("rehearsed", output.values("rehearsed"));
        if let Some(proof) = output.value("proof") {
            report = report.fact("proof", proof);
        }
        report.services = services;
        Ok(with_door(report, output))
    }

    /// Pulls the images alone, while what is to be replaced serves elsewhere.
    pub(super) async fn pull_ahead(&mut self) -> Result<(), StageError> {
        match self.run_compose("pulled").await? {
            Ok(_) => Ok(()),
            Err(output) => Err(explain_failure(&output)),
        }
    }

    async fn run_compose(&mut self, until: &'static str) -> Result<Result<ScriptOutput, ScriptOutput>, StageError> {
        let env = self.known_env(Stage::Compose).await?;
        // A digest and the tag of a commit never move; any other tag may.
        let images = || env.iter().filter(|(name, _)| name.ends_with("_IMAGE")).map(|(_, image)| image);
        let own = self.own_images();
        let fixed =
            images().all(|image| image_tag::is_fixed(image)) || are_kept(&self.work.request, images(), own.as_str());
        if let Some(image) = images().find(|image| image.starts_with(own.as_str())) {
            self.try_login(image).await;
        }
        let (rehearsed, bots) = self.rehearsed_and_bots();
        let judged = self.judged_model().await?;
        let paths: String = judged.paths.iter().map(|path| format!("{path}\n")).collect();
        let script = Script::new("compose", scripts::COMPOSE)
            .hex("judged", &judged.digest)
            .bytes("paths", paths.as_bytes())
            .words("rehearsed", &rehearsed)
            .words("bots", &bots)
            .bytes("checks", self.rehearsal_checks().as_bytes())
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .bytes("auth", self.registry_login().expose_secret().as_bytes())
            .word("policy", &if fixed { "missing" } else { "always" })
            .number("limit", self.script_limit())
            .number("patience", self.config().health_timeout.as_secs())
            .word("wanted_commit", &self.work.request.repository.commit)
            .word("door", &self.door_image())
            .bytes("acme", self.acme_lines().expose_secret().as_bytes())
            .number("drain", self.drain_seconds())
            .number("proving", self.proving_seconds())
            .words("ports", &super::published_ports(&self.work.request))
            // It was migrated when it came, and may refuse what later ones have made of the data.
            .word("putting_back", &if self.work.action == Action::Rollback { "yes" } else { "" })
            .word("until", &until);
        if until.is_empty() {
            self.ask_github_ahead(&env);
        }
        self.exec(Stage::Compose, &script).await
    }

    /// What stage env has judged, or else, where an earlier attempt has run it, what is there now.
    async fn judged_model(&mut self) -> Result<JudgedModel, StageError> {
        if let Some(judged) = &self.judged {
            return Ok(judged.clone());
        }
        let seen = self.read_env(Stage::Compose).await?;
        self.judge_model(Stage::Compose, &seen.model).await
    }

    /// What `rehearse.sh` asks each service for: lines `SERVICE PORT HOST WARM_UP STATUSES PATH`.
    pub(super) fn rehearsal_checks(&self) -> String {
        let checked = checked_services(&self.work.request, &self.work.target.address.url_form());
        let line = |checked: &CheckedService| {
            let ServiceCheck::Page { path, health } = &checked.check else { return None };
            let statuses: Vec<String> = health.statuses.iter().map(u16::to_string).collect();
            let statuses = if statuses.is_empty() { "-".to_owned() } else { statuses.join(",") };
            let warm_up = warm_up(health, self.config().health_timeout).as_secs();
            let (CheckedService { service, inner, .. }, host) = (checked, checked.asked_host());
            Some(format!("{service} {inner} {host} {warm_up} {statuses} {path}\n"))
        };
        checked.iter().filter_map(line).collect()
    }

    /// The web services, and the other modules: each of these may be a bot, with or without a port, and two bots must not
    /// run with one token.
    pub(super) fn rehearsed_and_bots(&self) -> (Vec<ServiceName>, Vec<ServiceName>) {
        self.work.request.modules.iter().cloned().partition(ServiceName::serves_web)
    }
}

/// The services as the gate script reports them.
pub(super) fn parse_services(output: &ScriptOutput) -> Vec<ServiceReport> {
    output.values("service").iter().filter_map(|line| parse_service(line)).collect()
}

/// `service state health restarts exit-code image`.
pub(super) fn parse_service(line: &str) -> Option<ServiceReport> {
    let mut columns = line.split(' ');
    let service = ServiceName::new(columns.next()?).ok()?;
    let state = columns.next()?.to_owned();
    let health = columns.next().filter(|h| *h != "-").map(str::to_owned);
    let restarts = columns.next()?.parse().ok()?;
    let image = columns.nth(1)?.to_owned();
    Some(ServiceReport { service, state, health, image, restarts, replaced: None })
}

/// The error for what the gate script found, or for a `docker compose` that failed.
pub(super) fn explain_failure(output: &ScriptOutput) -> StageError {
    let fail = |code, message: String| StageError::new(code, message).with_tail(output.tail());
    let mut verdict = output.value("verdict").unwrap_or_default().split(' ');
    let (kind, name) = (verdict.next().unwrap_or_default(), verdict.next().unwrap_or_default());
    let state = output.values("service").iter().find(|line| line.split(' ').next() == Some(name));
    let state = state.map(|line| line.split(' ').skip(1).take(4).collect::<Vec<_>>().join(" ")).unwrap_or_default();
    let full = failure_phrases::is_disk_full(output);
    match (output.value("phase"), kind) {
        _ if failure_phrases::is_docker_client_complaining(output) => {
            fail(ErrorCode::DockerNotRunning, "the docker daemon went away".to_owned())
        }
        (Some("pull"), _) => failure_phrases::explain_pull(output),
        (Some("rehearsal"), "unstartable") => failure_phrases::explain_start(output),
        (Some("rehearsal"), "crash-loop") => {
            fail(ErrorCode::CrashLoop, format!("service {name} exits when it's tried beside the running release"))
        }
        (Some("rehearsal"), "unended") => {
            let message = format!("service {name} hasn't ended in time, and other services wait until it has");
            fail(ErrorCode::Unhealthy, message)
        }
        (Some("rehearsal"), "another") => {
            let commit = output.value("answered_as").unwrap_or("another one");
            let message =
                format!("service {name} answers as commit {commit} when it's tried beside the running release");
            fail(ErrorCode::WrongVersion, message)
        }
        (Some("rehearsal"), "deaf") => {
            let port = output.value("asked").unwrap_or_default().split(' ').next().unwrap_or_default();
            let message = format!(
                "service {name} doesn't listen on port {port} of its container when it's tried beside the running \
                 release: it must, on all addresses"
            );
            fail(ErrorCode::NotListening, message)
        }
        (Some("rehearsal"), "ill") => {
            let answer = match output.value("answered") {
                Some("mute") | None => "gives no answer over HTTP",
                Some(status) => &format!("answers {status}"),
            };
            let path = output.value("asked").unwrap_or_default().rsplit(' ').next().unwrap_or_default();
            let message = format!("service {name} {answer} at {path} when it's tried beside the running release");
            fail(ErrorCode::NotHealthy, message)
        }
        (Some("rehearsal"), _) => {
            let message = format!("service {name} doesn't become healthy when it's tried beside the running release");
            fail(ErrorCode::Unhealthy, message)
        }
        (_, "crash-loop") if full => {
            fail(ErrorCode::DiskFull, format!("service {name} exits, and its log says that the disk is full"))
        }
        (Some("bots"), "crash-loop") => fail(
            ErrorCode::CrashLoop,
            format!(
                "service {name} exits when it's started before the web services are replaced (state, health, restarts, \
                 code: {state}); where it can't do without the new ones, set the variable SLIPWAY_REHEARSAL to off"
            ),
        ),
        (_, "crash-loop") if state.starts_with("exited") => {
            fail(ErrorCode::CrashLoop, format!("service {name} has exited (state, health, restarts, code: {state})"))
        }
        (_, "crash-loop") => {
            fail(ErrorCode::CrashLoop, format!("service {name} keeps exiting (state, health, restarts, code: {state})"))
        }
        (_, "unhealthy") => fail(ErrorCode::Unhealthy, format!("the health check of service {name} doesn't pass")),
        (Some("done" | "bots"), "wait") => fail(
            ErrorCode::Unhealthy,
            format!("service {name} didn't become stable in time (state, health, restarts, code: {state})"),
        ),
        _ => failure_phrases::explain_start(output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(values: &[&str], tail: &[&str]) -> ScriptOutput {
        let mut output = ScriptOutput::default();
        for value in values {
            assert_eq!(output.take_line("m", format!("m {value}").as_bytes()), None);
        }
        tail.iter().for_each(|line| output.push_tail((*line).to_owned()));
        output
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
            assert_eq!(explain_failure(&output(&["phase pull"], &[line])).code, code, "{line}");
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
                assert_eq!(explain_failure(&output(&values, &[tail])).code, ErrorCode::DockerNotRunning, "{values:?}");
            }
        }
        let other = output(&["phase rehearsal", "verdict crash-loop backend"], &["app: cannot connect"]);
        assert_eq!(explain_failure(&other).code, ErrorCode::CrashLoop);
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
            (
                "driver failed programming external connectivity on endpoint shop-db-1 (a1): (iptables failed: iptables \
                 --wait -t nat -A DOCKER: iptables: No chain/target/match by that name. (exit status 1))",
                ErrorCode::FirewallFailed,
            ),
            ("exec: \"/app/serve\": stat /app/serve: no such file or directory: unknown", ErrorCode::StartFailed),
            ("something else", ErrorCode::StartFailed),
        ];
        for (line, code) in words {
            for verdict in ["ok", "wait backend"] {
                let values = ["phase failed".to_owned(), format!("verdict {verdict}")];
                let values: Vec<&str> = values.iter().map(String::as_str).collect();
                assert_eq!(explain_failure(&output(&values, &[line])).code, code, "{line}");
            }
        }
    }

    #[test]
    fn the_gates_verdict_becomes_a_code_that_names_the_service() {
        let service = "service backend restarting - 4 1 ghcr.io/a/b:sha-1234567";
        let error = explain_failure(&output(&[service, "phase done", "verdict crash-loop backend"], &["boom"]));
        assert_eq!(error.code, ErrorCode::CrashLoop);
        assert!(error.message.contains("backend"), "{error}");
        assert_eq!(error.tail, ["boom"]);
        let error = explain_failure(&output(&["phase failed", "verdict ok"], &[]));
        assert_eq!(error.code, ErrorCode::StartFailed);
        let error = explain_failure(&output(&["phase rehearsal", "verdict unended migrate"], &[]));
        assert!(
            error.code == ErrorCode::Unhealthy && error.message.starts_with("service migrate hasn't ended"),
            "{error}"
        );
    }
}
