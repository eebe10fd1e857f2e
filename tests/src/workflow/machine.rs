//! The machine that a job runs on: a home and a workspace of its own and nothing of this machine's environment. `ssh` and
//! `scp` are OpenSSH's, kept from this machine's own configuration and known hosts; of `docker` there is only the login.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::Result;

use super::steps::{Values, text_of};
use crate::world::World;

const CLIENTS: [&str; 2] = ["ssh", "scp"];

/// A login in a list of those that a registry lets push, and the way that workflows log in by a script.
const DOCKER: &str = r#"#!/bin/bash
[ "$1" = login ] || { echo "docker: this runner knows no command $1" >&2; exit 1; }
registry= user=
shift
while [ $# -gt 0 ]; do
  case $1 in
  --username | -u) user=$2; shift ;;
  --password-stdin) ;;
  *) registry=$1 ;;
  esac
  shift
done
if ! grep -qxF -e "$registry $user $(cat)" ~/may-push; then
  echo "Error response from daemon: Get \"https://$registry/v2/\": unauthorized" >&2
  exit 1
fi
echo "$registry" >>~/logged-in
echo 'Login Succeeded'
"#;

/// One machine, for one run of a job.
pub(super) struct Machine<'a> {
    pub world: &'a World,
    home: PathBuf,
}

/// What came of one step.
#[derive(Debug, Default)]
pub(super) struct StepEnd {
    pub failed: bool,
    /// What it printed.
    pub log: String,
    /// What later steps find in `steps.<id>.outputs`.
    pub outputs: Values,
    /// Variables for all later steps.
    pub env: Values,
}

/// What the SSH action asks a server for.
#[derive(Debug)]
pub(super) struct SshRequest {
    pub place: String,
    pub port: String,
    pub key: String,
    pub command: String,
}

impl<'a> Machine<'a> {
    /// A machine in the world's folder, on which these logins (registry, user, password) may push images.
    pub fn new(world: &'a World, may_push: &[[String; 3]]) -> Result<Self> {
        let home = world.folder().join(format!("runner-{}", uuid::Uuid::new_v4()));
        for folder in ["bin", ".ssh", "work"] {
            fs::create_dir_all(home.join(folder))?;
        }
        for client in CLIENTS {
            // OpenSSH looks for `~` in the user's entry in /etc/passwd, which is the runner's home on GitHub's.
            let shim = format!(
                "#!/bin/bash\nexec /usr/bin/{client} -F none -o UserKnownHostsFile={0}/.ssh/known_hosts \
                 \"${{@/#\\~\\//{0}/}}\"\n",
                home.display()
            );
            write(&home.join("bin").join(client), &shim, 0o755)?;
        }
        write(&home.join("bin/docker"), DOCKER, 0o755)?;
        let lines: Vec<_> = may_push.iter().map(|login| login.join(" ") + "\n").collect();
        write(&home.join("may-push"), &lines.concat(), 0o600)?;
        Ok(Self { world, home })
    }

    /// Where the repository is checked out.
    pub fn workspace(&self) -> PathBuf {
        self.home.join("work")
    }

    /// Runs a step's script, as GitHub's runner does: in bash, which ends at the first command that fails.
    pub fn run(&self, script: &str, env: &Values) -> Result<StepEnd> {
        let file = self.home.join("script.sh");
        write(&file, script, 0o600)?;
        let mut bash = self.command("bash");
        bash.arg("-e").arg(&file).current_dir(self.workspace());
        bash.envs(env.iter().map(|(name, value)| (name, text_of(value))));
        let written = ["GITHUB_OUTPUT", "GITHUB_ENV"].map(|name| (name, self.home.join(name.to_lowercase())));
        for (name, file) in &written {
            write(file, "", 0o600)?;
            bash.env(name, file);
        }
        let mut end = StepEnd::of(&bash.output()?);
        let [outputs, env] = written.map(|(_, file)| fs::read_to_string(file));
        (end.outputs, end.env) = (assignments(&outputs?), assignments(&env?));
        Ok(end)
    }

    /// Logs in to a registry with a password that a program gives.
    pub fn log_in(&self, registry: &str, user: &str, password: &str) -> Result<StepEnd> {
        let env = [("REGISTRY", registry), ("USERNAME", user), ("PASSWORD", password)];
        let env = env.map(|(name, value)| (name.to_owned(), value.into())).into();
        self.run("printf '%s' \"$PASSWORD\" | docker login \"$REGISTRY\" -u \"$USERNAME\" --password-stdin\n", &env)
    }

    /// The registries that somebody on this machine has logged in to.
    pub fn registries(&self) -> BTreeSet<String> {
        fs::read_to_string(self.home.join("logged-in")).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    /// Has a server do what the SSH action asks for, in one request.
    pub fn send(&self, request: &SshRequest) -> Result<StepEnd> {
        let key = self.home.join("action-key");
        // Secrets at GitHub lose the line's end that the format needs.
        write(&key, &format!("{}\n", request.key.trim_end()), 0o600)?;
        let mut ssh = self.command("ssh");
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-p", &request.port, "-i"]).arg(key);
        Ok(StepEnd::of(&ssh.arg(&request.place).arg(&request.command).output()?))
    }

    /// A program, without anything of this machine's environment.
    fn command(&self, program: &str) -> Command {
        let found = if CLIENTS.contains(&program) { self.home.join("bin").join(program) } else { program.into() };
        let mut command = self.world.command(&found.to_string_lossy());
        command.env_clear().stdin(Stdio::null());
        command.env("HOME", &self.home).env("LANG", "C.UTF-8").env("CI", "true");
        command.env("PATH", format!("{}/bin:/usr/local/bin:/usr/bin:/bin", self.home.display()));
        command
    }
}

impl StepEnd {
    fn of(output: &Output) -> Self {
        let log = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat();
        Self { failed: !output.status.success(), log, ..Self::default() }
    }

    /// A step that fails with these words.
    pub fn failing(words: String) -> Self {
        Self { failed: true, log: words + "\n", ..Self::default() }
    }
}

/// Lines `NAME=value`.
fn assignments(text: &str) -> Values {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.into())).collect()
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}
