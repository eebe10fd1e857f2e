//! Whose a slug and a repository's CI are: one project's, until an operator hands them over or nothing is left of it.

mod domains;
mod kept;

use serde_json::{Map, Value, json};
use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{Action, Change, Message, ProjectId, StageSummary, read};
use slipway_worker::store::{AttemptSummary, HandOver, HandOverOutcome, Operator, Owned, OwnedThing, StageEnd};

use super::*;

const SERVER: &str = "one";

/// Some projects on one database.
struct Town {
    database: TestDatabase,
    store: Store,
}

/// What a project asks for.
#[derive(Clone, Copy)]
struct Asks<'a> {
    slug: &'a str,
    server: &'a str,
    repository: &'a str,
    pushes: &'a str,
}

const SHOP: Asks<'_> = Asks { slug: "shop", server: SERVER, repository: "Acme/Shop", pushes: "ci_job" };
/// The same slug, and nothing else of it.
const RIVAL: Asks<'_> = Asks { repository: "acme/rival", ..SHOP };

fn operator() -> Operator {
    Operator::new("ada", Some("it moved"))
}

impl Town {
    async fn new() -> Self {
        let (database, store) = TestDatabase::migrated("w").await;
        Self { database, store }
    }

    async fn accept(&self, project: ProjectId, asks: Asks<'_>) -> (DeploymentId, Admission) {
        let body = request(|e| {
            e["data"]["project"] = json!({ "id": project, "slug": asks.slug });
            e["data"]["server"]["handle"] = asks.server.into();
            e["data"]["repository"]["name"] = asks.repository.into();
            e["data"]["repository"]["pushes_deployed_by"] = asks.pushes.into();
            e["data"].as_object_mut().unwrap().remove("sequence");
        });
        accept(&self.store, &body).await
    }

    /// Accepted, and brought to its end after these stages.
    async fn deploy(&self, project: ProjectId, asks: Asks<'_>, stages: &[Stage], end: &DeploymentEnd) {
        assert_eq!(self.accept(project, asks).await.1, Admission::New);
        self.carry_out(stages, end, &Map::new()).await;
    }

    async fn carry_out(&self, stages: &[Stage], end: &DeploymentEnd, facts: &Map<String, Value>) {
        let claim = self.store.claim(LONG).await.unwrap().expect("something is due");
        for &stage in stages {
            self.store.stage_started(&claim.lease, stage, b"x").await.unwrap();
            let summary = StageSummary { stage, change: Change::Changed, duration_ms: 1 };
            let end = StageEnd { summary: &summary, facts, digests: None };
            self.store.stage_finished(&claim.lease, end, None).await.unwrap();
        }
        let seen = AttemptSummary { restored: true, ..AttemptSummary::default() };
        self.store.finish(&claim.lease, end, &seen).await.unwrap();
    }

    async fn command(&self, project: ProjectId, action: Action, data: Value) -> Result<Admission, Failure> {
        let mut whole = json!({ "project": { "id": project, "slug": "shop" } });
        whole.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        let event = json!({
            "specversion": "1.0", "type": format!("slipway.project.{action}.v1"), "source": "/test",
            "id": uuid::Uuid::new_v4(), "data": whole,
        });
        let body = event.to_string().into_bytes();
        let incoming = incoming(&body);
        let Message::Command(request) = read(&body, &incoming.metadata()).unwrap() else { panic!("no command") };
        self.store.accept_command(&request, &incoming, 3).await.unwrap()
    }

    async fn hand_over(&self, from: Option<ProjectId>, to: ProjectId) -> HandOverOutcome {
        let slug = Some((Slug::new("shop").unwrap(), ServerHandle::new(SERVER).unwrap()));
        self.store.hand_over(&HandOver { slug, repository: None, to, from }, &operator()).await.unwrap()
    }

