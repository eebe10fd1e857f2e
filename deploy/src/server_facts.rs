//! What a server has and what of it is in use: asked by one script in one round trip, whatever is deployed there. Nothing is
//! changed, and no project is looked at. What follows from it is the worker's matter.

use std::collections::BTreeSet;
use std::time::Duration;

use slipway_protocol::ErrorCode;
use slipway_protocol::names::HostKey;
use tokio_util::sync::CancellationToken;

use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::remote::ssh::{ExecOptions, RemoteExit, Session};
use crate::scripts;
use crate::secrets::redact::Redactor;
use crate::stages::fitness::{docker_defect, program_defects};
use crate::{Deployer, HostKeyPolicy, StageError, Target};

/// How long a server may take to tell what it has. Longer than its own limits for Docker together.
pub const ASK_TIME: Duration = Duration::from_secs(30);
/// More published ports in one range are taken for a mistake of whoever reads them.
const WIDEST_RANGE: u16 = 1000;

/// What was seen of a server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ServerMeasurement {
    /// All of its memory, in MiB.
    pub ram_mb: u32,
    /// What of it programs could still get, in MiB.
    pub free_ram_mb: u32,
    /// The smaller of the file systems that projects and images are on, in MiB.
    pub disk_mb: u32,
    /// What of it is free, in MiB; of the one that has less.
    pub free_disk_mb: u32,
    /// Free inodes, of the file system that has fewer; absent where there is no such limit.
    pub free_inodes: Option<u64>,
    /// Processors.
    pub cpus: u32,
    /// The load of the last minute.
    pub load: f64,
    /// Directories of projects.
    pub projects: u32,
    /// What Docker's images, containers and volumes take of the disk, in MiB; absent where it took too long to count them.
    pub docker_mb: Option<u32>,
    /// TCP ports that something listens on, or that Docker publishes.
    pub ports: BTreeSet<u16>,
    /// Why it can't take any project.
    pub unfit: Option<String>,
}

impl Deployer {
    /// Asks a server what it has and what of it is in use. Only one whose host key is pinned is asked.
    ///
    /// # Errors
    /// Those of the connection and of the deadline; `internal-error` when the server tells no memory.
    pub async fn server_facts(&self, target: &Target) -> Result<ServerMeasurement, StageError> {
        if !matches!(target.host_key, HostKeyPolicy::Pinned(_)) {
            return Err(StageError::new(ErrorCode::HostKeyUnknown, "its host key isn't pinned yet"));
        }
        let asked = async {
            let mut session = Box::pin(Session::connect(target, &|_: &HostKey| {})).await?;
            let output = self.ask_for_facts(&mut session).await;
            session.close().await;
            output
        };
        let too_long = || StageError::new(ErrorCode::DeadlineExceeded, format!("it didn't answer within {ASK_TIME:?}"));
        let output = tokio::time::timeout(ASK_TIME, asked).await.map_err(|_| too_long())??;
        ServerMeasurement::read(&output)
            .ok_or_else(|| StageError::new(ErrorCode::InternalError, "the server tells neither memory nor disk"))
    }

    async fn ask_for_facts(&self, session: &mut Session) -> Result<ScriptOutput, StageError> {
        let script = Script::new("server facts", scripts::SERVER_FACTS).word("root", &self.root).openly().last();
        let (redactor, cancel) = (Redactor::default(), CancellationToken::new());
        let options = ExecOptions { deadline: ASK_TIME, cancel: &cancel, redactor: &redactor, on_line: &|_| {} };
        let ended = Box::pin(session.exec(&script, &options)).await?;
        match ended.exit {
            RemoteExit::Exited(0) => Ok(ended.output),
            RemoteExit::Exited(status) => {
                let message = format!("the server's facts couldn't be read (status {status})");
                Err(StageError::new(ErrorCode::InternalError, message).with_tail(ended.output.tail()))
            }
            RemoteExit::Signalled => Err(session.signalled(script.name())),
            RemoteExit::Lost => Err(session.lost_during(script.name())),
        }
    }
}

