//! What a deployment seems to have left as it is, and hasn't proven: what changed before its end.

use std::collections::BTreeMap;

use slipway_protocol::Stage;
use slipway_tests::world::{Generation, Sample, Variant};
use tokio_util::sync::CancellationToken;

use crate::pipeline::scene::AttemptScene;
use crate::pipeline::unchanged::Again;

#[test]
fn what_a_success_has_not_seen_is_not_taken_for_what_it_has_left() {
    let scene = AttemptScene::new();
    scene.world.target(0).sh("ufw allow 22/tcp; ufw --force enable").unwrap();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let mut again = Again { scene: &scene, sample, commit, digests: BTreeMap::new(), times: 0, address: None };
    again.deploy();

    what_was_started_anew_before_the_end_is_found(&mut again);
}

fn what_was_started_anew_before_the_end_is_found(again: &mut Again<'_>) {
    again.change("all stages", "rm .slipway/left");
    let (scene, work) = (again.scene, again.work());
    let digests = scene
        .world
        .block_on(async move {
            let mut attempt = scene.deployer.begin(work, scene.heard.clone(), CancellationToken::new());
            let mut digests = None;
            for stage in Stage::ALL {
                if stage == Stage::Secrets {
                    scene.world.target(0).sh("docker restart -t 0 shop-tg_bot-1; sleep 6").unwrap();
                }
                digests = attempt.run(stage).await.unwrap().github_digests;
            }
            attempt.close().await;
            digests
        })
        .unwrap();
    again.digests = digests.unwrap();
    again.finds("a restart", Some("a container was started anew, or went, after it was found stable"));
    again.mends("a restart", &[], &[]);
}
