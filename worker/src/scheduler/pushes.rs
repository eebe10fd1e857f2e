//! What follows from a look at a project's branch: whether the commit that it points to is to be deployed, now, later or
//! not at all. A commit is considered once that has been decided; then nothing follows from it any more.

use std::time::Duration;

use slipway_deploy::backoff::RetryPolicy;
use slipway_deploy::github::PushRuns;
use slipway_protocol::Action;
use slipway_protocol::names::CommitSha;

/// How long after a push without workflow runs it's taken for one that starts none: GitHub makes runs some seconds after
/// the push.
pub const NO_RUNS_GRACE: Duration = Duration::from_secs(60);
/// How the reason begins for which a push waits that a person may have to help: a run of it has failed, or there is none.
pub const RUN_NEEDED: &str = "a workflow run";
/// How often and how far apart a branch is looked at that GitHub doesn't show. It goes on for ever.
pub const LOOK_RETRIES: RetryPolicy = RetryPolicy {
    initial: Duration::from_secs(15),
    max: Duration::from_secs(900),
    multiplier: 2.0,
    attempts: u32::MAX,
};
/// Unfinished runs aren't looked at more often than this, unless a webhook says that one has ended.
const RUNS_PAUSE: Duration = Duration::from_secs(15);

/// A branch, and the project whose pushes it takes.
#[derive(Debug, Clone)]
pub struct PushView<'a> {
    /// What the branch points to.
    pub head: &'a CommitSha,
    /// How the workflow runs of that commit are getting on; `None` if that wasn't asked.
    pub runs: Option<&'a PushRuns>,
    /// The last commit that was considered; `None` when the project was just rolled back.
    pub considered: Option<&'a CommitSha>,
    /// What the newest deployment of the project deploys, or its newest rollback unless that failed; `None` when there is
    /// none.
    pub requested: Option<&'a CommitSha>,
    /// What the newest request asks for, of those that didn't come to nothing.
    pub last_action: Option<Action>,
    /// Whether that is a rollback which hasn't ended.
    pub rolling_back: bool,
    /// Whether a version of the project was ever deployed there with success.
    pub succeeded: bool,
    /// How long the head has been known.
    pub known_for: Duration,
}

/// What is done about a branch's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushDecision {
    /// It was considered before.
    Nothing,
    /// It counts as considered, and isn't deployed: it's from before a rollback, or is what was asked for.
    Consider,
    /// It's deployed, and counts as considered.
    Deploy,
    /// Nothing yet, for this reason. The next look comes after the delay, or at the usual time.
    Wait(String, Option<Duration>),
}

