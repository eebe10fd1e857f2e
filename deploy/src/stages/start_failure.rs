//! What a start has failed by: the verdict of the scripts' stability gate, or the words of compose, as an error. The phrases
//! by which Docker's own errors are recognised are in `remote::failure_phrases`.

use slipway_protocol::ErrorCode;

use crate::StageError;
use crate::remote::failure_phrases;
use crate::remote::output::ScriptOutput;

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
        (Some("rehearsal" | "bots" | "done"), "gone") => {
            let what = if name == "-" { "a container" } else { &format!("the container of service {name}") };
            let message = format!("{what} was removed while it was watched: see who removes containers on the server");
            fail(ErrorCode::Unhealthy, message)
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
        (_, "crash-loop") => {
            let how = if state.starts_with("exited") { "has exited" } else { "keeps exiting" };
            fail(ErrorCode::CrashLoop, format!("service {name} {how} (state, health, restarts, code: {state})"))
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
        for verdict in ["verdict ok", "verdict gone backend"] {
            assert_eq!(explain_failure(&output(&["phase failed", verdict], &[])).code, ErrorCode::StartFailed);
        }
        for (verdict, what) in
            [("verdict gone backend", "the container of service backend"), ("verdict gone -", "a container")]
        {
            for phase in ["phase done", "phase bots", "phase rehearsal"] {
                let error = explain_failure(&output(&[phase, verdict], &[]));
                let expected = format!("{what} was removed while it was watched");
                assert!(error.code == ErrorCode::Unhealthy && error.message.starts_with(&expected), "{phase}: {error}");
            }
        }
        let error = explain_failure(&output(&["phase rehearsal", "verdict unended migrate"], &[]));
        assert!(
            error.code == ErrorCode::Unhealthy && error.message.starts_with("service migrate hasn't ended"),
            "{error}"
        );
    }
}