    /// Whose the slug is.
    async fn owner(&self) -> Option<ProjectId> {
        let owned = self.store.owned().await.unwrap();
        let slug = |o: &&Owned| matches!(&o.thing, OwnedThing::Slug { slug, server } if slug.as_str() == "shop" && server.as_str() == SERVER);
        owned.iter().find(slug).map(|o| o.project)
    }

    async fn repositories(&self) -> Vec<(String, ProjectId)> {
        let owned = self.store.owned().await.unwrap().into_iter();
        let repository = |o: Owned| match o.thing {
            OwnedThing::Repository(name) => Some((name, o.project)),
            OwnedThing::Slug { .. } | OwnedThing::Domain { .. } => None,
        };
        owned.filter_map(repository).collect()
    }
}

fn project() -> ProjectId {
    ProjectId(uuid::Uuid::new_v4())
}

fn success() -> DeploymentEnd {
    DeploymentEnd::Succeeded { url: None }
}

fn code(admission: &Admission) -> ErrorCode {
    let Admission::Refused(failure) = admission else { panic!("{admission:?}") };
    failure.code
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_is_its_projects_until_an_operator_hands_it_over() {
    let (town, first, second) = (Town::new().await, project(), project());
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    let (id, refused) = town.accept(second, RIVAL).await;
    let Admission::Refused(refusal) = &refused else { panic!("{refused:?}") };
    assert_eq!(refusal.code, ErrorCode::SlugTaken);
    for part in [first.to_string(), format!("hand-over shop --server one --to {second} --why")] {
        assert!(refusal.message.contains(&part), "{refusal:?}");
    }
    assert_eq!(town.store.deployment(id).await.unwrap(), None);
    // On another server it's another directory.
    assert_eq!(town.accept(second, Asks { server: "two", ..RIVAL }).await.1, Admission::New);
    town.carry_out(&[], &success(), &Map::new()).await;

    // Nobody is handed what an attempt is working at.
    let (waiting, _) = town.accept(first, SHOP).await;
    let claim = town.store.claim(LONG).await.unwrap().unwrap();
    assert_eq!(town.hand_over(None, second).await, HandOverOutcome::Busy);
    town.store.retry(&claim.lease, failure(), Duration::ZERO).await.unwrap();
    assert_eq!(town.hand_over(None, second).await, HandOverOutcome::Done(vec![first]));
    assert_eq!(town.hand_over(None, second).await, HandOverOutcome::Already);
    let audit = town.store.audit(&Default::default(), 10).await.unwrap();
    let seen = (audit.len(), audit[0].action.as_str(), audit[0].subject.as_str(), &audit[0].details);
    assert_eq!(seen, (1, "projects hand-over", "shop on one", &json!({ "from": [first], "to": second })));

    // What the first project still asks for is refused, whether it came before or after.
    assert_eq!(town.store.claim(LONG).await.unwrap(), None);
    let ended = town.store.deployment(waiting).await.unwrap().unwrap();
    assert_eq!(ended.result.unwrap().failure.unwrap().code, ErrorCode::SlugTaken);
    assert_eq!(code(&town.accept(first, SHOP).await.1), ErrorCode::SlugTaken);
    for action in [Action::Stop, Action::Start, Action::Undeploy] {
        let refused = town.command(first, action, json!({ "server": SERVER })).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::SlugTaken, "{action}");
    }
    let places = town.store.places(&Slug::new("shop").unwrap()).await.unwrap();
    assert!(places.iter().all(|place| place.gone == (place.project.id == first)), "{places:?}");
    // The server may still name the first one as the owner.
    assert_eq!(town.accept(second, RIVAL).await.1, Admission::New);
    let claim = town.store.claim(LONG).await.unwrap().unwrap();
    assert_eq!(claim.owned.former, [first]);
    // That it failed takes nothing back.
    town.store.finish(&claim.lease, &ended_failed(), &AttemptSummary::default()).await.unwrap();
    assert_eq!(town.owner().await, Some(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_projects_that_come_at_once_one_gets_the_slug() {
    for _ in 0..5 {
        let town = Town::new().await;
        let admissions = tokio::join!(town.accept(project(), SHOP), town.accept(project(), RIVAL));
        let admissions = [admissions.0.1, admissions.1.1];
        assert_eq!(admissions.iter().filter(|admission| **admission == Admission::New).count(), 1, "{admissions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slug_is_free_once_nothing_is_left_of_the_project_that_had_it() {
    let (town, first, second) = (Town::new().await, project(), project());
    let failed = |code| DeploymentEnd::Failed {
        failure: Failure::new(code, None, "no"),
        missing_secret: None,
        reason: "permanent",
    };
    let taken = failed(ErrorCode::SlugTaken);
    // It was never there, or the server has it as somebody else's.
    for (stages, end) in [
        (&[][..], &ended_failed()),
        (&[Stage::Preflight], &failed(ErrorCode::PortOccupied)),
        (&[Stage::Preflight, Stage::Clone], &taken),
    ] {
        town.deploy(first, SHOP, stages, end).await;
        assert_eq!((town.owner().await, town.repositories().await), (None, Vec::new()), "{stages:?}");
    }
    let (waiting, _) = town.accept(first, SHOP).await;
    town.store.cancel(waiting).await.unwrap();
    assert_eq!(town.owner().await, None);
    // What was begun there stays its own, also when it failed.
    town.deploy(first, SHOP, &[Stage::Preflight, Stage::Clone], &ended_failed()).await;
    assert_eq!(town.owner().await, Some(first));
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    // A server that says otherwise doesn't take away what has been proven.
    town.deploy(first, SHOP, &[Stage::Preflight], &taken).await;
    assert_eq!(town.owner().await, Some(first));

    let undeploy = async |data: Value, kept: Value| {
        town.command(first, Action::Undeploy, data).await.unwrap();
        let facts = json!({ "volumes_kept": kept });
        town.carry_out(Action::Undeploy.stages(), &success(), facts.as_object().unwrap()).await;
        town.owner().await
    };
    assert_eq!(undeploy(json!({}), json!(["shop_db_data"])).await, Some(first), "its data are there");
    assert_eq!(code(&town.accept(second, RIVAL).await.1), ErrorCode::SlugTaken);
    assert_eq!(undeploy(json!({}), json!([])).await, None);
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    assert_eq!(undeploy(json!({ "remove_volumes": true }), json!([])).await, None);
    assert_eq!(town.repositories().await, []);
    town.deploy(second, RIVAL, &[Stage::Clone], &success()).await;
    // What was taken off isn't claimed for taking it off again.
    let refused = town.command(first, Action::Undeploy, json!({ "server": SERVER })).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::SlugTaken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_has_forgotten_the_owner_is_told_by_hand() {
    let (town, first, second) = (Town::new().await, project(), project());
    assert_eq!(town.hand_over(None, second).await, HandOverOutcome::Nobodys);
    assert_eq!(town.hand_over(Some(first), second).await, HandOverOutcome::Done(vec![first]));
    assert_eq!(code(&town.accept(first, SHOP).await.1), ErrorCode::SlugTaken);
    assert_eq!(town.accept(second, RIVAL).await.1, Admission::New);
    assert_eq!(town.store.claim(LONG).await.unwrap().unwrap().owned.former, [first]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ci_secrets_of_a_repository_are_one_projects() {
    let (town, first, second) = (Town::new().await, project(), project());
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    assert_eq!(town.repositories().await, [("acme/shop".to_owned(), first)]);
    let copy = Asks { slug: "copy", repository: "aCME/sHOP", ..SHOP };
    for pushes in ["ci_job", "both"] {
        assert_eq!(town.accept(second, Asks { pushes, ..copy }).await.1, Admission::New);
        let claim = town.store.claim(LONG).await.unwrap().unwrap();
        let taken = claim.owned.ci_taken.clone().unwrap();
        assert!(taken.starts_with("repository-taken: ") && taken.contains("shop on one"), "{taken}");
        town.store.finish(&claim.lease, &success(), &AttemptSummary::default()).await.unwrap();
        assert_eq!(town.repositories().await, [("acme/shop".to_owned(), first)]);
    }
    // Whom Slipway deploys needs no secrets, and leaves those of the other one alone.
    town.deploy(second, Asks { pushes: "webhook", ..copy }, &[Stage::Clone], &success()).await;
    let on = ServerHandle::new(SERVER).unwrap();
    assert!(town.store.shares_repository(second, &on).await.unwrap());
    assert!(!town.store.shares_repository(first, &on).await.unwrap());

    let sql = format!(
        "INSERT INTO github_digests (project_id, server, name, digest) VALUES ('{first}', 'one', 'DOTENV', 'x')"
    );
    town.database.sql.execute(&sql, &[]).await.unwrap();
    let repository = Some("acme/shop".parse().unwrap());
    let hand_over = HandOver { slug: None, repository, to: second, from: None };
    assert_eq!(town.store.hand_over(&hand_over, &operator()).await.unwrap(), HandOverOutcome::Done(vec![first]));
    assert!(
        town.store.github_digests(first, &on).await.unwrap().is_empty(),
        "what it has written isn't there any more"
    );
    assert!(town.store.shares_repository(first, &on).await.unwrap());
    town.deploy(second, copy, &[Stage::Clone], &success()).await;
    assert_eq!(town.repositories().await, [("acme/shop".to_owned(), second)]);
    assert_eq!(town.accept(first, SHOP).await.1, Admission::New);
    let claim = town.store.claim(LONG).await.unwrap().unwrap();
    assert!(claim.owned.ci_taken.is_some(), "{claim:?}");
    town.store.finish(&claim.lease, &success(), &AttemptSummary::default()).await.unwrap();
    // Whose pushes Slipway deploys from now on gives them up.
    town.deploy(second, Asks { pushes: "webhook", ..copy }, &[Stage::Clone], &success()).await;
    assert_eq!(town.repositories().await, []);
    assert_eq!(town.accept(first, SHOP).await.1, Admission::New);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deployed_before_owners_were_known_belongs_to_whoever_serves() {
    let (town, first, second, gone) = (Town::new().await, project(), project(), project());
    town.deploy(first, SHOP, &[Stage::Clone], &success()).await;
    // As a version before let it happen: the newcomer came later, and failed.
    town.database.sql.execute("DELETE FROM slug_owners", &[]).await.unwrap();
    town.deploy(second, RIVAL, &[Stage::Clone], &ended_failed()).await;
    let elsewhere = Asks { slug: "kiosk", repository: "acme/kiosk", ..SHOP };
    town.deploy(gone, elsewhere, &[Stage::Clone], &success()).await;
    let taken_off = format!(
        "UPDATE deployments SET action = 'undeploy', remove_volumes = true WHERE project_id = '{gone}';
         INSERT INTO github_digests (project_id, server, name, digest) VALUES ('{first}', 'one', 'DOTENV', 'x');
         DELETE FROM slug_owners; DELETE FROM repository_owners"
    );
    town.database.sql.batch_execute(&taken_off).await.unwrap();
    let migration = include_str!("../../../../migrations/V14__owners.sql");
    let backfills: Vec<&str> = migration.split(";\n").filter(|part| part.contains("INSERT INTO")).collect();
    assert_eq!(backfills.len(), 2);
    town.database.sql.batch_execute(&backfills.join(";\n")).await.unwrap();
    assert_eq!(town.owner().await, Some(first));
    assert_eq!(town.store.owned().await.unwrap().len(), 2);
    assert_eq!(town.repositories().await, [("acme/shop".to_owned(), first)]);
}
