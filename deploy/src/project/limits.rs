//! What a project may take of a server unless it's told otherwise: the size of its repository, and what its containers
//! get where the compose files don't say anything. Rendering it is the override file's part, in `compose`.

use serde::Deserialize;

use super::health_check::OwnCheck;

/// What one project may take of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProjectLimits {
    /// Bytes of a commit's files on the disk, and of the pack that git sends for it.
    pub repository_bytes: u64,
    /// Files and folders of a commit.
    pub repository_files: u64,
    /// For containers whose compose files say nothing of it.
    pub containers: ContainerDefaults,
}

impl ProjectLimits {
    /// The defaults of the workers' settings.
    pub const DEFAULT: Self = Self {
        repository_bytes: 1024 * 1024 * 1024,
        repository_files: 100_000,
        containers: ContainerDefaults { log_rotation: true, processes: 1024, no_new_privileges: true },
    };
}

/// What containers get whose compose files say nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerDefaults {
    /// Whether Docker keeps three files of 10 MB of a container's log, where it would keep all of it.
    pub log_rotation: bool,
    /// How many processes and threads a container may have; 0: any number.
    pub processes: u32,
    /// Whether programs can't get more rights than what started them, by setuid for one.
    pub no_new_privileges: bool,
}

/// What the compose files themselves say of a service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct OwnSettings {
    logging: Option<serde_json::Value>,
    pids_limit: Option<serde_json::Value>,
    security_opt: Option<Vec<serde_json::Value>>,
    healthcheck: Option<OwnCheck>,
}

impl OwnSettings {
    /// Whether Docker looks after its health by the file's own word.
    pub(super) fn is_checked(&self) -> bool {
        self.healthcheck.as_ref().is_some_and(OwnCheck::is_on)
    }

    /// Whether the file has a word of its own on `key`; `counts_processes` tells what stands in another place.
    fn has(&self, key: &str, counts_processes: bool) -> bool {
        match key {
            "logging" => self.logging.is_some(),
            "pids_limit" => self.pids_limit.is_some() || counts_processes,
            _ => {
                let mut options = self.security_opt.iter().flatten().filter_map(serde_json::Value::as_str);
                options.any(|option| option.starts_with("no-new-privileges"))
            }
        }
    }
}

/// The defaults of one rendering of the override file.
#[derive(Debug, Clone, Copy)]
pub struct DefaultsInForce<'a> {
    /// What the workers are set to.
    pub set: ContainerDefaults,
    /// Whether the server's Docker would keep all of a log: another driver, or a daemon that was set up, has its own way.
    pub logs_unbounded: bool,
    /// The override file that is on the server; empty where there is none.
    pub written: &'a str,
    /// Whether modules get new containers, and with them the defaults as they're set now.
    pub anew: bool,
    /// Whether the server's Docker looks at what starts as often as it's told to.
    pub looks_sooner: bool,
    /// Whether the server has a front door.
    pub front_door: bool,
}

impl DefaultsInForce<'_> {
    /// Of a project that comes to a server without a front door.
    #[cfg(test)]
    pub(super) const fn anew(set: ContainerDefaults) -> Self {
        Self { set, logs_unbounded: true, written: "", anew: true, looks_sooner: true, front_door: false }
    }

    /// The lines of a service: as they're set now for a module that is made anew and a service that is new; for any other
    /// as they were written when it was made. A database isn't replaced for their sake.
    pub(super) fn lines(&self, service: &str, own: &OwnSettings, counts_processes: bool, module: bool) -> String {
        let written = written_lines(self.written, service).filter(|_| !(module && self.anew));
        let checked = written.as_ref().is_none_or(|lines| lines.iter().any(|line| key_of(line) == CHECK));
        // As the project's own check is now: where that changes, the container is made anew for it.
        let check = own.healthcheck.as_ref().filter(|_| self.looks_sooner && checked).and_then(OwnCheck::line);
        let lines = written.unwrap_or_else(|| self.set_lines());
        lines
            .into_iter()
            .filter(|line| key_of(line) != CHECK && !own.has(key_of(line), counts_processes))
            .fold(String::new(), |text, line| text + &line + "\n")
            + &check.unwrap_or_default()
    }

    fn set_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.set.log_rotation && self.logs_unbounded {
            lines.push(
                r#"    logging: {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}}"#.to_owned(),
            );
        }
        if self.set.processes > 0 {
            lines.push(format!("    pids_limit: {}", self.set.processes));
        }
        if self.set.no_new_privileges {
            lines.push(r#"    security_opt: ["no-new-privileges:true"]"#.to_owned());
        }
        lines
    }
}

/// Where the bound stands of a service that the file bounds by `deploy`.
pub(super) const PROCESSES_OF_LIMITS: &str = "          pids: ";
const PROCESSES: &str = "    pids_limit: ";

/// Takes the bound of processes out of a service's lines.
pub(super) fn take_processes(lines: &mut String) -> Option<String> {
    let bound = lines.lines().find_map(|line| line.strip_prefix(PROCESSES))?.to_owned();
    *lines = lines.replace(&format!("{PROCESSES}{bound}\n"), "");
    Some(bound)
}

/// The key of the line that has a check looked at sooner.
const CHECK: &str = "healthcheck";

fn key_of(line: &str) -> &str {
    line.trim_start().split(':').next().unwrap_or_default()
}

