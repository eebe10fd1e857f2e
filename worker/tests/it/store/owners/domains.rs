//! Whose a domain is: one project's, from the request that names it until nothing of the project has it any more.

use super::*;

const SHOP_DOMAINS: [&str; 2] = ["shop.example.org", "www.shop.example.org"];

/// Another project on another server: only a domain may be the same.
const KIOSK: Asks<'_> = Asks { slug: "kiosk", server: "two", repository: "acme/kiosk", pushes: "ci_job" };

impl Town {
    async fn ask(&self, project: ProjectId, asks: Asks<'_>, domains: &[&str]) -> (DeploymentId, Admission) {
        let body = request(|e| {
            e["data"]["project"] = json!({ "id": project, "slug": asks.slug });
            e["data"]["server"]["handle"] = asks.server.into();
            e["data"]["repository"]["name"] = asks.repository.into();
            e["data"]["allocations"][1]["domains"] = json!(domains);
            e["data"].as_object_mut().unwrap().remove("sequence");
        });
        accept(&self.store, &body).await
    }

    async fn serve(&self, project: ProjectId, asks: Asks<'_>, domains: &[&str], end: &DeploymentEnd) {
        assert_eq!(self.ask(project, asks, domains).await.1, Admission::New);
        self.carry_out(&[Stage::Clone], end, &Map::new()).await;
    }

    /// All domains that are somebody's: the name, whose, and where.
    async fn domains(&self) -> Vec<(String, ProjectId, String)> {
        let owned = self.store.owned().await.unwrap().into_iter();
        let domain = |o: Owned| match o.thing {
            OwnedThing::Domain { domain, slug, server } => Some((domain, o.project, format!("{slug} on {server}"))),
            OwnedThing::Slug { .. } | OwnedThing::Repository(_) => None,
        };
        owned.filter_map(domain).collect()
    }

    async fn has(&self, project: ProjectId, domains: &[&str], place: &str) {
        let expected: Vec<_> = domains.iter().map(|d| ((*d).to_owned(), project, place.to_owned())).collect();
        assert_eq!(self.domains().await, expected);
    }