impl ServerMeasurement {
    /// Reads what the script has told; none without memory and disk.
    fn read(output: &ScriptOutput) -> Option<Self> {
        let least = |name: &str| output.values(name).iter().filter_map(|value| value.parse::<u64>().ok()).min();
        let mib = |name: &str| least(name).map(|kib| u32::try_from(kib / 1024).unwrap_or(u32::MAX));
        let defects = program_defects(output).into_iter().chain(docker_defect(output));
        let unfit: Vec<String> = defects.map(|(_, message)| message).collect();
        let used = output.value("docker_use").filter(|sizes| !sizes.trim().is_empty());
        Some(Self {
            ram_mb: mib("memory_total_kb")?,
            free_ram_mb: mib("memory_kb")?,
            disk_mb: mib("disk_total_kb")?,
            free_disk_mb: mib("disk_kb")?,
            free_inodes: least("inodes"),
            cpus: least("cpus").and_then(|n| u32::try_from(n).ok()).unwrap_or(1),
            load: output
                .value("load")
                .and_then(|load| load.parse().ok())
                .filter(|load: &f64| load.is_finite())
                .unwrap_or(0.0),
            projects: least("projects").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            docker_mb: used.and_then(|sizes| sizes.split_whitespace().map(size_mib).sum::<Option<f64>>()).map(whole),
            ports: output
                .values("ports")
                .iter()
                .flat_map(|ports| ports.split_whitespace())
                .flat_map(port_range)
                .collect(),
            unfit: (!unfit.is_empty()).then(|| unfit.join("; ")),
        })
    }
}

/// `8080`, or `8080-8083-` as Docker writes a range.
fn port_range(text: &str) -> impl Iterator<Item = u16> + use<> {
    let mut numbers = text.trim_end_matches('-').split('-').map(|number| number.parse::<u16>().ok());
    let first = numbers.next().flatten().unwrap_or(0);
    let last = numbers.next().flatten().unwrap_or(first);
    let last = if last.checked_sub(first).is_some_and(|more| more < WIDEST_RANGE) { last } else { first };
    (first..=last).filter(|port| *port > 0)
}

/// A size as Docker writes it, `1.5GB`, in MiB.
fn size_mib(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let bytes = match text.get(digits..)? {
        "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return None,
    };
    let number: f64 = text.get(..digits)?.parse().ok()?;
    Some(number * bytes / 1_048_576.0)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast takes what is too large for the largest"
)]
fn whole(mib: f64) -> u32 {
    mib.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLD: &str = "system Linux x86_64\nmemory_total_kb 2097152\nmemory_kb 1048576\ncpus 2\nload 0.42\n\
        git git version 2.39\ndocker_client present\ndocker 26.1.5\ncompose 2.26.1\ndocker_use 1.5GB 12.5MB 0B 300kB \n\
        disk_total_kb 41943040\ndisk_kb 20971520\ninodes 900000\ndisk_total_kb 10485760\ndisk_kb 5242880\ninodes -\n\
        projects 7\nports 22 80 8080 \nports 8080- 9000-9002- ";

    fn read(told: &str) -> Option<ServerMeasurement> {
        let mut output = ScriptOutput::default();
        for line in told.lines() {
            assert_eq!(output.take_line("m", format!("m {line}").as_bytes()), None);
        }
        ServerMeasurement::read(&output)
    }

    #[test]
    fn what_a_server_tells_is_read_and_of_two_file_systems_the_smaller_counts() {
        let facts = ServerMeasurement {
            ram_mb: 2048,
            free_ram_mb: 1024,
            disk_mb: 10_240,
            free_disk_mb: 5120,
            free_inodes: Some(900_000),
            cpus: 2,
            load: 0.42,
            projects: 7,
            docker_mb: Some(1443),
            ports: [22, 80, 8080, 9000, 9001, 9002].into(),
            unfit: None,
        };
        assert_eq!(read(TOLD), Some(facts));
        assert_eq!(read("system Linux x86_64"), None);
    }

    #[test]
    fn a_server_without_what_projects_need_is_unfit_and_one_that_counts_slowly_is_not() {
        let unfit = |from: &str, to: &str| read(&TOLD.replace(from, to)).and_then(|facts| facts.unfit);
        assert_eq!(unfit("git git version 2.39\n", "").as_deref(), Some("there is no git on the server"));
        assert!(unfit("docker 26.1.5\n", "").is_some_and(|why| why.contains("daemon doesn't answer")));
        let slow = read(&TOLD.replace("docker_use 1.5GB 12.5MB 0B 300kB ", "docker_use "));
        assert_eq!(slow.map(|facts| (facts.docker_mb, facts.unfit)), Some((None, None)));
    }

    #[test]
    fn what_nobody_can_mean_is_no_port() {
        for (text, ports) in [("0", vec![]), ("x", vec![]), ("70000", vec![]), ("9-8-", vec![9]), ("1-60000-", vec![1])]
        {
            assert_eq!(port_range(text).collect::<Vec<_>>(), ports, "{text}");
        }
    }
}
