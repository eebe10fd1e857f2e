//! Those who mean harm, beside somebody who doesn't. One row a trick; an innocent project is looked at before and after.
//!
//! A server's tricks are here, and what else needs a real server. Tricks of requests, compose files, repositories and
//! registries that can be judged without one are rows of tables beside the code that judges them; the threat model names
//! them all (`ops/threat-model.md`).

mod innocent;
mod machine;
mod server;
mod tricks;

use crate::pipeline::scene::AttemptScene;
use innocent::Innocent;

/// One world for all groups of tricks: each begins and ends with the innocent project as it was.
#[test]
fn no_trick_does_more_than_fail_its_own_deployment() {
    let scene = AttemptScene::new();
    let innocent = Innocent::deploy(&scene);
    server::try_tricks(&scene, &innocent);
}
