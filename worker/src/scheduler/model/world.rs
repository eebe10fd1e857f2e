//! The model's world: what SQL and servers do by themselves is a line or two here, what is decided is decided by the
//! scheduler.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::{Action, DeploymentId, ErrorCode, Outcome};

use super::super::*;
use crate::store::State;

pub(super) const PROJECTS: usize = 5;
pub(super) const SERVERS: usize = 3;
pub(super) const WORKERS: usize = 3;
/// Attempts at once of one worker.
const CONCURRENCY: usize = 3;
const LEASE: Duration = Duration::from_secs(30);
pub(super) const ATTEMPTS: RetryPolicy =
    RetryPolicy { initial: Duration::from_secs(4), max: Duration::from_secs(60), multiplier: 3.0, attempts: 3 };
/// How often a deployment may be interrupted.
pub(super) const INTERRUPTIONS: u32 = 2;
const LIMITS: Limits = Limits { per_server: 2, per_registry: 4, patience: Duration::from_secs(600) };

#[derive(Debug, Clone, Copy)]
pub(super) enum ModelEvent {
    Arrive {
        project: usize,
        server: usize,
        sequence: Option<u64>,
    },
    Claim {
        worker: usize,
    },
    /// One of the attempts runs a stage, with this error where its server answers.
    Stage {
        which: usize,
        error: Option<ErrorCode>,
        last: bool,
    },
    Drain {
        worker: usize,
    },
    Die {
        worker: usize,
    },
    /// It stops renewing, and later goes on as if nothing had happened.
    Freeze {
        worker: usize,
        frozen: bool,
    },
    Cancel {
        which: usize,
    },
    Server {
        server: usize,
        up: bool,
    },
    Pass {
        seconds: i64,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct ModelDeployment {
    pub(super) project: usize,
    pub(super) server: usize,
    pub(super) order: Order,
    pub(super) state: State,
    pub(super) tries: AttemptCounts,
    pub(super) interruptions: u32,
    pub(super) claims: u32,
    pub(super) run_at: Timestamp,
    pub(super) accepted_at: Timestamp,
    pub(super) fence: u64,
    pub(super) to_stop: Option<Outcome>,
    /// Whether a stage of it has changed something.
    pub(super) touched: bool,
}

/// What a worker believes that it may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelAttempt {
    pub(super) deployment: usize,
    pub(super) worker: usize,
    pub(super) fence: u64,
}

#[derive(Debug, Default)]
pub(super) struct ModelWorld {
    pub(super) now: Timestamp,
    pub(super) deployments: Vec<ModelDeployment>,
    pub(super) attempts: Vec<ModelAttempt>,
    /// Fence and end, by project and server.
    pub(super) leases: BTreeMap<(usize, usize), (u64, Timestamp)>,
    pub(super) circuits: BTreeMap<usize, Circuit>,
    pub(super) down: [bool; SERVERS],
    pub(super) frozen: [bool; WORKERS],
}

fn id(number: usize) -> DeploymentId {
    DeploymentId(uuid::Uuid::from_u128(number as u128))
}

impl ModelWorld {
    pub(super) fn happens(&mut self, event: ModelEvent) {
        match event {
            ModelEvent::Arrive { project, server, sequence } => self.arrive(project, server, sequence),
            ModelEvent::Claim { worker } => self.claim(worker),
            ModelEvent::Stage { which, error, last } if !self.attempts.is_empty() => {
                self.stage(which % self.attempts.len(), error, last);
            }
            ModelEvent::Drain { worker } if !self.frozen[worker] => {
                for attempt in self.attempts.extract_if(.., |a| a.worker == worker).collect::<Vec<_>>() {
                    if self.held(attempt) {
                        self.interrupt(attempt.deployment);
                    }
                }
            }
            ModelEvent::Die { worker } => self.attempts.retain(|a| a.worker != worker),
            ModelEvent::Freeze { worker, frozen } => self.frozen[worker] = frozen,
            ModelEvent::Cancel { which } if !self.deployments.is_empty() => {
                let which = which % self.deployments.len();
                match self.deployments[which].state {
                    State::Pending => self.end(which, Outcome::Cancelled),
                    State::Running => self.deployments[which].to_stop = Some(Outcome::Cancelled),
                    State::Ended(_) | State::Unknown => {}
                }
            }
            ModelEvent::Server { server, up } => self.down[server] = !up,
            ModelEvent::Pass { seconds } => self.pass(seconds),
            _ => {}
        }
        self.check();
    }

