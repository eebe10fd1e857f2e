//! What these tests share: a server with a front door and its projects, who are deployed, pushed to and asked.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use slipway_deploy::{DeploymentWork, StageError};
use slipway_protocol::{Action, Replacement, Stage};
use slipway_tests::prober::{ProbeAnswer, ProbeFailure, ProbeKind, ProbeReport, Probes};
use slipway_tests::world::{Commit, Generation, Image, Module, Sample, TargetServer, Variant, eventually};

use crate::pipeline::scene::{AttemptScene, FinishedAttempt};

/// The longest that nobody may be there while a release is replaced, on a quiet machine.
pub const GAP: Duration = Duration::from_millis(100);
/// The same where other tests run beside: a processor is waited for, by those who ask and by those who answer.
pub const GAP_BESIDE_OTHERS: Duration = Duration::from_secs(2);
/// How long the prober's longest requests take, and some more: those to an old release end before it does.
pub const DRAIN: u64 = 2;
/// How long a new release has to run beside the old one here.
pub const PROVING: u64 = 1;
/// Where the door keeps what it knows.
pub const DOOR: &str = "/opt/services/.slipway-front-door";

/// A project on the server, and what GitHub is known to hold of it.
pub struct DoorProject<'a> {
    pub scene: &'a AttemptScene,
    pub sample: Sample,
    pub slug: String,
    pub port: u16,
    digests: RefCell<BTreeMap<String, String>>,
}

impl<'a> DoorProject<'a> {
    pub fn new(scene: &'a AttemptScene, generation: Generation, slug: &str, port: u16) -> Self {
        Self::of(scene, Sample::new(generation, "acme", slug), slug, port)
    }

    pub fn of(scene: &'a AttemptScene, sample: Sample, slug: &str, port: u16) -> Self {
        Self { scene, sample, slug: slug.to_owned(), port, digests: RefCell::default() }
    }

    /// Of a single web service.
    pub fn alone(scene: &'a AttemptScene, slug: &str, port: u16) -> Self {
        Self::of(scene, Sample::new(Generation::Two, "acme", slug).of(&[Module::Backend]), slug, port)
    }

    pub fn server(&self) -> &TargetServer {
        self.scene.world.target(0)
    }

    /// A new commit, whose backend behaves like that.
    pub fn publish(&self, variant: Variant) -> Commit {
        self.scene.publish(&self.sample.clone().with_file("README.md", &uuid::Uuid::new_v4().to_string()), variant)
    }

    /// A new commit whose backend's image says that it's another one.
    pub fn publish_as(&self, other: &str) -> Commit {
        let commit = self.publish(Variant::Healthy);
        let image = Image::module(Module::Backend, Variant::Healthy, Some(other))
            .label("org.opencontainers.image.source", &format!("https://github.com/acme/{}", self.sample.repository()))
            .label("org.opencontainers.image.revision", &commit.sha);
        for tag in [commit.tag().as_str(), "latest"] {
            self.scene.world.push_image(&self.sample.image(Module::Backend), tag, &image).unwrap();
        }
        commit
    }

    /// A new commit whose bot exits again and again.
    pub fn publish_with_bad_bot(&self) -> Commit {
        let commit = self.publish(Variant::Healthy);
        let crashing = Image::module(Module::TgBot, Variant::CrashLoop, Some(&commit.sha));
        self.scene.world.push_image(&self.sample.image(Module::TgBot), &commit.tag(), &crashing).unwrap();
        commit
    }

    pub fn work(&self, commit: &Commit) -> DeploymentWork {
        let digests = self.digests.borrow();
        let mut work = self.scene.work_on((0, self.port), &self.sample, commit, &self.slug, &digests);
        work.request.modules = self.sample.modules().iter().map(|module| module.service().parse().unwrap()).collect();
        work
    }

    /// A deployment that works.
    pub fn deploy(&self, commit: &Commit) -> FinishedAttempt {
        self.run(self.work(commit)).unwrap_or_else(|failed| panic!("{}: {} {:?}", failed.0, failed.1, failed.1.tail))
    }

