//! How much may happen at once, over all workers, and who takes no more for now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::{Circuit, CircuitState};

/// Limits over all workers; each worker's own is its number of deployments at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Attempts at once on one server.
    pub per_server: u32,
    /// Attempts at once that pull from one registry.
    pub per_registry: u32,
    /// How long a deployment waits for a server that can't be reached.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_server: 2, per_registry: 8, patience: Duration::from_secs(3600) }
    }
}

/// A deployment that could begin now.
pub trait Due {
    /// What names a server.
    type Server;

    /// The server that it's for.
    fn server(&self) -> &Self::Server;

    /// What the project's directory on the server is called.
    fn project(&self) -> &str;

    /// Whether it pulls images.
    fn pulls(&self) -> bool;
}

/// What happens now: the attempts under a live lease, and the servers that were hard to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load<S> {
    /// Attempts by server.
    pub attempts: BTreeMap<S, u32>,
    /// Attempts that pull from the registry of the worker that asks.
    pub in_registry: u32,
    /// Circuits by server.
    pub circuits: BTreeMap<S, Circuit>,
}

impl<S: Ord + Clone> Load<S> {
    /// Whether one more may pull from the registry of the worker that asks. What pulls nothing needn't wait for that.
    #[must_use]
    pub fn may_pull(&self, limits: &Limits) -> bool {
        self.in_registry < limits.per_registry
    }

    /// How many attempts more may begin on a server now. Among all servers that have room whoever has been due for longest
    /// comes first, so that neither a full nor a dead server holds up the rest.
    fn room(&self, server: &S, limits: &Limits, now: Timestamp) -> u32 {
        let most = match self.circuits.get(server).map(|circuit| circuit.state_at(now)) {
            None | Some(CircuitState::Closed) => limits.per_server,
            Some(CircuitState::HalfOpen) => limits.per_server.min(1),
            Some(CircuitState::Open(_)) => 0,
        };
        most.saturating_sub(self.attempts.get(server).copied().unwrap_or(0))
    }

    /// The servers on which nothing may begin now.
    #[must_use]
    pub fn closed_servers(&self, limits: &Limits, now: Timestamp) -> Vec<S> {
        let idle = self.circuits.keys().filter(|server| !self.attempts.contains_key(*server));
        self.attempts.keys().chain(idle).filter(|server| self.room(server, limits, now) == 0).cloned().collect()
    }

    /// Those of the deployments that are `due`, in their order, which may begin together: at most `most`, one of a project
    /// on a server, and as many of a server and of a registry as have room.
    #[must_use]
    pub fn choose<D: Due<Server = S>>(&self, due: Vec<D>, limits: &Limits, now: Timestamp, most: usize) -> Vec<D> {
        let mut taken: BTreeMap<S, u32> = BTreeMap::new();
        let mut projects = BTreeSet::new();
        let mut pulling = self.in_registry;
        let may_begin = |due: &D| {
            let on_server = taken.get(due.server()).copied().unwrap_or(0);
            let fits =
                on_server < self.room(due.server(), limits, now) && (!due.pulls() || pulling < limits.per_registry);
            let begins = fits && projects.insert((due.server().clone(), due.project().to_owned()));
            if begins {
                taken.insert(due.server().clone(), on_server + 1);
                pulling += u32::from(due.pulls());
            }
            begins
        };
        due.into_iter().filter(may_begin).take(most).collect()
    }

    /// The servers that have been out of reach for so long that deployments of that age are given up.
    #[must_use]
    pub fn unreachable_servers(&self, limits: &Limits, now: Timestamp) -> Vec<S> {
        let lasting = self.circuits.iter().filter(|(_, circuit)| circuit.exhausts_patience(now, limits.patience));
        lasting.map(|(server, _)| server.clone()).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn full_servers_and_dead_ones_are_left_out_and_a_probe_is_alone() {
        let now = Timestamp::from_second(1000).unwrap();
        let circuit = |open_until: i64| Circuit {
            failures: 3,
            since: Timestamp::UNIX_EPOCH,
            open_until: Some(Timestamp::from_second(open_until).unwrap()),
        };
        let few = Circuit { failures: 2, since: Timestamp::UNIX_EPOCH, open_until: None };
        let mut load = Load {
            attempts: [("full", 2), ("free", 1), ("probed", 1), ("shaky", 1)].into(),
            in_registry: 7,
            circuits: [("dead", circuit(1001)), ("probed", circuit(999)), ("back", circuit(1000)), ("shaky", few)]
                .into(),
        };
        assert_eq!(load.closed_servers(&Limits::default(), now), ["full", "probed", "dead"]);
        assert_eq!(load.unreachable_servers(&Limits::default(), now), Vec::<&str>::new());
        assert_eq!(
            load.unreachable_servers(&Limits { patience: Duration::from_secs(9), ..Limits::default() }, now),
            ["dead"]
        );
        assert!(load.may_pull(&Limits::default()));
        load.in_registry = 8;
        assert!(!load.may_pull(&Limits::default()));
    }

    struct Waiting(&'static str, &'static str, bool);

    impl Due for Waiting {
        type Server = &'static str;
        fn server(&self) -> &&'static str {
            &self.0
        }
        fn project(&self) -> &str {
            self.1
        }
        fn pulls(&self) -> bool {
            self.2
        }
    }

    #[test]
    fn what_begins_together_keeps_every_limit_and_the_order_in_which_it_is_due() {
        let due = || {
            [
                ("a", "x", true),
                ("a", "x", true),
                ("a", "y", true),
                ("a", "z", true),
                ("b", "x", true),
                ("b", "y", false),
            ]
            .map(|(server, project, pulls)| Waiting(server, project, pulls))
            .into()
        };
        let now = Timestamp::UNIX_EPOCH;
        let load = |in_registry| Load { attempts: [("b", 1)].into(), in_registry, circuits: BTreeMap::new() };
        let chosen = |in_registry, most| -> Vec<_> {
            let chosen = load(in_registry).choose(due(), &Limits::default(), now, most);
            chosen.into_iter().map(|Waiting(server, project, _)| (server, project)).collect()
        };
        assert_eq!(chosen(0, 9), [("a", "x"), ("a", "y"), ("b", "x")], "one of a project, two of a server");
        assert_eq!(chosen(6, 9), [("a", "x"), ("a", "y"), ("b", "y")], "the registry has room for two");
        assert_eq!(chosen(8, 9), [("b", "y")], "what pulls nothing needn't wait for a registry");
        assert_eq!(chosen(0, 1), [("a", "x")]);
    }
}
