//! Preflight: is the server fit, and is the port free or the project's own? Who holds a port is read in `port_holders`.

use slipway_protocol::names::Slug;
use slipway_protocol::{ErrorCode, Stage};

use super::clocks::{ASK_TIME, Clocks};
use super::door::with_door;
use super::fitness::{PreflightDefect, docker_defect, program_defects};
use super::port_holders::{describe_occupied, describe_stopped, occupied_ports};
use crate::remote::output::ScriptOutput;
use crate::{Attempt, StageError, StageReport};

const MIN_DISK_KB: u64 = 1024 * 1024;
const MIN_INODES: u64 = 10_000;
const MIN_MEMORY_KB: u64 = 64 * 1024;

impl Attempt {
    pub(crate) async fn preflight(&mut self) -> Result<StageReport, StageError> {
        let asking = self.ask_what_is_there();
        let domains = self.look_up_domains();
        let output = self.look_at_server(&self.request_digest()).await?;
        self.domain_defects = domains.join_all().await.into_iter().flatten().collect();
        self.compare_clocks(&output).await;
        if output.value("report").is_none() {
            return self.judge_anew(&output);
        }
        match self.prove(output, asking).await {
            Ok(report) => Ok(report),
            Err(why) => {
                let output = self.look_at_server("").await?;
                Ok(self.judge_anew(&output)?.fact("not_as_left", why))
            }
        }
    }

    /// Asks the registry for the time where the server's clock and the worker's differ.
    async fn compare_clocks(&mut self, output: &ScriptOutput) {
        let mut clocks = Clocks::now();
        if clocks.differ(output) {
            clocks.registrys = tokio::time::timeout(ASK_TIME, self.registry().clock()).await.ok().flatten();
        }
        if let Some(warning) = clocks.warning(output) {
            self.report_line(Stage::Preflight, &warning);
        }
        self.registrys_clock = clocks.registrys;
    }

    pub(super) fn judge_server(&self, output: &ScriptOutput) -> Result<StageReport, StageError> {
        let (root, registry) = (self.root().as_str(), self.image_registry().as_str());
        let place = Place { root, registry, domains: &self.domain_defects };
        let clocks = Clocks { registrys: self.registrys_clock, ..Clocks::now() };
        judge(output, &self.work.request.project.slug, &place, clocks).map(|report| with_door(report, output))
    }
}

/// The names that the script was given, for messages, and what is wrong with the project's domains.
struct Place<'a> {
    root: &'a str,
    registry: &'a str,
    domains: &'a [String],
}

/// Makes facts of the script's output, or one error that names every defect.
fn judge(output: &ScriptOutput, slug: &Slug, place: &Place<'_>, clocks: Clocks) -> Result<StageReport, StageError> {
    let mut defects = system_defects(output, place);
    defects.extend(place.domains.iter().map(|message| (ErrorCode::DomainNotHere, message.clone())));
    match rights_defect(output) {
        Some(defect) => defects.push(defect),
        None => {
            defects.extend(root_defect(output, place));
            defects.extend(docker_defect(output));
        }
    }
    defects.extend(resource_defects(output));
    defects.extend(clocks.defect(output));
    defects.extend(describe_occupied(output, slug).into_iter().map(|message| (ErrorCode::PortOccupied, message)));
    // A defect that needs a person comes first, since retrying can't help then.
    defects.sort_by_key(|(code, _)| code.class().retries());
    if let Some((code, _)) = defects.first() {
        let all: Vec<&str> = defects.iter().map(|(_, message)| message.as_str()).collect();
        let mut error = StageError::new(*code, all.join("; ")).with_tail(output.tail());
        error.detail.occupied_ports = occupied_ports(output, slug);
        return Err(error);
    }
    let fact = |name: &str| output.value(name).unwrap_or("unknown").to_owned();
    let number = |name: &str| smallest(output, name).map_or(serde_json::Value::Null, Into::into);
    Ok(StageReport::of(false)
        .fact("os", fact("os"))
        .fact("system", fact("system"))
        .fact("emulates", output.value("emulates").unwrap_or_default())
        .fact("git", fact("git").trim_start_matches("git version "))
        .fact("docker", fact("docker"))
        .fact("compose", fact("compose"))
        .fact("ufw", fact("ufw"))
        .fact("user", fact("user"))
        .fact("stopped_containers_with_the_ports", describe_stopped(output, slug))
        .fact("disk_free_kb", number("disk_kb"))
        .fact("memory_available_kb", number("memory_kb")))
}

fn system_defects(output: &ScriptOutput, place: &Place<'_>) -> Vec<PreflightDefect> {
    let mut defects = program_defects(output);
    if output.value("resolves").is_none() {
        let message = format!("the server can't resolve the registry's name, {}", place.registry);
        defects.push((ErrorCode::RegistryUnresolvable, message));
    }
    defects
}

