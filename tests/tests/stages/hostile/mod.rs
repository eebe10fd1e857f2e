//! Those who mean harm, beside somebody who doesn't. One row a trick; an innocent project is looked at before and after.
//!
//! What each row is judged by is tried beside the code that judges it as well: tables of requests and of registries are
//! there alone, as they need no server. The threat model names them all (`ops/threat-model.md`).

mod compose;
mod git_objects;
mod innocent;
mod machine;
mod repositories;
mod server;
mod strangers;
mod trick;
mod tricks;

use crate::pipeline::scene::AttemptScene;
use innocent::Innocent;

/// One world for all groups of tricks: each begins and ends with the innocent project as it was. Servers that mean harm do
/// so all the time; what they do is mostly waited for.
#[test]
fn no_trick_does_more_than_fail_its_own_deployment() {
    let scene = AttemptScene::new();
    let innocent = Innocent::deploy(&scene);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            server::whatever_a_server_answers_ends_in_a_bounded_error_and_it_gets_no_others_secret(&scene, &innocent);
        });
        let asking = threads.spawn(|| {
            compose::whatever_a_compose_file_asks_for_in_vain_is_named_and_nothing_of_it_is_there(
                &scene, &innocent, false,
            );
        });
        repositories::whatever_a_repository_holds_is_refused_by_name_or_stays_in_its_own_directory(&scene, &innocent);
        asking.join().unwrap();
        strangers::a_stranger_gets_nothing_of_the_server_or_of_its_neighbour_on_any_way(&scene, &innocent);
    });
    innocent.assert_unharmed("a hostile server");
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_every_compose_trick_by_itself_beside_an_innocent_project() {
    let scene = AttemptScene::new();
    let innocent = Innocent::deploy(&scene);
    compose::whatever_a_compose_file_asks_for_in_vain_is_named_and_nothing_of_it_is_there(&scene, &innocent, true);
}
