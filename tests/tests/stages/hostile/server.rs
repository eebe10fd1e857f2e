//! Every trick of a hostile server ends in a typed error, in bounded time, with bounded and harmless words; and it gets
//! nothing of an innocent project on another server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use secrecy::SecretString;
use slipway_deploy::{Deployer, DeploymentWork, HostKeyPolicy, StageError, StageReport, Target};
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle};
use slipway_tests::world::{Generation, Sample, Variant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::innocent::Innocent;
use super::machine::{SentBytes, make_key, serve};
use super::trick::{ServerTrick, TrickEnd};
use super::tricks::TRICKS;
use crate::pipeline::scene::{AttemptScene, Heard};

/// How long a command may take, in seconds.
const COMMAND: u64 = 3;
/// Connecting, all tries of a command, and the time that a worker waits for the end of one.
const LONGEST: Duration = Duration::from_secs(120);
/// How many are tried at once: those that never end take a processor each.
const AT_ONCE: usize = 6;
/// What a command may tell, and what is said about it.
const MOST_TOLD: usize = 2_200_000;
const MOST_LINES: usize = 40_100;
const MOST_SAID: usize = 400_000;

/// What came of a trick.
struct Felt {
    trick: &'static ServerTrick,
    result: Result<StageReport, StageError>,
    lines: Vec<String>,
    took: Duration,
}

/// What is wrong with it.
fn harm_of(felt: &Felt) -> Vec<String> {
    let Felt { trick, result, lines, took } = felt;
    let told: usize = lines.iter().map(String::len).sum();
    let (expected, said) = match (result, &trick.outcome) {
        (Ok(report), outcome) => (matches!(outcome, TrickEnd::Success), serde_json::to_string(&report.facts).unwrap()),
        (Err(error), outcome) => (
            matches!(outcome, TrickEnd::Fails(codes) if codes.contains(&error.code)),
            serde_json::to_string(&(error.failure(Some(trick.stage)), &error.services)).unwrap(),
        ),
    };
    let escapes = ["\\u001b", "\\u0000", "\\u009b", "owned"];
    let is_odd = |line: &String| line.contains(|c: char| c.is_control() && c != '\t');
    let wrong = [
        (!expected, "ends otherwise"),
        (said.len() > MOST_SAID, "says too much"),
        (escapes.iter().any(|escape| said.contains(escape)), "has what a terminal acts upon"),
        (told > MOST_TOLD || lines.len() > MOST_LINES, "tells too much"),
        (lines.iter().any(is_odd), "tells what a terminal acts upon"),
        (*took > LONGEST, "takes too long"),
    ];
    let about =
        format!("{took:?}, {} lines, {told} bytes told; {}", lines.len(), &said[..said.floor_char_boundary(300)]);
    wrong.iter().filter(|(wrong, _)| *wrong).map(|(_, what)| format!("{} {what}: {about}", trick.name)).collect()
}

async fn feel(turn: Arc<Semaphore>, trick: &'static ServerTrick, deployer: Deployer, work: DeploymentWork) -> Felt {
    let _turn = turn.acquire().await.unwrap();
    let heard = Arc::new(Heard::default());
    let began = Instant::now();
    let mut attempt = deployer.begin(work, heard.clone(), CancellationToken::new());
    let result = attempt.run(trick.stage).await;
    let took = began.elapsed();
    attempt.close().await;
    let lines = std::mem::take(&mut *heard.lines.lock().unwrap());
    Felt { trick, result, lines, took }
}

/// Tries all of them.
pub fn whatever_a_server_answers_ends_in_a_bounded_error_and_it_gets_no_others_secret(
    scene: &AttemptScene,
    innocent: &Innocent<'_>,
) {
    let sample = Sample::new(Generation::Two, "acme", "machine");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = scene.work_on((0, 9090), &sample, &commit, "machine", &BTreeMap::new());
    let folder = tempfile::tempdir().unwrap();
    let (key, other) = (folder.path().join("known"), folder.path().join("other"));
    let (known, _) = (make_key(&key), make_key(&other));
    let others = vec![russh::keys::load_secret_key(&other, None).unwrap(); 50];
    let (impatient, received) = (scene.impatient(COMMAND), SentBytes::default());

    let felt = scene.world.block_on(async {
        let mut attempts = tokio::task::JoinSet::new();
        let turn = Arc::new(Semaphore::new(AT_ONCE));
        for trick in TRICKS {
            let address = serve(trick.manner, trick.answer, &key, &others, &received).await;
            let target = Target {
                handle: ServerHandle::new("hostile").unwrap(),
                address: Host::new(address.ip().to_string()).unwrap(),
                ssh_port: Port::new(address.port()).unwrap(),
                host_key: HostKeyPolicy::Pinned(HostKey::new(known.clone()).unwrap()),
                ..work.target.clone()
            };
            let token = SecretString::from("987654321:the-strangers-own-token".to_owned());
            let secrets = work.secrets.keys().map(|name| (name.clone(), token.clone())).collect();
            // What never ends by itself is ended soon.
            let deployer = if trick.is_endless() { impatient.clone() } else { scene.deployer.clone() };
            attempts.spawn(feel(turn.clone(), trick, deployer, DeploymentWork { target, secrets, ..work.clone() }));
        }
        attempts.join_all().await
    });
    let felt = felt.unwrap();
    let harm: Vec<String> = felt.iter().flat_map(harm_of).collect();
    assert!(harm.is_empty(), "{harm:#?}");
    assert!(felt.len() >= 15, "{} tricks", felt.len());
    let received: &Mutex<Vec<u8>> = &received;
    let received = String::from_utf8_lossy(&received.lock().unwrap()).into_owned();
    for secret in innocent.secrets() {
        let encoded = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, &secret);
        assert!(
            !received.contains(&secret) && !received.contains(&encoded),
            "a hostile server got an innocent's secret"
        );
    }
    assert!(received.len() > 10_000, "the hostile servers were sent {} bytes", received.len());
}