/// Everything that a user without root's rights can't do is one defect: it has one reason and one remedy.
fn rights_defect(output: &ScriptOutput) -> Option<PreflightDefect> {
    if output.value("root").is_some() {
        return None;
    }
    let missing: Vec<_> = [
        (output.value("writable").is_none(), "write the projects' directory"),
        (output.value("docker_client").is_some() && output.value("docker").is_none(), "talk to Docker"),
        (output.value("ufw") != Some("absent"), "see the firewall"),
        // Whatever else it may do: in a room of their own they are only read by root.
        (true, "keep projects' files apart"),
    ]
    .into_iter()
    .filter_map(|(lacks, what)| lacks.then_some(what))
    .collect();
    let user = output.value("user").unwrap_or("unknown");
    let said = output.value("sudo").unwrap_or_default();
    let remedy =
        if said.contains("tty") { format!(" (`Defaults:{user} !requiretty` in sudoers)") } else { String::new() };
    let said = if said.is_empty() { String::new() } else { format!("; sudo says: {said}{remedy}") };
    let message =
        format!("user {user} isn't root, has no passwordless sudo, and can't {} without{said}", missing.join(", "));
    Some((ErrorCode::SudoMissing, message))
}

fn root_defect(output: &ScriptOutput, place: &Place<'_>) -> Option<PreflightDefect> {
    let message = format!("{} can't be written", place.root);
    output.value("writable").is_none().then_some((ErrorCode::ProjectRootNotWritable, message))
}

fn resource_defects(output: &ScriptOutput) -> Vec<PreflightDefect> {
    let mut defects = Vec::new();
    let below = |name, least| smallest(output, name).filter(|v| *v < least);
    if let Some(free) = below("disk_kb", MIN_DISK_KB) {
        defects.push((ErrorCode::DiskFull, format!("{} MiB are free on the server; 1 GiB is needed", free / 1024)));
    }
    if let Some(free) = below("inodes", MIN_INODES) {
        defects.push((ErrorCode::InodesExhausted, format!("{free} inodes are free on the server; 10000 are needed")));
    }
    if let Some(free) = below("memory_kb", MIN_MEMORY_KB) {
        defects.push((ErrorCode::MemoryLow, format!("{} MiB of memory are available; 64 are needed", free / 1024)));
    }
    defects
}

