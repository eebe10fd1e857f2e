//! What a project's server shows: its state before and after, who answers meanwhile, and how many bots ran at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use slipway_tests::stack::Stack;
use slipway_tests::world::{Commit, Module, Sample, TargetServer, eventually};

/// A project, where it lives and what is asked for.
pub struct DeployedProject<'a> {
    pub stack: &'a Stack,
    /// Number of its server.
    pub target: usize,
    pub slug: String,
    pub sample: Sample,
    /// Of the backend on the server; the frontend has the next one.
    pub port: u16,
    pub variables: Value,
}

/// A deployment that has ended, as the command line shows it.
pub struct EndedDeployment(pub Value);

impl EndedDeployment {
    pub fn result(&self) -> &Value {
        &self.0["result"]
    }

    /// The facts of the last `stage` that came to its end.
    pub fn facts(&self, stage: &str) -> &Value {
        let mut all = self.0["stages"].as_array().into_iter().flatten();
        all.rfind(|s| s["stage"] == stage).map_or(&Value::Null, |s| &s["facts"])
    }

    /// Checks that the result tells this commit to serve, seen from outside.
    pub fn serves(&self, commit: &Commit) -> Result<()> {
        let expected = json!({ "commit": commit.sha, "proven": true });
        ensure!(self.result()["serving"] == expected, "serving is {}: {}", self.result()["serving"], self.result());
        Ok(())
    }
}

impl DeployedProject<'_> {
    pub fn server(&self) -> &TargetServer {
        self.stack.world.target(self.target)
    }

    pub fn directory(&self) -> String {
        format!("/opt/services/{}", self.slug)
    }

    /// The port that people use.
    pub fn web_port(&self) -> u16 {
        if self.sample.modules().contains(&Module::Frontend) { self.port + 1 } else { self.port }
    }

    /// Asks for `commit` and waits for the end.
    pub fn deploy(&self, commit: &Commit) -> Result<EndedDeployment> {
        self.ask(&self.data(commit)?)
    }

    /// What is asked for to deploy `commit`.
    pub fn data(&self, commit: &Commit) -> Result<Value> {
        let mut data = self.stack.ready(&self.sample, commit, &self.slug, self.target, self.port)?;
        data["modules"] = self.sample.modules().iter().map(|m| m.service()).collect();
        data["variables"] = self.variables.clone();
        let allocations = data["allocations"].as_array_mut().context("a list")?;
        if self.sample.modules().contains(&Module::Frontend) {
            allocations.push(json!({ "service": "frontend", "host_port": self.port + 1, "container_port": 4321 }));
        }
        // Orchestrators allocate one for webhooks; it makes the bot no web service.
        if self.sample.modules().contains(&Module::TgBot) {
            allocations.push(json!({ "service": "tg_bot", "host_port": self.port + 2, "container_port": 8443 }));
        }
        Ok(data)
    }

    /// As [`Self::deploy`], with other data.
    pub fn ask(&self, data: &Value) -> Result<EndedDeployment> {
        self.ended(&self.submit(data)?)
    }

    /// Asks for `data`; gives the deployment's id.
    pub fn submit(&self, data: &Value) -> Result<String> {
        let file = self.stack.world.folder().join(format!("{}.json", self.slug));
        std::fs::write(&file, serde_json::to_vec(data)?)?;
        let said = self.stack.slipway(&["--json", "submit", &file.display().to_string()])?;
        let said: Value = serde_json::from_str(&said)?;
        Ok(said["deployment_id"].as_str().context("the deployment's id")?.to_owned())
    }

    /// A deployment as the command line shows it now.
    pub fn shown(&self, id: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.stack.slipway(&["--json", "deployments", "show", id])?)?)
    }

    /// Waits for a deployment's end.
    pub fn ended(&self, id: &str) -> Result<EndedDeployment> {
        let mut shown = Value::Null;
        eventually("the deployment has ended", Duration::from_secs(240), || {
            // Its exit code is the outcome's, or tells that it can't watch just now.
            self.stack.program("slipway")?.args(["watch", id]).output()?;
            shown = self.shown(id)?;
            ensure!(!shown["result"].is_null(), "{} is {}", self.slug, shown["state"]);
            Ok(())
        })?;
        Ok(EndedDeployment(shown))
    }

    /// The project's state on the server.
    pub fn state(&self) -> Result<ProjectOnServer> {
        let label = format!("label=com.docker.compose.project={}", self.slug);
        let server = self.server();
        let lines =
            |script: &str| -> Result<Vec<String>> { Ok(server.sh(script)?.lines().map(str::to_owned).collect()) };
        let format =
            r#"{{index .Config.Labels "com.docker.compose.service"}} {{.Id}} {{.Config.Image}} {{.State.StartedAt}}"#;
        let inspect = format!("docker ps -aq --filter {label} | xargs -r docker inspect --format '{format}'");
        let containers = lines(&inspect)?.into_iter().map(|line| {
            let (service, mut rest) = line.split_once(' ').context("a service")?;
            // Compose runs it again at every `up`.
            if service == "migrations" {
                rest = rest.rsplit_once(' ').context("a start")?.0;
            }
            Ok((service.to_owned(), rest.to_owned()))
        });
        let images = "docker image ls --format '{{.Repository}}:{{.Tag}}'";
        let files = format!(
            "cd {} && sha256sum .env infra/compose.*.yml && stat -c '%a %U %n' .env && git rev-parse HEAD && cat .env",
            self.directory()
        );
        Ok(ProjectOnServer {
            containers: containers.collect::<Result<_>>()?,
            images: lines(&format!("{images} | {{ grep -F {}- || :; }} | sort", self.sample.image_prefix()))?
                .into_iter()
                .collect(),
            volumes: lines(&format!("docker volume ls -q --filter {label} | sort"))?,
            files: lines(&files)?,
        })
    }
}

