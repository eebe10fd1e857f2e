//! What happens when, drawn from a seed: the same seed and settings give the same plan, on any machine. Pure; carrying
//! it out is `workers`'s matter.

use std::collections::HashMap;
use std::time::Duration;

/// RabbitMQ writes down its quorum queues within three seconds: one killed before never confirms their messages again.
const FIRST_FAULT: Duration = Duration::from_secs(5);

/// How much chaos.
#[derive(Debug, Clone, Copy)]
pub struct ChaosSettings {
    pub deployments: usize,
    pub projects: usize,
    pub workers: usize,
    pub targets: usize,
    /// RabbitMQ's: one, or a cluster.
    pub nodes: usize,
    /// How long requests and faults go on.
    pub length: Duration,
    pub faults: usize,
    /// The longest that anything stays broken.
    pub longest: Duration,
}

/// What is done at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disturbance {
    /// Asks for a deployment, by its number.
    Publish(usize),
    /// Worker: SIGKILL.
    Kill(usize),
    /// Worker: SIGSTOP.
    Pause(usize),
    /// Worker: SIGCONT.
    Resume(usize),
    /// Worker: SIGTERM.
    Stop(usize),
    /// Worker: another process in its place.
    Start(usize),
    /// Power cut of a service.
    Down(ChaosService),
    Up(ChaosService),
    /// Connections hang.
    Freeze(ChaosService),
    Thaw(ChaosService),
    /// Target: its cable unplugged.
    Cut(usize),
    Heal(usize),
    /// Target: what is sent to it comes slowly.
    Throttle(usize),
    Release(usize),
    /// Target: off and on again.
    Reboot(usize),
    /// Target: every SSH connection is killed.
    Sever(usize),
}

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChaosService {
    Database,
    /// All of RabbitMQ.
    Broker,
    /// One of its nodes.
    Node(usize),
    Registry,
    Git,
}

/// What can be broken; one thing is broken in one way at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Subject {
    Worker(usize),
    Part(ChaosService),
    Target(usize),
}

/// A seed's plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChaosPlan {
    pub seed: u64,
    /// In the order of time.
    pub acts: Vec<(Duration, Disturbance)>,
}

/// SplitMix64: small, good enough to choose faults, and the same everywhere.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `limit`, which isn't 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap_or(1)).unwrap_or(0)
    }

    fn within(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from((to.saturating_sub(from)).as_millis()).unwrap_or(0).max(1);
        from + Duration::from_millis(self.next() % span)
    }
}

impl ChaosPlan {
    /// The plan of a seed.
    pub fn new(seed: u64, settings: &ChaosSettings) -> Self {
        let mut random = Random(seed);
        let mut acts: Vec<(Duration, Disturbance)> = (0..settings.deployments)
            .map(|number| (random.within(Duration::ZERO, settings.length), number))
            .map(|(at, number)| (at, Disturbance::Publish(number)))
            .collect();
        // Of one project, the requests come in their order more often than not.
        acts.sort_by_key(|(at, _)| *at);
        let mut numbers: Vec<usize> = (0..settings.deployments).collect();
        for index in 1..numbers.len() {
            if random.below(4) == 0 {
                numbers.swap(index - 1, index);
            }
        }
        acts.iter_mut().zip(numbers).for_each(|((_, act), number)| *act = Disturbance::Publish(number));

        let mut busy: HashMap<Subject, Vec<(Duration, Duration)>> = HashMap::new();
        let mut kinds = Vec::new();
        for _ in 0..settings.faults {
            if kinds.is_empty() {
                kinds = kinds_of(settings);
            }
            let kind = kinds.swap_remove(random.below(kinds.len()));
            let at = random.within(FIRST_FAULT, settings.length);
            let until = at + random.within(settings.longest / 8, settings.longest);
            let fault = kind(&mut random, settings);
            let times = busy.entry(fault.subject).or_default();
            if times.iter().all(|(from, to)| until < *from || *to < at) {
                times.push((at, until));
                acts.push((at, fault.breaks));
                acts.extend(fault.mends.map(|mends| (until, mends)));
            }
        }
        acts.sort_by_key(|(at, _)| *at);
        Self { seed, acts }
    }
}

struct Fault {
    subject: Subject,
    breaks: Disturbance,
    mends: Option<Disturbance>,
}

type Kind = fn(&mut Random, &ChaosSettings) -> Fault;

fn worker(
    random: &mut Random,
    settings: &ChaosSettings,
    breaks: fn(usize) -> Disturbance,
    mends: fn(usize) -> Disturbance,
) -> Fault {
    let number = random.below(settings.workers);
    Fault { subject: Subject::Worker(number), breaks: breaks(number), mends: Some(mends(number)) }
}

fn target(
    random: &mut Random,
    settings: &ChaosSettings,
    breaks: fn(usize) -> Disturbance,
    mends: Option<fn(usize) -> Disturbance>,
) -> Fault {
    let number = random.below(settings.targets);
    Fault { subject: Subject::Target(number), breaks: breaks(number), mends: mends.map(|mends| mends(number)) }
}

/// A cluster lives on while one of its nodes is away, so that no two of them are at a time.
fn part(part: ChaosService) -> Subject {
    Subject::Part(if let ChaosService::Node(_) = part { ChaosService::Broker } else { part })
}

