//! Whether the prober sees what there is to see: the sample's web service, asked while one process takes the place of
//! another on the same port.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use anyhow::ensure;
use slipway_tests::prober::{ProbeKind, ProbeReport, Probes};
use slipway_tests::world::eventually;

const OLD: &str = "0123456789abcdef0123456789abcdef01234567";
const NEW: &str = "fedcba9876543210fedcba9876543210fedcba98";

/// A web service of that commit on that port, once it answers.
fn serve(address: SocketAddr, commit: &str, variant: &str) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_slipway-sample"))
        .arg(address.port().to_string())
        .env("SAMPLE_COMMIT", commit)
        .env("SAMPLE_VARIANT", variant)
        .spawn()
        .unwrap();
    eventually("a listener", Duration::from_secs(10), || {
        ensure!(TcpStream::connect(address).is_ok(), "nobody yet");
        Ok(())
    })
    .unwrap();
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// As soon as each kind has been answered by that commit.
fn once_answered_by(probes: &Probes, commit: &str) {
    let asked_well = |report: &ProbeReport, kind| {
        let of_kind = report.answers.iter().filter(|answer| answer.kind == kind);
        of_kind.filter_map(|answer| answer.outcome.as_ref().ok()).any(|who| who.commit == commit)
    };
    eventually("an answer of each kind", Duration::from_secs(20), || {
        let report = probes.report();
        let missing: Vec<_> = ProbeKind::ALL.into_iter().filter(|kind| !asked_well(&report, *kind)).collect();
        ensure!(missing.is_empty(), "{missing:?}: {report}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_prober_sees_who_answers_what_breaks_and_for_how_long_nobody_is_there() {
    let address = free_address();
    let old = serve(address, OLD, "");
    let probes = Probes::start(address).unwrap();
    once_answered_by(&probes, OLD);
    let quiet = probes.report();
    assert_eq!((quiet.failed().len(), quiet.breaks.len(), quiet.reopened), (0, 0, 0), "{quiet}");
    assert!(quiet.answered(ProbeKind::Fresh) > 100, "{quiet}");

    end(old);
    sleep(Duration::from_millis(500));
    let new = serve(address, NEW, "");
    once_answered_by(&probes, NEW);
    let report = probes.stop().unwrap();
    end(new);
    let commits: Vec<_> = report.by_commit().into_iter().map(|(commit, _)| commit).collect();
    assert_eq!(commits, [OLD, NEW]);
    assert!(report.longest_gap() > Duration::from_millis(450), "{report}");
    for kind in ProbeKind::ALL {
        assert!(report.failed().iter().any(|answer| answer.kind == kind), "{kind:?}: {report}");
    }
    assert_eq!(report.early_breaks(Duration::from_secs(1)).len(), 1, "{report}");
    assert!(report.reopened > 0, "{report}");
}

#[test]
fn a_prober_takes_only_a_good_answer_for_one() {
    let address = free_address();
    let broken = serve(address, NEW, "errors");
    let probes = Probes::start(address).unwrap();
    // An upload is refused once it's there.
    sleep(Duration::from_secs(3));
    let report = probes.stop().unwrap();
    end(broken);
    assert_eq!(report.of(NEW), 0, "{report}");
    assert_eq!(report.failed().len(), report.answers.len(), "{report}");
    for kind in ProbeKind::ALL {
        assert!(report.failed().iter().any(|answer| answer.kind == kind), "{kind:?}: {report}");
    }
}