impl PushView<'_> {
    /// Decides.
    #[must_use]
    pub fn decide(&self) -> PushDecision {
        let wait = |reason: &str| PushDecision::Wait(reason.to_owned(), None);
        if self.considered == Some(self.head) {
            return PushDecision::Nothing;
        }
        if self.rolling_back {
            // Only if it succeeds, nothing from before it is deployed.
            return wait("a rollback is under way");
        }
        if self.considered.is_none() || self.requested == Some(self.head) {
            return PushDecision::Consider;
        }
        match self.last_action {
            Some(Action::Stop) => return wait("the project is stopped"),
            Some(Action::Undeploy) | None => return wait("the project is undeployed"),
            Some(_) if !self.succeeded => return wait("the project hasn't been deployed with success yet"),
            Some(_) => {}
        }
        match self.runs {
            // Somebody changed what counts as considered meanwhile.
            None => PushDecision::Wait("its workflow runs".to_owned(), Some(Duration::ZERO)),
            Some(PushRuns::Succeeded) => PushDecision::Deploy,
            Some(PushRuns::Failed { workflow, conclusion }) => {
                // A person may run it again, and then it may succeed.
                wait(&format!("{RUN_NEEDED} that succeeds: {workflow} ended with {conclusion}"))
            }
            Some(PushRuns::Held { workflow }) => {
                wait(&format!("{RUN_NEEDED} that goes on: {workflow} waits for the rules of a protected environment"))
            }
            Some(PushRuns::Unfinished(runs)) => {
                let pause = RUNS_PAUSE.max(self.known_for / 2);
                PushDecision::Wait(format!("{runs} workflow runs"), Some(pause))
            }
            Some(runs @ (PushRuns::None | PushRuns::NoneStarted)) => match NO_RUNS_GRACE.checked_sub(self.known_for) {
                Some(rest) if !rest.is_zero() => {
                    PushDecision::Wait("workflow runs, if there are to be any".to_owned(), Some(rest))
                }
                // Nothing has tested it, nor built its images.
                _ if *runs == PushRuns::NoneStarted => wait(&format!("{RUN_NEEDED}: this push has started none")),
                _ => PushDecision::Deploy,
            },
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn commit(letter: char) -> CommitSha {
        CommitSha::new(letter.to_string().repeat(40)).unwrap()
    }

    fn decide(edit: impl FnOnce(&mut PushView<'static>)) -> PushDecision {
        let [a, b]: &'static [CommitSha; 2] = Box::leak(Box::new([commit('a'), commit('b')]));
        let mut view = PushView {
            head: b,
            runs: Some(&PushRuns::Succeeded),
            considered: Some(a),
            requested: Some(a),
            last_action: Some(Action::Deploy),
            rolling_back: false,
            succeeded: true,
            known_for: Duration::ZERO,
        };
        edit(&mut view);
        view.decide()
    }

    fn reason(decision: PushDecision) -> String {
        match decision {
            PushDecision::Wait(reason, None) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_new_head_is_deployed_once_its_runs_have_succeeded() {
        assert_eq!(decide(|_| {}), PushDecision::Deploy);
        assert_eq!(decide(|view| view.last_action = Some(Action::Rollback)), PushDecision::Deploy);
        assert_eq!(decide(|view| view.last_action = Some(Action::Start)), PushDecision::Deploy);
        let failed = PushRuns::Failed { workflow: "CI".to_owned(), conclusion: "failure".to_owned() };
        let failed: &'static PushRuns = Box::leak(Box::new(failed));
        assert!(reason(decide(|view| view.runs = Some(failed))).contains("CI ended with failure"));
        let held: &'static PushRuns = Box::leak(Box::new(PushRuns::Held { workflow: "CI".to_owned() }));
        let told = reason(decide(|view| view.runs = Some(held)));
        assert!(told.starts_with(RUN_NEEDED) && told.contains("a protected environment"), "{told}");
    }

    #[test]
    fn runs_that_go_on_are_waited_for_with_a_growing_pause() {
        let after = |seconds: u64| {
            let decision = decide(|view| {
                view.runs = Some(&PushRuns::Unfinished(2));
                view.known_for = Duration::from_secs(seconds);
            });
            match decision {
                PushDecision::Wait(_, pause) => pause.unwrap().as_secs(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!([after(0), after(20), after(600)], [15, 15, 300]);
    }

    #[test]
    fn without_any_runs_a_head_is_deployed_after_a_while() {
        let after = |seconds| {
            decide(|view| {
                view.runs = Some(&PushRuns::None);
                view.known_for = Duration::from_secs(seconds);
            })
        };
        assert!(matches!(after(20), PushDecision::Wait(_, Some(rest)) if rest == Duration::from_secs(40)));
        assert_eq!(after(60), PushDecision::Deploy);
        assert_eq!(after(600), PushDecision::Deploy);
    }

    #[test]
    fn without_runs_where_others_had_some_a_head_isnt_deployed() {
        let after = |seconds| {
            decide(|view| {
                view.runs = Some(&PushRuns::NoneStarted);
                view.known_for = Duration::from_secs(seconds);
            })
        };
        assert!(matches!(after(20), PushDecision::Wait(_, Some(rest)) if rest == Duration::from_secs(40)));
        assert!(reason(after(60)).contains("has started none"));
    }

    #[test]
    fn a_head_that_was_considered_or_asked_for_isnt_deployed() {
        assert_eq!(decide(|view| view.considered = Some(view.head)), PushDecision::Nothing);
        assert_eq!(decide(|view| view.considered = None), PushDecision::Consider);
        assert_eq!(decide(|view| view.requested = Some(view.head)), PushDecision::Consider);
        // As after a rollback: what was asked for is older than the head, and the head was considered before.
        let rolled_back = decide(|view| {
            view.last_action = Some(Action::Rollback);
            view.considered = Some(view.head);
        });
        assert_eq!(rolled_back, PushDecision::Nothing);
        for considered in [None, Some(commit('a'))] {
            let rolling_back = decide(|view| {
                view.rolling_back = true;
                view.requested = Some(view.head);
                view.considered = view.considered.filter(|_| considered.is_some());
            });
            assert!(reason(rolling_back).contains("under way"));
        }
    }

    #[test]
    fn a_project_that_is_stopped_gone_or_never_worked_keeps_its_push_for_later() {
        assert!(reason(decide(|view| view.last_action = Some(Action::Stop))).contains("stopped"));
        assert!(reason(decide(|view| view.last_action = Some(Action::Undeploy))).contains("undeployed"));
        assert!(reason(decide(|view| view.last_action = None)).contains("undeployed"));
        assert!(reason(decide(|view| view.succeeded = false)).contains("with success"));
        assert_eq!(
            decide(|view| view.runs = None),
            PushDecision::Wait("its workflow runs".to_owned(), Some(Duration::ZERO))
        );
    }
}
