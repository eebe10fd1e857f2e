//! Whole deployments onto a real server: a first one, a new commit, and one where nothing has changed, by Slipway and by
//! what else one could use. All with the same template, images, registry and server, which is emptied in between.

mod line;
mod programs;
mod rival;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use slipway_protocol::topology;
use slipway_tests::world::{Commit, Generation, Sample, Variant};

use crate::bench::Bench;
use crate::orchestrator::Orchestrator;
use crate::record::Subject;
use crate::scene::{BenchScene, connect, within};
use crate::subscriber::Subscriber;
use line::{ADDRESS, Line};
use rival::{Rival, RivalTask};

/// The backend's port.
const PORT: u16 = 8080;
/// The server's names in the inventory: with a front door, and without.
const SERVER: &str = "bench";
const PLAIN_SERVER: &str = "bench-plain";
/// How long a deployment may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a session's processes may take to end behind it.
const END: Duration = Duration::from_millis(300);
/// A long way.
const FAR: Duration = Duration::from_millis(50);

/// Takes everything away that deployments leave.
const EMPTY: &str = "docker ps -aq | xargs -r docker rm -f >/dev/null
docker volume ls -q | xargs -r docker volume rm -f >/dev/null
docker system prune -af >/dev/null
rm -rf /opt/services
ufw delete allow 8080/tcp >/dev/null 2>&1 || :";

/// Who deploys.
#[derive(Clone, Copy)]
enum BenchDeployer {
    Slipway,
    /// Without a front door.
    PlainSlipway,
    Other(Rival),
}

impl BenchDeployer {
    fn name(self) -> &'static str {
        match self {
            Self::Slipway => "slipway",
            Self::PlainSlipway => "slipway, no front door",
            Self::Other(rival) => rival.name(),
        }
    }
}

/// What is asked for.
const FIRST: &str = "first";
const NEW_COMMIT: &str = "new commit";
const NOTHING_CHANGED: &str = "nothing changed";

/// A project of one deployer's.
struct Project {
    sample: Sample,
    slug: String,
    commit: Commit,
}

struct DeployScene<'a> {
    scene: &'a mut BenchScene,
    line: Line,
    orchestrator: Orchestrator,
    subscriber: Subscriber,
    projects: u32,
}

/// Section `deploy`.
pub fn measure(bench: &mut Bench) -> Result<()> {
    let floors = [Rival::Floor, Rival::FloorAndGate].map(BenchDeployer::Other);
    let mut deployers = [&floors[..], &[BenchDeployer::Slipway, BenchDeployer::PlainSlipway]].concat();
    if !bench.quick {
        deployers.extend([Rival::AnsiblePipelining, Rival::Ansible].map(BenchDeployer::Other));
    }
    within(1, |scene| {
        let mut scene = DeployScene::start(scene)?;
        // Warms the machine's caches up; nobody is to be the one who pays for it.
        scene.play(bench, floors[0], &[(FIRST, Duration::ZERO)], None)?;
        let near = [FIRST, NEW_COMMIT, NOTHING_CHANGED].map(|kind| (kind, Duration::ZERO));
        let far = [FIRST, NEW_COMMIT, NOTHING_CHANGED].map(|kind| (kind, FAR));
        let quick = [near[0], near[1], near[2], far[2]];
        for repetition in 1..=bench.repetitions {
            for deployer in &deployers {
                if bench.quick {
                    scene.play(bench, *deployer, &quick, Some(repetition))?;
                } else {
                    scene.play(bench, *deployer, &near, Some(repetition))?;
                    scene.play(bench, *deployer, &far, Some(repetition))?;
                }
            }
        }
        Ok(())
    })
}

impl<'a> DeployScene<'a> {
    fn start(scene: &'a mut BenchScene) -> Result<Self> {
        scene.stack.worker(&[])?;
        let target = scene.stack.world.target(0);
        let address = ADDRESS.to_string();
        let arguments = ["servers", "add", SERVER, "--address", &address, "--host-key", target.host_key()];
        scene.stack.slipway(&arguments)?;
        let plain = ["servers", "add", PLAIN_SERVER, "--address", &address, "--front-door", "off", "--host-key"];
        scene.stack.slipway(&[&plain[..], &[target.host_key()]].concat())?;
        let world = &scene.stack.world;
        let handle = scene.runtime.handle().clone();
        let (line, orchestrator, subscriber) = handle.block_on(async {
            let line = Line::lay(world, target.ip(), &[target.ssh_port(), PORT]).await?;
            let orchestrator = Orchestrator::connect(world.amqp_url()).await?;
            anyhow::Ok((line, orchestrator, Subscriber::bind(world.amqp_url(), topology::EVENTS).await?))
        })?;
        Ok(Self { scene, line, orchestrator, subscriber, projects: 0 })
    }