    pub fn run(&self, work: DeploymentWork) -> Result<FinishedAttempt, Box<(Stage, StageError)>> {
        let done = self.scene.run(work)?;
        if let Some(digests) = &done.reports[&Stage::Secrets].github_digests {
            self.digests.replace(digests.clone());
        }
        Ok(done)
    }

    /// A deployment that fails.
    pub fn fails(&self, commit: &Commit) -> (Stage, StageError) {
        *self.run(self.work(commit)).err().unwrap_or_else(|| panic!("{} was deployed", commit.sha))
    }

    /// The deployed commit with another variable.
    pub fn change_environment(&self, commit: &Commit, value: &str) {
        let mut work = self.work(commit);
        work.request.variables.insert("GREETING".parse().unwrap(), value.to_owned());
        self.run(work).unwrap_or_else(|failed| panic!("{}: {} {:?}", failed.0, failed.1, failed.1.tail));
    }

    /// An earlier commit once more.
    pub fn roll_back(&self, commit: &Commit) {
        let work = DeploymentWork { action: Action::Rollback, ..self.work(commit) };
        self.run(work).unwrap_or_else(|failed| panic!("{}: {} {:?}", failed.0, failed.1, failed.1.tail));
    }

    /// CI's job for what is tagged `latest`: what its key is let through to, as its script asks for it.
    pub fn push_by_ci(&self) -> anyhow::Result<()> {
        let job = "SSH_ORIGINAL_COMMAND='docker compose pull; docker compose up -d' exec setsid -w \"$0\"";
        let command = format!("/opt/services/{}/.slipway/ci-deploy", self.slug);
        let output = self.server().exec(&["sh", "-c", job, &command])?;
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", output.status);
        Ok(())
    }

    pub fn act(&self, action: Action, commit: &Commit, stages: &[Stage]) {
        self.tries(action, commit, stages).unwrap_or_else(|failed| panic!("{action:?}: {failed:?}"));
    }

    pub fn tries(
        &self,
        action: Action,
        commit: &Commit,
        stages: &[Stage],
    ) -> Result<FinishedAttempt, Box<(Stage, StageError)>> {
        self.scene.run_stages(DeploymentWork { action, ..self.work(commit) }, stages)
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.server().ip(), self.port))
    }

    /// Asks in every way from now on.
    pub fn ask(&self) -> Probes {
        Probes::start(self.address()).unwrap()
    }

    /// Until that commit answers everybody.
    pub fn answers(&self, commit: &Commit) {
        eventually("the commit's answer", Duration::from_secs(30), || {
            let body = self.scene.get_from((0, self.port), "/");
            ensure!(body.contains(&commit.sha), "{body}");
            Ok(())
        })
        .unwrap();
    }

    /// One running release of that commit: nothing of another one is left, at the door neither.
    pub fn is_whole(&self, commit: &Commit) {
        let (slug, port) = (&self.slug, self.port);
        let body = self.scene.get_from((0, port), "/health");
        assert!(body.contains(&commit.sha), "{slug}: {body}");
        let format = "{{.Label \"com.docker.compose.service\"}} {{.State}}";
        let containers = format!(
            "docker ps -a --filter label=com.docker.compose.project={slug} --format '{format}' | sort; \
             docker ps -a --format '{{{{.Names}}}}' | grep -E '^{slug}_|-next$' || :"
        );
        let containers = self.server().sh(&containers).unwrap();
        let mut services: Vec<_> = self.sample.modules().iter().map(|module| module.service()).collect();
        services.push("db");
        // Generation 1's backend alone asks for none.
        if self.sample.generation() == Generation::Two || services.len() > 2 {
            services.push("redis");
        }
        services.sort_unstable();
        let expected: String = services.iter().map(|service| format!("{service} running\n")).collect();
        assert_eq!(containers, expected, "{slug}");
        self.is_tidy_at_the_door();
    }

    fn is_tidy_at_the_door(&self) {
        let (slug, port) = (&self.slug, self.port);
        let look = format!(
            "cd {DOOR}; ls routes/{slug} | sed 's/^/route /'; sed 's/^/slots /' slots/{slug}
             docker ps -q --filter label=com.docker.compose.project={slug} --filter label=com.docker.compose.service=backend |
                 xargs docker port | sed 's/.* -> /at /'
             docker ps -aq --filter label=com.docker.compose.project={slug} | xargs docker inspect --format '{{{{.HostsPath}}}}' |
                 xargs grep -h slipway || :
             ls -A /opt/services/{slug}/.slipway | grep -E '^gap|^served' || :"
        );
        let found = self.server().sh(&look).unwrap();
        let line = |prefix: &str| found.lines().find_map(|line| line.strip_prefix(prefix)).unwrap_or_default();
        let slots: Vec<_> = line("slots ").split(' ').collect();
        let [public, a, b] = slots[..] else { panic!("{slug}: {found}") };
        assert_eq!(public, port.to_string());
        let both = format!("route {a}-{b}.a\nroute {a}-{b}.b\n");
        let (routes, slot) = if found.starts_with(&both) { (both, b) } else { (format!("route {a}-{b}.a\n"), a) };
        assert_eq!(found, format!("{routes}slots {port} {a} {b}\nat 127.0.0.1:{slot}\n"), "{slug}");
    }

    /// How the backend was replaced.
    pub fn replaced(done: &FinishedAttempt) -> Replacement {
        let services = done.reports[&Stage::Compose].services.iter();
        let backend = services.clone().find(|service| service.service.as_str() == "backend").unwrap();
        backend.replaced.clone().unwrap_or_else(|| panic!("nobody says how: {backend:?}"))
    }
}

