//! A sound history passes, and each kind of damage done to it is caught, by its name.

use std::collections::BTreeSet;

use super::*;
use crate::model::{Effect, EffectKind};
use slipway_protocol::Stage;

const CODES: &[&str] = &["crash-loop"];

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn row(n: u128, state: &str) -> DeploymentRow {
    let code = is_failure(state).then(|| "crash-loop".to_owned());
    let number = i64::try_from(n).unwrap_or(0);
    DeploymentRow {
        id: id(n),
        project: Some(id(n + 1000)),
        order: (None, None, number),
        state: state.to_owned(),
        code,
        ..DeploymentRow::default()
    }
}

/// Three events of a deployment, the last one its result.
fn events(n: u128, outcome: &str) -> Vec<ObservedEvent> {
    (1..=3)
        .map(|sequence| ObservedEvent {
            id: DeploymentId(id(n)).event_id(sequence).to_string(),
            result: sequence == 3,
            deployment: id(n),
            sequence,
            outcome: (sequence == 3).then(|| outcome.to_owned()),
            body: format!("{n} {sequence}").into_bytes(),
        })
        .collect()
}

fn effect(what: EffectKind, n: u128, stage: Stage, pid: u32, fence: i64) -> Effect {
    Effect {
        what,
        pid,
        project: format!("server/{n}"),
        deployment: Some(DeploymentId(id(n))),
        stage: Some(stage),
        fence,
    }
}

fn body(n: u128) -> Vec<u8> {
    n.to_string().into_bytes()
}

/// 1 succeeds, by a second worker after the first died in compose; 2 fails and leaves a dead letter; 3 can't be read.
fn sound() -> RunHistory {
    let request = |n| SentRequest { deployment: (n < 3).then(|| DeploymentId(id(n))), confirmed: true, body: body(n) };
    let letter = |n| ObservedDeadLetter {
        id: id(n),
        deployment: (n < 3).then(|| id(n)),
        body: Some(body(n)),
        code: "crash-loop".to_owned(),
        replayed_as: None,
    };
    let mut effects = vec![effect(EffectKind::Begun, 1, Stage::Compose, 10, 1)];
    effects.push(Effect {
        deployment: None,
        stage: None,
        project: String::new(),
        ..effect(EffectKind::Died, 1, Stage::Compose, 10, 0)
    });
    for stage in Stage::ALL {
        effects.extend([EffectKind::Begun, EffectKind::Done].map(|what| effect(what, 1, stage, 11, 2)));
    }
    effects.extend([EffectKind::Begun, EffectKind::Failed].map(|what| effect(what, 2, Stage::Compose, 11, 1)));
    RunHistory {
        requests: vec![request(1), request(2), request(3)],
        deployments: vec![row(1, "succeeded"), row(2, "failed")],
        events: [events(1, "succeeded"), events(2, "failed")].concat(),
        dead_letters: vec![letter(2), letter(3)],
        queued: vec![(Some(id(2).to_string()), body(2)), (Some(id(3).to_string()), body(3))],
        effects: Some(effects),
        left: Vec::new(),
    }
}

fn found(damage: impl FnOnce(&mut RunHistory)) -> Vec<Violation> {
    let mut history = sound();
    damage(&mut history);
    check(&history, CODES).violations
}

fn log(history: &mut RunHistory) -> &mut Vec<Effect> {
    history.effects.get_or_insert_default()
}

#[test]
fn a_sound_history_passes_and_is_counted() -> anyhow::Result<()> {
    let mut history = sound();
    // The relay may say a thing twice.
    history.events.insert(2, history.events[1].clone());
    let verdict = check(&history, CODES).pass()?;
    assert_eq!((verdict.attempted, verdict.confirmed, verdict.events), (3, 3, 6));
    assert_eq!((verdict.results, verdict.duplicates), (2, 1));
    assert!(verdict.to_string().ends_with("passed"), "{verdict}");
    assert!(verdict.to_string().contains("1 failed, 1 succeeded"), "{verdict}");
    Ok(())
}

#[test]
fn a_failed_verdict_tells_every_violation() {
    let history = RunHistory { left: vec!["a lease".to_owned(), "a message".to_owned()], ..sound() };
    let told = check(&history, CODES).pass().map_err(|e| e.to_string()).expect_err("it isn't sound");
    assert!(told.contains("left: a lease") && told.contains("left: a message") && told.ends_with("FAILED"), "{told}");
}

#[test]
fn what_is_lost_is_found() {
    assert!(found(|h| drop(h.deployments.remove(0))).contains(&Violation::Lost(id(1))));
    assert_eq!(found(|h| drop(h.dead_letters.pop())).first(), Some(&Violation::UnreadableLost("3".to_owned())));
    let replayed = found(|h| h.dead_letters[0].replayed_as = Some(id(77)));
    assert_eq!(replayed, [Violation::ReplayLost(id(2))]);
    // What was never confirmed may be lost.
    let unsure = |h: &mut RunHistory| {
        h.requests.push(SentRequest { deployment: Some(DeploymentId(id(9))), ..SentRequest::default() })
    };
    assert_eq!(found(unsure), []);
}

#[test]
fn what_nobody_asked_for_is_found() {
    assert_eq!(found(|h| drop(h.requests.remove(0))), [Violation::Unasked(id(1))]);
    let replay = |h: &mut RunHistory| {
        h.requests.remove(0);
        h.dead_letters[1].replayed_as = Some(id(5));
        h.deployments[0].replay = Some(id(5));
    };
    assert_eq!(found(replay), []);
}

