//! What a report makes of what was seen, without anybody to ask.

use std::time::{Duration, Instant};

use super::{Answerer, ProbeAnswer, ProbeFailure, ProbeKind, ProbeReport, SocketBreak};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn who(commit: &str) -> Answerer {
    Answerer { commit: commit.to_owned(), container: format!("of {commit}") }
}

fn answer(asked: u64, took: u64, outcome: Result<&str, ProbeFailure>) -> ProbeAnswer {
    ProbeAnswer { kind: ProbeKind::Fresh, asked: ms(asked), ended: ms(asked + took), outcome: outcome.map(who) }
}

fn report(answers: Vec<ProbeAnswer>) -> ProbeReport {
    ProbeReport { begun: Instant::now(), answers, breaks: Vec::new(), reopened: 0, ended: ms(5000) }
}

#[test]
fn a_gap_lasts_from_a_question_to_the_next_answer_that_anybody_gets() {
    let steady = report((0..10).map(|n| answer(n * 10, 3, Ok("a"))).collect());
    assert_eq!(steady.longest_gap(), ms(3));
    // One that takes long isn't a gap while others are answered.
    let slow = report(vec![answer(0, 900, Ok("a")), answer(10, 3, Ok("a")), answer(20, 3, Ok("a"))]);
    assert_eq!(slow.longest_gap(), ms(13));
    let away = || Err(ProbeFailure::Status(502));
    let gap =
        report(vec![answer(0, 2, Ok("a")), answer(10, 1, away()), answer(20, 1, away()), answer(300, 4, Ok("b"))]);
    assert_eq!(gap.longest_gap(), ms(294));
    // Who waits in a queue until somebody is there again has waited, too.
    let queued = report(vec![answer(0, 2, Ok("a")), answer(10, 400, Ok("b")), answer(20, 391, Ok("b"))]);
    assert_eq!(queued.longest_gap(), ms(400));
    let for_ever = report(vec![answer(0, 2, Ok("a")), answer(1000, 1, away())]);
    assert_eq!(for_ever.longest_gap(), ms(4000));
}

#[test]
fn what_everybody_waits_for_at_the_same_time_is_nobodys_gap() {
    let busy = |wait: u64| report(vec![answer(0, 2, Ok("a")), answer(1000, wait, Ok("a")), answer(2000, 3, Ok("a"))]);
    let (ours, mut others) = (busy(300), busy(280));
    others.begun = ours.begun;
    assert_eq!(ours.longest_gap_beside(&others), ms(20));
    // At another time it's ours alone.
    others.begun = ours.begun + ms(1500);
    assert_eq!(ours.longest_gap_beside(&others), ms(300));
}

#[test]
fn a_report_counts_by_commit_and_is_one_line_for_people() {
    let mut answers: Vec<_> = (0..1204).map(|n| answer(n, 1, Ok(if n < 612 { "0123456789" } else { "abc" }))).collect();
    answers.push(answer(2000, 1, Err(ProbeFailure::Status(503))));
    let seen = report(answers);
    assert_eq!(seen.by_commit(), [("0123456789", 612), ("abc", 592)]);
    assert_eq!((seen.of("abc"), seen.of("other"), seen.failed().len()), (592, 0, 1));
    let line = "1,205 answers, 1 failed, longest gap 3s, 0123456 612, abc 592; 0 WebSockets broke; failed: 1 Fresh status 503, first at 2.00s";
    assert_eq!(seen.to_string(), line);
}

#[test]
fn a_websocket_may_break_only_once_its_release_was_replaced_for_the_drain_limit() {
    let broke = |opened: u64, ended: u64, of: &str| SocketBreak {
        opened: ms(opened),
        ended: ms(ended),
        answerer: Some(who(of)),
        failure: ProbeFailure::Closed(1001),
    };
    let mut seen = report(vec![answer(0, 1, Ok("a")), answer(1000, 1, Ok("a")), answer(2000, 1, Ok("b"))]);
    for (broken, early) in [
        (broke(100, 1500, "a"), true),
        (broke(100, 2500, "a"), true),
        (broke(100, 4001, "a"), false),
        (broke(2100, 4500, "b"), true),
    ] {
        seen.breaks = vec![broken.clone()];
        assert_eq!(!seen.early_breaks(ms(2000)).is_empty(), early, "{broken:?}");
    }
}