/// The smallest of the numbers under `name`; a file system without a count has `-` there.
fn smallest(output: &ScriptOutput, name: &str) -> Option<u64> {
    output.values(name).iter().filter_map(|v| v.parse().ok()).min()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use slipway_protocol::names::Port;

    use super::*;

    const FIT: &str = "system Linux x86_64\nos Debian\nclock 1000\nmemory_kb 900000\ngit git version 2.39\n\
        user root\nroot yes\nresolves yes\n\
        docker_client present\ndocker 26.1.5+dfsg1\ncompose 2.26.1-4\nwritable yes\ndisk_kb 9000000\ninodes -\nufw inactive";

    #[test]
    fn fuzzed_facts_of_a_server_are_judged() {
        let told = format!("{FIT}container 8080 /x-backend-1 running shop\nprocess 8080 nginx 1\n");
        let origins = r#"container_origin ["backend",true,"sha256:1","a/b:sha-0123456","",["8080"]]
image_origin ["sha256:1","0123456789abcdef0123456789abcdef01234567","https://github.com/a/b"]
service backend running healthy 0 0 a:b
failed disk-full no room
"#;
        let repository = slipway_protocol::names::RepositoryName::new("a/b").expect("a repository");
        slipway_protocol::fuzz::run("a server's facts", &[told.as_bytes(), origins.as_bytes()], |input| {
            let mut output = ScriptOutput::default();
            for line in input.split(|byte| *byte == b'\n') {
                output.take_line("m", &[b"m ", line].concat());
            }
            let slug = Slug::new("shop").expect("a slug");
            let place = Place { root: "/opt/services", registry: "ghcr.io", domains: &[] };
            let _ = judge(&output, &slug, &place, Clocks { workers: u64::MAX / 2, registrys: None });
            let _ = super::super::origin::read_origins(&output, &repository);
            let _ = super::super::compose::parse_services(&output);
            let _ = super::super::served_commit::find_commit(input);
            let _ = crate::remote::failure_phrases::read_explained(&output);
        });
    }

    fn verdict(change: impl Fn(&str) -> String) -> Result<StageReport, StageError> {
        let mut output = ScriptOutput::default();
        for line in change(FIT).lines() {
            assert_eq!(output.take_line("m", format!("m {line}").as_bytes()), None);
        }
        let place = Place { root: "/opt/services", registry: "ghcr.io", domains: &[] };
        judge(&output, &Slug::new("shop").expect("a slug"), &place, Clocks { workers: 1000, registrys: None })
    }

    #[test]
    fn a_fit_server_passes_and_its_versions_are_facts() {
        let report = verdict(str::to_owned).expect("fit");
        assert_eq!(report.facts["docker"], "26.1.5+dfsg1");
        assert_eq!(report.facts["ufw"], "inactive");
    }

    #[test]
    fn each_defect_has_its_code() {
        let defects = [
            ("Linux x86_64", "Darwin arm64", ErrorCode::UnsupportedOs),
            ("git git version 2.39\n", "", ErrorCode::GitMissing),
            ("git version 2.39", "git version 1.8.3.1", ErrorCode::GitMissing),
            ("docker_client present\n", "", ErrorCode::DockerMissing),
            ("docker 26.1.5+dfsg1\n", "", ErrorCode::DockerNotRunning),
            ("docker 26.1.5+dfsg1\n", "docker_of_others /run/user/1000/docker.sock\n", ErrorCode::DockerNotRunning),
            ("docker 26.1.5+dfsg1\n", "docker_is podman\n", ErrorCode::DockerMissing),
            ("26.1.5+dfsg1", "23.0.6", ErrorCode::DockerTooOld),
            ("compose 2.26.1-4\n", "", ErrorCode::ComposeMissing),
            ("2.26.1-4", "v2.25.0", ErrorCode::ComposeTooOld),
            ("compose 2.26.1-4", "compose 2.26.1-4\nconfined /snap/bin/docker", ErrorCode::DockerConfined),
            ("2.26.1-4", "2.27.1", ErrorCode::ComposeTooOld),
            ("writable yes\n", "", ErrorCode::ProjectRootNotWritable),
            ("disk_kb 9000000", "disk_kb 9000000\ndisk_kb 1000", ErrorCode::DiskFull),
            ("inodes -", "inodes 12", ErrorCode::InodesExhausted),
            ("memory_kb 900000", "memory_kb 9000", ErrorCode::MemoryLow),
            ("clock 1000", "clock 2000", ErrorCode::ClockSkewed),
            ("ufw inactive", "ufw inactive\nprocess 8080 nginx 77", ErrorCode::PortOccupied),
            // Whose port it is, only the daemon knows that doesn't answer.
            ("docker 26.1.5+dfsg1\ncompose", "process 8080 docker-proxy 77\ncompose", ErrorCode::DockerNotRunning),
            ("ufw inactive", "ufw inactive\ncontainer 8080 other-web-1 running other", ErrorCode::PortOccupied),
            ("ufw inactive", "ufw inactive\ncontainer 8080 web restarting ", ErrorCode::PortOccupied),
            ("resolves yes\n", "", ErrorCode::RegistryUnresolvable),
            ("root yes\n", "", ErrorCode::SudoMissing),
        ];
        for (from, to, code) in defects {
            let error = verdict(|fit| fit.replace(from, to)).expect_err(to);
            assert_eq!(error.code, code, "{to}: {error}");
        }
    }

    #[test]
    fn all_defects_are_told_at_once_and_one_that_needs_a_person_decides() {
        let change = |fit: &str| {
            fit.replace("disk_kb 9000000", "disk_kb 1000").replace("git git version 2.39\n", "")
                + "\ncontainer 8080 other-web-1 restarting other\nprocess 8081 nginx 77"
        };
        let error = verdict(change).expect_err("unfit");
        assert_eq!(error.code, ErrorCode::GitMissing);
        assert_eq!(error.detail.occupied_ports, [8080, 8081].map(|port| Port::new(port).expect("a port")).into());
        assert_eq!(
            error.message,
            "there is no git on the server; port 8080 is held by container other-web-1 of project other (restarting); \
             port 8081 is held by process nginx (pid 77); 0 MiB are free on the server; 1 GiB is needed"
        );
    }

    #[test]
    fn a_port_held_by_the_project_itself_is_no_conflict() {
        verdict(|fit| format!("{fit}\ncontainer 8080 shop-backend-1 running shop")).expect("ours");
    }

    #[test]
    fn a_stopped_container_with_the_port_is_told_and_in_nobodys_way() {
        let report = verdict(|fit| format!("{fit}\ncontainer 8080 old exited ")).expect("free");
        let told = serde_json::json!(["port 8080: container old (exited)"]);
        assert_eq!(report.facts["stopped_containers_with_the_ports"], told);
    }

    #[test]
    fn without_sudo_there_is_one_finding_for_all_that_it_would_allow() {
        let change = |fit: &str| {
            fit.replace("root yes\n", "")
                .replace("user root", "user ann")
                .replace("writable yes\n", "")
                .replace("docker 26.1.5+dfsg1\n", "")
        };
        let error = verdict(change).expect_err("unfit");
        assert_eq!(error.code, ErrorCode::SudoMissing);
        assert_eq!(
            error.message,
            "user ann isn't root, has no passwordless sudo, and can't write the projects' directory, talk to Docker, \
             see the firewall, keep projects' files apart without"
        );
        let error =
            verdict(|fit| change(fit) + "\nsudo sudo: sorry, you must have a tty to run sudo").expect_err("unfit");
        let said = "; sudo says: sudo: sorry, you must have a tty to run sudo (`Defaults:ann !requiretty` in sudoers)";
        assert!(error.message.ends_with(said), "{error}");
        // One in group docker, say, to whom the projects' directory belongs.
        let error =
            verdict(|fit| fit.replace("root yes\n", "").replace("ufw inactive", "ufw absent")).expect_err("unfit");
        assert!(error.message.ends_with("can't keep projects' files apart without"), "{error}");
    }
}