#[test]
fn a_deployment_without_end_is_found() {
    for state in ["pending", "running"] {
        let unended = found(|h| h.deployments[0].state = state.to_owned());
        assert!(unended.contains(&Violation::Unended(id(1), state.to_owned())), "{unended:?}");
    }
}

#[test]
fn missing_and_several_and_wrong_and_stray_results_are_found() {
    assert_eq!(found(|h| drop(h.events.remove(2))), [Violation::NoResult(id(1))]);
    let twice = |h: &mut RunHistory| {
        let again =
            ObservedEvent { sequence: 4, id: DeploymentId(id(1)).event_id(4).to_string(), ..h.events[2].clone() };
        h.events.push(again);
    };
    assert_eq!(
        found(twice),
        [Violation::SeveralResults(id(1), 2), Violation::AfterResult { deployment: id(1), came: 4 }]
    );
    let told = "cancelled".to_owned();
    let other = Violation::OtherResult { deployment: id(1), state: "succeeded".to_owned(), told: told.clone() };
    assert_eq!(found(|h| h.events[2].outcome = Some(told)), [other]);
    assert_eq!(found(|h| h.events.extend(events(8, "failed"))), [Violation::ResultOfNobody(id(8))]);
}

#[test]
fn a_failure_that_nothing_explains_is_found() {
    let code = "internal-error".to_owned();
    assert_eq!(found(|h| h.deployments[1].code = Some(code.clone())), [Violation::Unexplained(id(2), code)]);
}

#[test]
fn gaps_and_disorder_and_contradictions_are_found() {
    assert_eq!(found(|h| drop(h.events.remove(1))), [Violation::Gap { deployment: id(1), missing: 2 }]);
    let swapped = found(|h| h.events.swap(0, 1));
    assert_eq!(swapped, [Violation::Order { deployment: id(1), after: 2, came: 1 }]);
    let other = |h: &mut RunHistory| h.events.push(ObservedEvent { body: b"other".to_vec(), ..h.events[0].clone() });
    assert_eq!(found(other), [Violation::Contradiction(DeploymentId(id(1)).event_id(1).to_string())]);
    assert_eq!(found(|h| h.events[0].id = "made-up".to_owned()), [Violation::WrongId("made-up".to_owned())]);
}

#[test]
fn dead_letters_that_miss_or_stray_or_differ_are_found() {
    assert_eq!(
        found(|h| drop(h.dead_letters.remove(0))),
        [Violation::NoDeadLetter(id(2)), Violation::StrayMessage(id(2))]
    );
    let stray = |h: &mut RunHistory| h.dead_letters[1].deployment = Some(id(1));
    assert!(found(stray).contains(&Violation::StrayDeadLetter(id(1), "succeeded".to_owned())));
    assert!(found(|h| h.dead_letters[0].body = Some(b"other".to_vec())).contains(&Violation::BodyChanged(id(2))));
    assert_eq!(found(|h| h.queued[0].1 = b"other".to_vec()), [Violation::BodyChanged(id(2))]);
}

#[test]
fn a_newest_request_that_gave_way_is_found() {
    let superseded = |h: &mut RunHistory| {
        h.deployments[0].state = "superseded".to_owned();
        h.events[2].outcome = Some("superseded".to_owned());
    };
    assert_eq!(found(superseded), [Violation::LatestSuperseded(id(1))]);
    let rightly = |h: &mut RunHistory| {
        superseded(h);
        h.deployments[1].project = h.deployments[0].project;
    };
    assert_eq!(found(rightly), []);
}

#[test]
fn two_at_once_on_one_project_are_found() {
    // The death of the first comes too late.
    let overlap = found(|h| log(h).swap(1, 2));
    let kinds: BTreeSet<_> = overlap.iter().map(std::mem::discriminant).map(|kind| format!("{kind:?}")).collect();
    assert!(matches!(overlap[0], Violation::Concurrent(..)), "{kinds:?}");
    // Two on two projects aren't.
    assert_eq!(
        found(|h| log(h).insert(0, effect(EffectKind::Begun, 4, Stage::Env, 11, 1))).len(),
        1,
        "only that it's left"
    );
}

#[test]
fn an_older_claim_that_acts_after_a_newer_one_is_found() {
    let late = effect(EffectKind::Begun, 1, Stage::Secrets, 10, 1);
    let end = effect(EffectKind::Done, 1, Stage::Secrets, 10, 1);
    let zombie = found(|h| log(h).extend([late.clone(), end.clone()]));
    assert_eq!(
        zombie,
        [Violation::OldFence { effect: late, newest: 2 }, Violation::OldFence { effect: end, newest: 2 }]
    );
    // One that was refused is as it should be.
    let mut history = sound();
    log(&mut history).push(effect(EffectKind::Refused, 1, Stage::Secrets, 10, 1));
    let verdict = check(&history, CODES);
    assert_eq!((verdict.violations, verdict.refused), (Vec::new(), 1));
}

#[test]
fn a_success_without_its_work_is_found() {
    let idle = found(|h| log(h).retain(|e| e.stage != Some(Stage::Firewall)));
    assert_eq!(idle, [Violation::Unfounded(id(1), Stage::Firewall)]);
}