fn down(broken: ChaosService) -> Fault {
    Fault { subject: part(broken), breaks: Disturbance::Down(broken), mends: Some(Disturbance::Up(broken)) }
}

fn freeze(broken: ChaosService) -> Fault {
    Fault { subject: part(broken), breaks: Disturbance::Freeze(broken), mends: Some(Disturbance::Thaw(broken)) }
}

fn node(random: &mut Random, settings: &ChaosSettings) -> ChaosService {
    ChaosService::Node(random.below(settings.nodes))
}

/// Every kind of fault that these settings have something for; workers suffer most.
fn kinds_of(settings: &ChaosSettings) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = vec![
        |r, s| worker(r, s, Disturbance::Kill, Disturbance::Start),
        |r, s| worker(r, s, Disturbance::Kill, Disturbance::Start),
        |r, s| worker(r, s, Disturbance::Pause, Disturbance::Resume),
        |r, s| worker(r, s, Disturbance::Pause, Disturbance::Resume),
        |r, s| worker(r, s, Disturbance::Stop, Disturbance::Start),
        |_, _| down(ChaosService::Database),
        |_, _| freeze(ChaosService::Database),
        |_, _| down(ChaosService::Broker),
        |_, _| freeze(ChaosService::Broker),
    ];
    if settings.nodes > 1 {
        kinds.extend([
            (|r, s| down(node(r, s))) as Kind,
            |r, s| down(node(r, s)),
            |r, s| freeze(node(r, s)),
            |r, s| freeze(node(r, s)),
        ]);
    }
    if settings.targets > 0 {
        kinds.extend([
            (|_, _| down(ChaosService::Registry)) as Kind,
            |_, _| freeze(ChaosService::Registry),
            |_, _| down(ChaosService::Git),
            |_, _| freeze(ChaosService::Git),
            |r, s| target(r, s, Disturbance::Cut, Some(Disturbance::Heal)),
            |r, s| target(r, s, Disturbance::Throttle, Some(Disturbance::Release)),
            |r, s| target(r, s, Disturbance::Reboot, None),
            |r, s| target(r, s, Disturbance::Sever, None),
            |r, s| target(r, s, Disturbance::Sever, None),
        ]);
    }
    kinds
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SETTINGS: ChaosSettings = ChaosSettings {
        deployments: 100,
        projects: 20,
        workers: 3,
        targets: 5,
        nodes: 3,
        length: Duration::from_secs(240),
        faults: 60,
        longest: Duration::from_secs(20),
    };

    #[test]
    fn a_seed_gives_one_plan_and_another_seed_another() {
        assert_eq!(ChaosPlan::new(7, &SETTINGS), ChaosPlan::new(7, &SETTINGS));
        assert_ne!(ChaosPlan::new(7, &SETTINGS), ChaosPlan::new(8, &SETTINGS));
    }

    #[test]
    fn every_request_is_made_once_and_every_kind_of_fault_occurs() {
        let plan = ChaosPlan::new(1, &SETTINGS);
        let published: HashSet<_> =
            plan.acts.iter().filter(|(_, act)| matches!(act, Disturbance::Publish(_))).collect();
        assert_eq!(published.len(), SETTINGS.deployments);
        let kinds: HashSet<_> = plan.acts.iter().map(|(_, act)| std::mem::discriminant(act)).collect();
        assert_eq!(kinds.len(), 16, "all of them");
        use {ChaosService::Node, Disturbance as Act};
        let nodes = plan.acts.iter().filter_map(|(_, act)| match act {
            Act::Down(Node(index)) | Act::Freeze(Node(index)) => Some(index),
            _ => None,
        });
        assert_eq!(nodes.collect::<HashSet<_>>().len(), SETTINGS.nodes, "every node");
    }

    #[test]
    fn what_is_broken_is_mended_before_it_breaks_again() {
        for seed in 0..50 {
            let mut broken = HashSet::new();
            for (_, act) in ChaosPlan::new(seed, &SETTINGS).acts {
                match act {
                    Disturbance::Kill(n) | Disturbance::Pause(n) | Disturbance::Stop(n) => {
                        assert!(broken.insert(Subject::Worker(n)), "{seed}")
                    }
                    Disturbance::Resume(n) | Disturbance::Start(n) => {
                        assert!(broken.remove(&Subject::Worker(n)), "{seed}")
                    }
                    Disturbance::Down(p) | Disturbance::Freeze(p) => assert!(broken.insert(part(p)), "{seed}"),
                    Disturbance::Up(p) | Disturbance::Thaw(p) => assert!(broken.remove(&part(p)), "{seed}"),
                    Disturbance::Cut(n) | Disturbance::Throttle(n) => {
                        assert!(broken.insert(Subject::Target(n)), "{seed}")
                    }
                    Disturbance::Heal(n) | Disturbance::Release(n) => {
                        assert!(broken.remove(&Subject::Target(n)), "{seed}")
                    }
                    Disturbance::Reboot(n) | Disturbance::Sever(n) => {
                        assert!(!broken.contains(&Subject::Target(n)), "{seed}")
                    }
                    Disturbance::Publish(_) => {}
                }
            }
            assert!(broken.is_empty(), "{seed}: {broken:?}");
        }
    }
}