    async fn take_off(&self, project: ProjectId) {
        self.command(project, Action::Undeploy, json!({ "server": SERVER })).await.unwrap();
        let kept = json!({ "volumes_kept": ["shop_db_data"] });
        self.carry_out(Action::Undeploy.stages(), &success(), kept.as_object().unwrap()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_projects_never_get_one_domain() {
    let (town, first, second) = (Town::new().await, project(), project());
    town.serve(first, SHOP, &SHOP_DOMAINS, &success()).await;
    town.has(first, &SHOP_DOMAINS, "shop on one").await;
    let (id, refused) = town.ask(second, KIOSK, &["kiosk.example.org", SHOP_DOMAINS[1]]).await;
    let Admission::Refused(refusal) = &refused else { panic!("{refused:?}") };
    assert_eq!((refusal.code, refusal.class), (ErrorCode::DomainTaken, slipway_protocol::Class::UserAction));
    for part in [SHOP_DOMAINS[1], &first.to_string(), "shop on one", &second.to_string()] {
        assert!(refusal.message.contains(part), "{refusal:?}");
    }
    assert_eq!(town.store.deployment(id).await.unwrap(), None);
    town.has(first, &SHOP_DOMAINS, "shop on one").await;
    // A plan says the same, and claims nothing.
    let body = request(|e| {
        e["data"]["project"] = json!({ "id": second, "slug": "kiosk" });
        e["data"]["allocations"][1]["domains"] = json!(["free.example.org", SHOP_DOMAINS[0]]);
    });
    let mut wanted = decode(&body, &incoming(&body).metadata()).unwrap().event.data;
    assert_eq!(town.store.owned_basis(&wanted).await.unwrap().unwrap_err().code, ErrorCode::DomainTaken);
    wanted.allocations[1].domains.pop();
    assert!(town.store.owned_basis(&wanted).await.unwrap().is_ok());
    town.has(first, &SHOP_DOMAINS, "shop on one").await;
    // Its own it may ask for again, on another server too, and in another order.
    town.serve(first, Asks { server: "two", ..SHOP }, &[SHOP_DOMAINS[1], SHOP_DOMAINS[0]], &success()).await;
    town.has(first, &SHOP_DOMAINS, "shop on two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_projects_that_come_at_once_one_gets_the_domain() {
    for _ in 0..5 {
        let town = Town::new().await;
        let (one, other) = ([SHOP_DOMAINS[0], "a.example.org"], ["b.example.org", SHOP_DOMAINS[0]]);
        let admissions = tokio::join!(town.ask(project(), SHOP, &one), town.ask(project(), KIOSK, &other));
        let admissions = [admissions.0.1, admissions.1.1];
        assert_eq!(admissions.iter().filter(|admission| **admission == Admission::New).count(), 1, "{admissions:?}");
        assert_eq!(town.domains().await.len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_given_up_by_a_later_release_without_it_or_by_undeploying() {
    let (town, first, second) = (Town::new().await, project(), project());
    town.serve(first, SHOP, &SHOP_DOMAINS, &success()).await;
    // What has only been asked for gives nothing up, and what failed neither keeps what is new nor loses what is served.
    let (waiting, _) = town.ask(first, SHOP, &["new.example.org"]).await;
    town.has(first, &["new.example.org", SHOP_DOMAINS[0], SHOP_DOMAINS[1]], "shop on one").await;
    town.store.cancel(waiting).await.unwrap();
    town.has(first, &SHOP_DOMAINS, "shop on one").await;
    town.serve(first, SHOP, &["new.example.org"], &ended_failed()).await;
    town.has(first, &SHOP_DOMAINS, "shop on one").await;
    town.serve(first, Asks { server: "two", ..SHOP }, &SHOP_DOMAINS[..1], &ended_failed()).await;
    town.has(first, &SHOP_DOMAINS, "shop on one").await;

    town.serve(first, SHOP, &SHOP_DOMAINS[..1], &success()).await;
    town.has(first, &SHOP_DOMAINS[..1], "shop on one").await;
    assert_eq!(code(&town.ask(second, KIOSK, &SHOP_DOMAINS[..1]).await.1), ErrorCode::DomainTaken);
    // Its data are kept, and its slug; a domain isn't.
    town.take_off(first).await;
    assert_eq!((town.domains().await, town.owner().await), (Vec::new(), Some(first)));
    town.serve(second, KIOSK, &SHOP_DOMAINS, &success()).await;
    town.has(second, &SHOP_DOMAINS, "kiosk on two").await;
    assert_eq!(code(&town.ask(first, SHOP, &SHOP_DOMAINS).await.1), ErrorCode::DomainTaken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_whose_domain_is_anothers_by_now_can_not_be_gone_back_to() {
    let (town, first, second) = (Town::new().await, project(), project());
    town.serve(first, SHOP, &SHOP_DOMAINS[..1], &success()).await;
    town.serve(first, SHOP, &[], &success()).await;
    town.serve(second, KIOSK, &SHOP_DOMAINS[..1], &success()).await;
    let refused = town.command(first, Action::Rollback, json!({})).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::DomainTaken);
    town.has(second, &SHOP_DOMAINS[..1], "kiosk on two").await;
    town.serve(second, KIOSK, &[], &success()).await;
    assert_eq!(town.command(first, Action::Rollback, json!({})).await.unwrap(), Admission::New);
    town.has(first, &SHOP_DOMAINS[..1], "shop on one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_unproven_release_may_still_have_stays_its_projects() {
    let (town, first) = (Town::new().await, project());
    town.serve(first, SHOP, &SHOP_DOMAINS[..1], &success()).await;
    assert_eq!(town.ask(first, SHOP, &SHOP_DOMAINS).await.1, Admission::New);
    let claim = town.store.claim(LONG).await.unwrap().unwrap();
    town.store.stage_started(&claim.lease, Stage::Compose, b"x").await.unwrap();
    // Nobody could put the release before back.
    town.store.finish(&claim.lease, &ended_failed(), &AttemptSummary::default()).await.unwrap();
    town.has(first, &SHOP_DOMAINS, "shop on one").await;
    town.serve(first, SHOP, &SHOP_DOMAINS[..1], &success()).await;
    town.has(first, &SHOP_DOMAINS[..1], "shop on one").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_that_is_handed_over_takes_its_domains_along() {
    let (town, first, second) = (Town::new().await, project(), project());
    town.serve(first, SHOP, &SHOP_DOMAINS, &success()).await;
    town.serve(first, KIOSK, &["kiosk.example.org"], &success()).await;
    assert_eq!(town.hand_over(None, second).await, HandOverOutcome::Done(vec![first]));
    let owners: Vec<ProjectId> = town.domains().await.iter().map(|(_, owner, _)| *owner).collect();
    assert_eq!(owners, [first, second, second]);
    town.serve(second, RIVAL, &SHOP_DOMAINS[..1], &success()).await;
    assert_eq!(town.domains().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_was_lost_is_claimed_again_or_refused_when_the_attempt_begins() {
    let (town, first, second) = (Town::new().await, project(), project());
    for (owner, outcome) in [(first, None), (second, Some(ErrorCode::DomainTaken))] {
        let (id, admission) = town.ask(first, SHOP, &SHOP_DOMAINS[..1]).await;
        assert_eq!(admission, Admission::New);
        // As a restored database might have it.
        let lost =
            format!("DELETE FROM domains; INSERT INTO domains VALUES ('{}', '{owner}', 'x', 'y')", SHOP_DOMAINS[0]);
        town.database.sql.batch_execute(&lost).await.unwrap();
        match (town.store.claim(LONG).await.unwrap(), outcome) {
            (Some(claim), None) => {
                town.has(first, &SHOP_DOMAINS[..1], "shop on one").await;
                town.store.finish(&claim.lease, &success(), &AttemptSummary::default()).await.unwrap();
            }
            (None, Some(code)) => {
                let ended = town.store.deployment(id).await.unwrap().unwrap();
                assert_eq!(ended.result.unwrap().failure.unwrap().code, code);
                town.has(second, &SHOP_DOMAINS[..1], "x on y").await;
            }
            (claim, _) => panic!("{claim:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_end_together_give_domains_up_as_well() {
    let (town, first) = (Town::new().await, project());
    let writer = slipway_worker::store::AttemptWriter::new(town.store.clone());
    for domains in [&SHOP_DOMAINS[..], &SHOP_DOMAINS[..1], &[]] {
        assert_eq!(town.ask(first, SHOP, domains).await.1, Admission::New);
        let claim = town.store.claim(LONG).await.unwrap().unwrap();
        writer.finish(&claim.lease, &success(), &AttemptSummary::default()).await.unwrap();
        town.has(first, domains, "shop on one").await;
    }
}