/// Those lines of a service in an override file; none where the file doesn't have the service.
fn written_lines(text: &str, service: &str) -> Option<Vec<String>> {
    let begins = format!("  {service}:");
    let block = text.lines().skip_while(|line| *line != begins).collect::<Vec<_>>();
    let (_, block) = block.split_first()?;
    let ours = block.iter().take_while(|line| line.starts_with("    "));
    let is_default = |line: &&&str| {
        !line.starts_with("     ") && matches!(key_of(line), "logging" | "pids_limit" | "security_opt" | CHECK)
    };
    let bound = ours.clone().find_map(|line| line.strip_prefix(PROCESSES_OF_LIMITS));
    let bound = bound.map(|bound| format!("{PROCESSES}{bound}"));
    Some(ours.filter(is_default).map(|line| (*line).to_owned()).chain(bound).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    const SET: ContainerDefaults = ProjectLimits::DEFAULT.containers;
    const NEW: DefaultsInForce<'_> = DefaultsInForce {
        set: SET,
        logs_unbounded: true,
        written: "",
        anew: true,
        looks_sooner: true,
        front_door: false,
    };

    fn lines(set: ContainerDefaults, written: &str, own: &str, anew: bool) -> Vec<String> {
        let own: OwnSettings = serde_json::from_str(own).expect("a service");
        let force = DefaultsInForce { set, logs_unbounded: true, written, anew, looks_sooner: true, front_door: false };
        force.lines("db", &own, false, true).lines().map(|line| line.trim().to_owned()).collect()
    }

    fn keys(lines: &[String]) -> Vec<&str> {
        lines.iter().map(|line| key_of(line)).collect()
    }

    const ALL: [&str; 3] = ["logging", "pids_limit", "security_opt"];

    #[test]
    fn what_a_service_says_itself_is_left_alone() {
        assert_eq!(keys(&lines(SET, "", "{}", true)), ALL);
        for (own, left) in [
            (r#"{"logging": {"driver": "journald"}}"#, &["pids_limit", "security_opt"][..]),
            (r#"{"pids_limit": 9}"#, &["logging", "security_opt"]),
            (r#"{"security_opt": ["seccomp=unconfined"]}"#, &ALL),
            (r#"{"security_opt": ["no-new-privileges:false"]}"#, &["logging", "pids_limit"]),
        ] {
            assert_eq!(keys(&lines(SET, "", own, true)), left, "{own}");
        }
        let force = NEW;
        assert!(!force.lines("db", &OwnSettings::default(), true, true).contains("pids_limit"));
    }

    #[test]
    fn each_is_switched_by_itself_and_logs_that_are_bounded_already_are_left_alone() {
        let off = ContainerDefaults { log_rotation: false, processes: 0, no_new_privileges: false };
        assert_eq!(lines(off, "", "{}", true), [""; 0]);
        assert_eq!(keys(&lines(ContainerDefaults { log_rotation: true, ..off }, "", "{}", true)), ["logging"]);
        assert_eq!(lines(ContainerDefaults { processes: 7, ..off }, "", "{}", true), ["pids_limit: 7"]);
        assert_eq!(
            keys(&lines(ContainerDefaults { no_new_privileges: true, ..off }, "", "{}", true)),
            ["security_opt"]
        );
        let force = DefaultsInForce { logs_unbounded: false, ..NEW };
        assert!(!force.lines("db", &OwnSettings::default(), false, true).contains("logging"));
    }

    #[test]
    fn a_container_that_is_there_isnt_replaced_for_their_sake() {
        let before = "services:\n  cache:\n    pids_limit: 5\n  db:\n    restart: unless-stopped\n    deploy:\n      \
                      pids_limit: 9\n    pids_limit: 512\n    labels:\n      slipway.project: \"shop\"\n  web:\n    pids_limit: 6\n";
        assert_eq!(lines(SET, before, "{}", false), ["pids_limit: 512"], "as it was written");
        assert_eq!(keys(&lines(SET, before, "{}", true)), ALL);
        let force = DefaultsInForce { written: before, ..NEW };
        assert_eq!(force.lines("db", &OwnSettings::default(), false, false), "    pids_limit: 512\n", "no module");
        assert_eq!(lines(SET, before, r#"{"pids_limit": 1}"#, false), [""; 0], "the project says something itself now");
        let none = "services:\n  db:\n    restart: unless-stopped\n";
        assert_eq!(lines(SET, none, "{}", false), [""; 0], "made before there were any");
        assert_eq!(keys(&lines(SET, "services:\n  web:\n    pids_limit: 6\n", "{}", false)), ALL, "a new service");
        let within =
            format!("services:\n  db:\n    deploy:\n      resources:\n        limits:\n{PROCESSES_OF_LIMITS}7\n");
        assert_eq!(lines(SET, &within, "{}", false), ["pids_limit: 7"], "beside the other bounds of deploy");
    }

    #[test]
    fn a_check_is_looked_at_sooner_in_new_containers_and_where_it_was_before() {
        let own = r#"{"healthcheck": {"test": "a", "interval": "3s"}}"#;
        let line = r#"healthcheck: {"start_interval":"500ms","start_period":"3s"}"#;
        let has = |written: &str, own: &str, anew| lines(SET, written, own, anew).contains(&line.to_owned());
        let without = "services:\n  db:\n    pids_limit: 512\n";
        let with = format!("{without}    healthcheck: {{\"start_interval\":\"500ms\"}}\n");
        assert!(has("", own, true), "a new service");
        assert!(has(without, own, true) && !has(without, own, false), "a database isn't made anew for it");
        assert!(has(&with, own, false), "as the check is by now");
        assert!(!has(&with, "{}", false), "the project has no check any more");
        let own: OwnSettings = serde_json::from_str(own).expect("a service");
        let old = DefaultsInForce { looks_sooner: false, written: &with, ..NEW };
        assert!(!old.lines("db", &own, false, false).contains("healthcheck"), "an older Docker refuses it");
    }
}
