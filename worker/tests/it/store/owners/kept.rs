//! What stays a project's though it does without it elsewhere, and what doesn't come back to it.

use super::*;

impl Town {
    /// Whether a success of its owner is there, and whether its owner lives there still.
    async fn proven_and_deployed(&self) -> Vec<(bool, bool)> {
        let owned = self.store.owned().await.unwrap().into_iter();
        owned.filter(|o| matches!(o.thing, OwnedThing::Slug { .. })).map(|o| (o.proven, o.deployed)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ci_of_a_repository_is_a_projects_while_anything_of_it_is_deployed_so() {
    let (town, first, second) = (Town::new().await, project(), project());
    let (two, rival) = (Asks { server: "two", ..SHOP }, Asks { slug: "rival", ..SHOP });
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    // On another server it does without, or is another repository's.
    town.deploy(first, Asks { pushes: "webhook", ..two }, &[Stage::Clone], &success()).await;
    assert_eq!(town.repositories().await, [("acme/shop".to_owned(), first)]);
    town.deploy(first, Asks { repository: "acme/other", ..two }, &[Stage::Clone], &success()).await;
    let both = ["acme/other", "acme/shop"].map(|name| (name.to_owned(), first));
    assert_eq!(town.repositories().await, both);
    assert_eq!(town.accept(second, rival).await.1, Admission::New);
    let claim = town.store.claim(LONG).await.unwrap().unwrap();
    assert!(claim.owned.ci_taken.is_some(), "{claim:?}");
    town.store.finish(&claim.lease, &success(), &AttemptSummary::default()).await.unwrap();
    // Once it's used nowhere, it's free.
    town.deploy(first, Asks { pushes: "webhook", ..two }, &[Stage::Clone], &success()).await;
    town.deploy(first, Asks { pushes: "webhook", ..SHOP }, &[Stage::Clone], &success()).await;
    assert_eq!(town.repositories().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_former_owner_gets_a_slug_by_deploying_alone() {
    let (town, first, second) = (Town::new().await, project(), project());
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    assert_eq!(town.hand_over(None, second).await, HandOverOutcome::Done(vec![first]));
    town.deploy(second, RIVAL, &[Stage::Clone], &success()).await;
    town.command(second, Action::Undeploy, json!({ "remove_volumes": true })).await.unwrap();
    town.carry_out(Action::Undeploy.stages(), &success(), &Map::new()).await;
    assert_eq!(town.owner().await, None);
    for action in [Action::Stop, Action::Start, Action::Rollback, Action::Undeploy] {
        let refused = town.command(first, action, json!({})).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::UnknownProject, "{action}: {refused:?}");
    }
    let places = town.store.places(&Slug::new("shop").unwrap()).await.unwrap();
    assert!(places.len() == 2 && places.iter().all(|place| place.gone), "{places:?}");
    assert_eq!(town.owner().await, None);
    // Nobody else is kept out, and whoever deploys has it.
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    let places = town.store.places(&Slug::new("shop").unwrap()).await.unwrap();
    assert!(places.iter().all(|place| place.gone == (place.project.id == second)), "{places:?}");
    // What came with a hand-over back is a project's though it didn't deploy since.
    assert_eq!(town.hand_over(None, second).await, HandOverOutcome::Done(vec![first]));
    assert_eq!(town.hand_over(None, first).await, HandOverOutcome::Done(vec![second]));
    assert_eq!(town.command(first, Action::Stop, json!({})).await.unwrap(), Admission::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_whose_project_has_left_with_its_data_there_is_not_deployed_any_more() {
    let (town, first) = (Town::new().await, project());
    assert_eq!(town.accept(first, SHOP).await.1, Admission::New);
    assert_eq!(town.proven_and_deployed().await, [(false, false)]);
    town.carry_out(&[Stage::Clone], &success(), &Map::new()).await;
    assert_eq!(town.proven_and_deployed().await, [(true, true)]);
    town.command(first, Action::Undeploy, json!({})).await.unwrap();
    town.carry_out(Action::Undeploy.stages(), &success(), &Map::new()).await;
    assert_eq!(town.proven_and_deployed().await, [(true, false)], "its volumes are there still");
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    assert_eq!(town.proven_and_deployed().await, [(true, true)]);
}