    /// Deployments of one project, one after the other, on an empty server.
    fn play(
        &mut self,
        bench: &mut Bench,
        deployer: BenchDeployer,
        kinds: &[(&str, Duration)],
        repetition: Option<u32>,
    ) -> Result<()> {
        self.line.take(Duration::ZERO);
        self.scene.stack.world.target(0).sh(EMPTY)?;
        self.projects += 1;
        // The name's length is that of all others.
        let name = format!("shop-{:03}", self.projects);
        let sample = Sample::new(Generation::Two, "acme", &name);
        let commit = self.scene.stack.publish_as(&sample, Variant::Healthy, false)?;
        let mut project = Project { sample, slug: name, commit };
        for (kind, round_trip) in kinds {
            if *kind == NEW_COMMIT {
                let changed = format!("Changed in {}.\n", project.slug);
                project.sample = project.sample.clone().with_file("README.md", &changed);
                project.commit = self.scene.stack.publish_as(&project.sample, Variant::Healthy, false)?;
            }
            self.line.take(*round_trip);
            let target = self.scene.stack.world.target(0);
            let is_counted = programs::begin(target).is_ok();
            self.line.trips();
            let who = deployer.name();
            let (took, round_trips) =
                self.deploy(bench, deployer, &project).with_context(|| format!("{who}: {kind}"))?;
            let Some(repetition) = repetition else { continue };
            let case = format!("{kind}, {} ms", round_trip.as_millis());
            let of = Subject { section: "deploy", case, who: who.to_owned(), repetition };
            bench.record.note(&of, "time", "s", took.as_secs_f64())?;
            if is_counted {
                // What ends with the connection is to be counted as well.
                std::thread::sleep(END);
                let programs = programs::count(self.scene.stack.world.target(0))?;
                bench.record.note(&of, "programs started", "", programs.all as f64)?;
                bench.record.note(&of, "docker, git and ufw called", "", programs.tools as f64)?;
            }
            if !round_trip.is_zero() {
                bench.record.note(&of, "round trips on the wire", "", self.line.trips() as f64)?;
            }
            if let Some(round_trips) = round_trips {
                bench.record.note(&of, "SSH round trips, by its own count", "", round_trips)?;
            }
        }
        Ok(())
    }

    /// Gives how long it took and, where the deployer counts them, its round trips.
    fn deploy(&mut self, bench: &Bench, deployer: BenchDeployer, project: &Project) -> Result<(Duration, Option<f64>)> {
        let Project { sample, slug, commit } = project;
        if let BenchDeployer::Other(rival) = deployer {
            let task = RivalTask { sample, commit, slug, port: PORT, address: ADDRESS };
            return Ok((rival.deploy(&self.scene.stack, &bench.python, &task)?, None));
        }
        let mut data = self.scene.stack.ready(sample, commit, slug, 0, PORT)?;
        let server = if matches!(deployer, BenchDeployer::PlainSlipway) { PLAIN_SERVER } else { SERVER };
        data["server"]["handle"] = server.into();
        let handle = self.scene.runtime.handle().clone();
        handle.block_on(async {
            let id = self.orchestrator.ask_for(&data).await?;
            let confirmed = Instant::now();
            let (result, heard) = loop {
                let heard = self.subscriber.next(PATIENCE).await?;
                let event: Value = serde_json::from_slice(&heard.body)?;
                if heard.key.starts_with("result") && event["data"]["deployment_id"] == id.as_str() {
                    break (event, heard.at);
                }
            };
            let outcome = result["data"]["outcome"].as_str().unwrap_or_default();
            ensure!(["succeeded", "already_deployed"].contains(&outcome), "{result}");
            let sql = connect(self.scene.stack.world.database_url()).await?;
            let query = "SELECT ssh_round_trips FROM deployments WHERE id = $1::text::uuid";
            let told: Option<i32> = sql.query_one(query, &[&id]).await?.get(0);
            Ok((heard - confirmed, told.map(f64::from)))
        })
    }
}