    pub(super) fn arrive(&mut self, project: usize, server: usize, sequence: Option<u64>) {
        let this = self.deployments.len();
        let of_project = || self.deployments.iter().enumerate().filter(|(_, d)| d.project == project);
        // Time only passes here: all that is known happened before.
        let sequence = sequence.or_else(|| of_project().filter_map(|(_, d)| d.order.sequence).max());
        let order = Order { sequence, time: self.now, arrival: this as i64 };
        let contenders: Vec<_> = of_project()
            .filter(|(_, d)| d.state != State::Ended(Outcome::Cancelled))
            .map(|(i, d)| Contender { id: id(i), order: d.order, open: !d.state.is_terminal() })
            .collect();
        self.deployments.push(ModelDeployment {
            project,
            server,
            order,
            state: State::Pending,
            tries: AttemptCounts { attempt: 0, waits: 0 },
            interruptions: 0,
            claims: 0,
            run_at: self.now,
            accepted_at: self.now,
            fence: 0,
            to_stop: None,
            touched: false,
        });
        let verdict = resolve(&order, &contenders);
        if verdict.superseded_by.is_some() {
            return self.end(this, Outcome::Superseded);
        }
        for older in verdict.supersedes {
            let older = older.0.as_u128() as usize;
            let d = &mut self.deployments[older];
            let (running, claimed) = (d.state == State::Running, d.claims > 0);
            let standing = OlderDeployment { action: Action::Deploy, running, claimed, must_restore: false };
            match standing.give_way_to(Action::Deploy) {
                GiveWay::EndNow => self.end(older, Outcome::Superseded),
                GiveWay::AtNextStage => d.to_stop = Some(Outcome::Superseded),
                GiveWay::RestoreFirst | GiveWay::GoOn => panic!("a deployment always gives way to another: {self:#?}"),
            }
        }
    }

    fn load(&self) -> Load<usize> {
        let mut attempts = BTreeMap::new();
        for server in self.running().map(|d| d.server) {
            *attempts.entry(server).or_default() += 1;
        }
        Load { in_registry: attempts.values().sum(), attempts, circuits: self.circuits.clone() }
    }

    /// Deployments whose attempt holds a live lease.
    pub(super) fn running(&self) -> impl Iterator<Item = &ModelDeployment> {
        self.deployments.iter().filter(|d| d.state == State::Running && self.lease_lives(d, d.fence))
    }

    fn lease_lives(&self, d: &ModelDeployment, fence: u64) -> bool {
        self.leases.get(&(d.project, d.server)).is_some_and(|(newest, end)| *newest == fence && *end > self.now)
    }

    /// As the store checks it at each write.
    pub(super) fn held(&self, attempt: ModelAttempt) -> bool {
        let d = &self.deployments[attempt.deployment];
        let newest = self.leases.get(&(d.project, d.server)).map(|(fence, _)| *fence);
        d.state == State::Running && d.fence == attempt.fence && newest == Some(attempt.fence)
    }

    pub(super) fn waits_for_nothing(&self, d: &ModelDeployment) -> bool {
        let leased = self.leases.get(&(d.project, d.server)).is_some_and(|(_, end)| *end > self.now);
        d.state == State::Pending && d.run_at <= self.now && !leased
    }

    fn claim(&mut self, worker: usize) {
        if self.frozen[worker] || self.attempts.iter().filter(|a| a.worker == worker).count() >= CONCURRENCY {
            return;
        }
        let load = self.load();
        if !load.may_pull(&LIMITS) {
            return;
        }
        let closed_servers = load.closed_servers(&LIMITS, self.now);
        let due = self.deployments.iter().enumerate().filter(|(_, d)| self.waits_for_nothing(d));
        let free = due.filter(|(_, d)| !closed_servers.contains(&d.server));
        let Some((next, _)) = free.min_by_key(|(i, d)| (d.run_at, *i)) else { return };
        self.check_turn(next);
        let d = &mut self.deployments[next];
        let lease = self.leases.entry((d.project, d.server)).or_default();
        *lease = (lease.0 + 1, self.now + LEASE);
        d.state = d.state.step(State::Running).expect("legal");
        (d.fence, d.tries.attempt, d.claims) = (lease.0, d.tries.attempt + 1, d.claims + 1);
        self.attempts.push(ModelAttempt { deployment: next, worker, fence: d.fence });
    }

    /// Workers renew, take back what others lost, and give up what waits for too long.
    fn pass(&mut self, seconds: i64) {
        self.now += jiff::SignedDuration::from_secs(seconds);
        for attempt in self.attempts.clone() {
            if !self.frozen[attempt.worker] && self.held(attempt) {
                let d = &self.deployments[attempt.deployment];
                self.leases.insert((d.project, d.server), (attempt.fence, self.now + LEASE));
            }
        }
        for this in 0..self.deployments.len() {
            let d = &self.deployments[this];
            if d.state == State::Running && !self.lease_lives(d, d.fence) {
                self.interrupt(this);
            }
        }
        for server in self.load().unreachable_servers(&LIMITS, self.now) {
            assert!(self.circuits[&server].since + LIMITS.patience <= self.now, "given up too early: {self:#?}");
            for this in 0..self.deployments.len() {
                let d = self.deployments[this];
                if d.server == server && d.state == State::Pending && d.accepted_at + LIMITS.patience <= self.now {
                    self.end(this, Outcome::Failed);
                }
            }
        }
    }

    /// Everybody works from now on, until nothing is left to do.
    pub(super) fn run_out(&mut self, rounds: usize) {
        self.frozen = [false; WORKERS];
        for _ in 0..rounds {
            if self.deployments.iter().all(|d| d.state.is_terminal()) {
                return;
            }
            for worker in (0..WORKERS).cycle().take(WORKERS * CONCURRENCY) {
                self.happens(ModelEvent::Claim { worker });
            }
            for which in (0..self.attempts.len()).rev() {
                self.happens(ModelEvent::Stage { which, error: None, last: true });
            }
            self.happens(ModelEvent::Pass { seconds: 31 });
        }
        panic!("not everything ends: {self:#?}");
    }
}