/// Nobody who asked has noticed anything: the drain limit alone may have ended a WebSocket, or what takes as long as that on a
/// machine that is very busy.
pub fn noticed_nothing(who: &str, report: &ProbeReport) {
    tell(who, report);
    let limit = Duration::from_secs(DRAIN);
    let is_cut = |answer: &ProbeAnswer| {
        matches!(answer.outcome, Err(ProbeFailure::Broken(_) | ProbeFailure::Status(502)))
            && answer.ended - answer.asked >= limit
    };
    let missed: Vec<_> = report.failed().into_iter().filter(|answer| !is_cut(answer)).collect();
    assert!(missed.is_empty(), "{who}: {missed:?}: {report}");
    let early = report.early_breaks(limit);
    assert!(early.is_empty(), "{who}: {early:?}");
    for kind in ProbeKind::ALL {
        assert!(report.answered(kind) > 0, "{who}: {kind:?}: {report}");
    }
}

/// Nobody who asked has noticed anything, but for as many as the door's settings were loaded anew, or it was upgraded: whoever is
/// connected just then, and hasn't asked yet, is dropped by Caddy.
pub fn noticed_only_reloads(who: &str, report: &ProbeReport, reloads: usize) {
    tell(who, report);
    let failed = report.failed();
    let is_dropped =
        |answer: &&ProbeAnswer| matches!(answer.outcome, Err(ProbeFailure::Broken(_) | ProbeFailure::NoConnection(_)));
    assert!(failed.len() <= reloads && failed.iter().all(is_dropped), "{who}: {report}");
}

/// As [`noticed_nothing`], and nobody waited for as long as `longest`, but for what those waited who asked a project that nothing
/// was done to: this machine does other things as well.
pub fn waited_for_nothing(who: &str, report: &ProbeReport, others: &ProbeReport, longest: Duration) {
    noticed_nothing(who, report);
    let gap = report.longest_gap_beside(others);
    tell(&format!("{who}, longest gap of its own"), &format!("{gap:.0?}"));
    let others = others.longest_gap();
    assert!(gap < longest.max(others), "{who}: {gap:?}, others {others:?}: {report}");
}

#[expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]
pub fn tell(what: &str, seen: &impl std::fmt::Display) {
    eprintln!("{what}: {seen}");
}

/// Tells how long that took.
pub fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = act();
    tell(what, &format!("{:.1?}", began.elapsed()));
    done
}