/// What there is of a project on its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectOnServer {
    /// Id, image and start of the container of each service.
    pub containers: BTreeMap<String, String>,
    /// Its images.
    pub images: BTreeSet<String>,
    /// Its volumes.
    pub volumes: Vec<String>,
    /// Sums of its files, access rights, the commit that is checked out, and `.env` itself.
    pub files: Vec<String>,
}

impl ProjectOnServer {
    /// Checks that the containers of these services are the very same as before.
    pub fn keeps(&self, before: &Self, services: &[&str]) -> Result<()> {
        for service in services {
            ensure!(self.containers.get(*service) == before.containers.get(*service), "{service} was recreated");
        }
        Ok(())
    }
}

/// Asks a project again and again who it is, the way a person's browser would.
pub struct Poll<'scope> {
    stop: mpsc::Sender<()>,
    thread: ScopedJoinHandle<'scope, Result<Vec<bool>>>,
}

impl<'scope> Poll<'scope> {
    /// Counts an answer as one when it is 200 and names one of `commits`.
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        project: &'env DeployedProject<'_>,
        commits: &[&Commit],
    ) -> Self {
        let address = SocketAddr::from((project.server().ip(), project.web_port()));
        let (stop, stopped) = mpsc::channel::<()>();
        let world = &project.stack.world;
        let commits: Vec<String> = commits.iter().map(|commit| commit.sha.clone()).collect();
        let thread = scope.spawn(move || {
            world.enter()?;
            let mut heard = Vec::new();
            while stopped.recv_timeout(Duration::from_millis(50)) == Err(mpsc::RecvTimeoutError::Timeout) {
                let is_one = |text: String| {
                    text.starts_with("HTTP/1.1 200") && commits.iter().any(|commit| text.contains(commit))
                };
                heard.push(answer(address).is_ok_and(is_one));
            }
            Ok(heard)
        });
        Self { stop, thread }
    }

    /// Every answer, in order.
    pub fn stop(self) -> Result<Vec<bool>> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn answer(address: SocketAddr) -> Result<String> {
    let patience = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Notes the project's bot that runs, and starts to note every start and end, for as long as the world lasts.
pub fn watch_bots(project: &DeployedProject<'_>) -> Result<()> {
    let slug = &project.slug;
    let of_bot =
        format!("--filter label=com.docker.compose.project={slug} --filter label=com.docker.compose.service=tg_bot");
    project.server().sh(&format!(
        "docker ps -q --no-trunc {of_bot} | sed 's/^/start /' >/tmp/bots-{slug}; grep -q start /tmp/bots-{slug}
         setsid docker events {of_bot} --filter event=start --filter event=die \
         --format '{{{{.Action}}}} {{{{.Actor.ID}}}}' >>/tmp/bots-{slug} 2>&1 </dev/null &"
    ))?;
    Ok(())
}

/// Checks that no bot started while another one ran, and gives how many there were.
pub fn one_bot_at_a_time(project: &DeployedProject<'_>) -> Result<usize> {
    let told = project.server().sh(&format!("cat /tmp/bots-{}", project.slug))?;
    let (mut running, mut started) = (BTreeSet::new(), 0);
    for line in told.lines() {
        let (action, id) = line.split_once(' ').with_context(|| format!("no event: {line}"))?;
        if action == "start" {
            started += 1;
            running.insert(id);
        } else {
            running.remove(id);
        }
        ensure!(running.len() <= 1, "two bots at once:\n{told}");
    }
    Ok(started)
}
