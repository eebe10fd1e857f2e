//! Whether a server has the programs that any project needs, read from what a script has told. What a single deployment
//! needs beside them is judged in `preflight`.

use slipway_protocol::ErrorCode;

use crate::project::compose_versions::bug_for_everybody;
use crate::project::health_check::version;
use crate::remote::output::ScriptOutput;

/// The first that works in another directory than its caller's (`-C`) and is everywhere but on systems without support.
const MIN_GIT: (u32, u32) = (2, 0);
const MIN_DOCKER: (u32, u32) = (24, 0);
/// The first that lists the variables of a project, and prints JSON for JSON.
const MIN_COMPOSE: (u32, u32) = (2, 26);

/// Something that keeps the server from taking the deployment.
pub(crate) type PreflightDefect = (ErrorCode, String);

/// What the system itself lacks.
pub(crate) fn program_defects(output: &ScriptOutput) -> Vec<PreflightDefect> {
    let mut defects = Vec::new();
    let system = output.value("system").unwrap_or_default();
    if !matches!(system, "Linux x86_64" | "Linux aarch64") {
        defects.push((ErrorCode::UnsupportedOs, format!("the server runs {system}")));
    }
    match output.value("git").map(|git| git.trim_start_matches("git version ")) {
        None => defects.push((ErrorCode::GitMissing, "there is no git on the server".to_owned())),
        Some(git) if version(git) < MIN_GIT => {
            defects.push((ErrorCode::GitMissing, format!("the server has git {git}, which is too old: 2.0 is needed")));
        }
        Some(_) => {}
    }
    defects
}

/// One defect at most: without a client nothing is known of the daemon, without a daemon nothing of Compose.
pub(crate) fn docker_defect(output: &ScriptOutput) -> Option<PreflightDefect> {
    if output.value("docker_client").is_none() {
        return Some((ErrorCode::DockerMissing, "there is no docker on the server".to_owned()));
    }
    if output.value("docker_is") == Some("podman") {
        let message =
            "docker on the server is podman under another name: remove that (podman-docker), and install Docker Engine";
        return Some((ErrorCode::DockerMissing, message.to_owned()));
    }
    let Some(docker) = output.value("docker") else {
        let elsewhere = output.value("docker_of_others").map_or_else(String::new, |socket| {
            format!("; the one at {socket} is a user's own and has no root's rights, which a deployment needs")
        });
        return Some((
            ErrorCode::DockerNotRunning,
            format!("docker is installed but its daemon doesn't answer{elsewhere}"),
        ));
    };
    if version(docker) < MIN_DOCKER {
        return Some((ErrorCode::DockerTooOld, format!("the server has Docker {docker}; 24 is needed")));
    }
    let Some(compose) = output.value("compose") else {
        let elsewhere = output.value("compose_of_others").map_or_else(String::new, |place| {
            format!(
                " but {place}, which is that user's alone: install it for all, in /usr/local/lib/docker/cli-plugins"
            )
        });
        return Some((ErrorCode::ComposeMissing, format!("the server has no Docker Compose plugin{elsewhere}")));
    };
    let too_old = || format!("the server has Docker Compose {compose}; 2.26.0 is needed");
    let defect = if version(compose) < MIN_COMPOSE { Some(too_old()) } else { bug_for_everybody(compose) };
    if let Some(defect) = defect {
        return Some((ErrorCode::ComposeTooOld, defect));
    }
    output.value("confined").map(|client| {
        let message = format!(
            "{client} is confined, as one from snap is: it can't read what is below the projects' directory and /dev/shm"
        );
        (ErrorCode::DockerConfined, message)
    })
}
