//! What a worker does where a deployment has failed for good.

use slipway_deploy::{DeploymentWork, RestoreOutcome};
use tokio_util::sync::CancellationToken;

use super::scene::AttemptScene;

/// Goes back to the release before that of `work`; where there was none, what runs is left running.
pub fn restore(scene: &AttemptScene, work: DeploymentWork) -> RestoreOutcome {
    let mut attempt = scene.deployer.begin(work, scene.heard.clone(), CancellationToken::new());
    let restoring = async move {
        let outcome = attempt.restore_previous(true, CancellationToken::new()).await;
        attempt.close().await;
        outcome
    };
    scene.world.block_on(restoring).unwrap()
}
