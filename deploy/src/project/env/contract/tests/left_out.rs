//! What becomes of variables that a request gave and a later one leaves out.

use super::by_hand::BARE;
use super::*;
use crate::project::consumers::render_env_prod;

/// What each of these was before: absent, by hand, drawn, a literal, derived; then given by requests and left out again.
#[test]
fn what_a_later_request_leaves_out_is_as_if_it_had_never_been_given() {
    let names = ["NEW", "BY_HAND", "QUEUE_KEY", "APP_SECRET_KEY", "POSTGRES_REQUIRE_SSL", "REDIS_URL", "API_BASE_URL"];
    for (sealed, twice) in [(false, false), (true, true)] {
        let mut scene = Scene::new(BACKEND);
        scene.example = "REDIS_URL=redis://localhost\n";
        scene.kept.insert("BY_HAND".to_owned(), "a person's".to_owned());
        scene.keep(&scene.plan().unwrap());
        let before = scene.plan().unwrap();

        let name = |name: &str| VariableName::new(name).unwrap();
        let asked = (scene.secrets.clone(), scene.variables.clone());
        for round in 0..=usize::from(twice) {
            let given = names.map(|n| (name(n), format!("given {round}")));
            if sealed {
                scene.secrets.extend(given.map(|(n, value)| (n, SecretString::from(value))));
            } else {
                scene.variables.extend(given);
            }
            let plan = scene.plan().unwrap();
            assert!(names.iter().all(|n| value(&plan, n) == Some(format!("given {round}"))), "{:?}", plan.origins());
            scene.keep(&plan);
            let again = scene.plan().unwrap();
            assert_eq!((again.values(), again.notes(&scene.contract)), (plan.values(), scene.notes.clone()));
        }
        (scene.secrets, scene.variables) = asked;
        let after = scene.plan().unwrap();
        assert_eq!(after.values(), before.values());
        assert_eq!(after.notes(&scene.contract), before.notes(&scene.contract));
    }
}

#[test]
fn a_given_value_that_somebody_has_changed_is_theirs_from_then_on() {
    let mut scene = Scene::new(BACKEND);
    let limit = VariableName::new("LIMIT").unwrap();
    scene.variables.insert(limit.clone(), "1".to_owned());
    scene.keep(&scene.plan().unwrap());
    scene.kept.insert("LIMIT".to_owned(), "by hand".to_owned());
    let given = scene.plan().unwrap();
    assert_eq!(value(&given, "LIMIT").as_deref(), Some("1"), "what the event gives wins");
    let of_request = scene.variables.remove(&limit);
    assert_eq!(value(&scene.plan().unwrap(), "LIMIT").as_deref(), Some("by hand"));
    // Given again and left out again.
    scene.variables.extend(of_request.map(|text| (limit.clone(), text)));
    scene.keep(&given);
    scene.keep(&scene.plan().unwrap());
    scene.variables.remove(&limit);
    assert_eq!(value(&scene.plan().unwrap(), "LIMIT").as_deref(), Some("by hand"));
}

#[test]
fn a_required_secret_that_is_left_out_is_missing_and_the_message_says_since_when() {
    let mut scene = Scene::new(BACKEND);
    scene.keep(&scene.plan().unwrap());
    scene.secrets.remove(&VariableName::new("PAY_KEY").unwrap());
    let error = scene.fails();
    assert_eq!(error.missing_secret.unwrap().as_str(), "PAY_KEY");
    assert!(error.message.ends_with("an earlier request gave PAY_KEY, and what a request leaves out isn't kept"));
}

#[test]
fn a_databases_login_that_was_given_stays_with_the_database() {
    let mut scene = Scene::new(BACKEND);
    scene.keep(&scene.plan().unwrap());
    scene.variables.clear();
    assert_eq!(value(&scene.plan().unwrap(), "POSTGRES_USER").as_deref(), Some("given"), "and not the literal");
    scene.database = false;
    assert_eq!(value(&scene.plan().unwrap(), "POSTGRES_USER").as_deref(), Some("app"));
}

#[test]
fn what_a_databases_volume_was_made_with_is_back_after_another_login() {
    let mut scene = Scene::new(BARE);
    let name = VariableName::new("POSTGRES_PASSWORD").unwrap();
    for given in ["1", "1", "2", "2", "3"] {
        scene.variables.insert(name.clone(), given.to_owned());
        scene.keep(&scene.plan().unwrap());
        assert_eq!(scene.notes.covered.is_empty(), given == "1", "it's the database's own: {:?}", scene.notes.covered);
    }
    scene.variables.remove(&name);
    for _ in 0..2 {
        let plan = scene.plan().unwrap();
        assert_eq!(value(&plan, "POSTGRES_PASSWORD").as_deref(), Some("1"));
        assert_eq!(value(&plan, "DATABASE_URL").as_deref(), Some("postgresql://given:1@db:5432/service"));
        scene.keep(&plan);
    }
}

#[test]
fn an_env_file_of_its_own_keeps_only_what_somebody_has_put_there() {
    let mut scene = Scene::new(BACKEND);
    let by_hand = "PGTZ=UTC\nPAY_KEY=old\nTG_BOT_IMAGE=x\nTOKEN=t\nAPP_SECRET_KEY=k\n";
    for name in ["PGTZ", "PAY_KEY", "TG_BOT_IMAGE", "TOKEN"] {
        scene.kept.insert(name.to_owned(), "in .env".to_owned());
    }
    let sealed = ["TOKEN".to_owned()].into();
    let text = render_env_prod(by_hand, &scene.plan().unwrap(), &sealed);
    assert_eq!(crate::project::env::dotenv::parse(&text), BTreeMap::from([("PGTZ".to_owned(), "in .env".to_owned())]));
    assert_eq!(render_env_prod(&text, &scene.plan().unwrap(), &sealed), text);
    // What a request covers is there again once it's left out.
    let name = VariableName::new("PGTZ").unwrap();
    scene.variables.insert(name.clone(), "CET".to_owned());
    let covered = render_env_prod(&text, &scene.plan().unwrap(), &sealed);
    assert!(crate::project::env::dotenv::parse(&covered).is_empty(), "{covered}");
    assert_eq!(render_env_prod(&covered, &scene.plan().unwrap(), &sealed), covered);
    scene.variables.remove(&name);
    assert_eq!(render_env_prod(&covered, &scene.plan().unwrap(), &sealed), text);
}

#[test]
fn what_follows_from_modules_and_images_follows_each_request() {
    let mut scene = Scene::new(BACKEND);
    scene.keep(&scene.plan().unwrap());
    let before = scene.plan().unwrap();
    scene.modules.push("frontend");
    let plan = scene.plan().unwrap();
    assert_eq!(value(&plan, "ENABLED_MODULES").as_deref(), Some("backend,frontend,tg_bot"));
    assert!(value(&plan, "FRONTEND_IMAGE").is_some());
    scene.keep(&plan);
    scene.modules.pop();
    assert_eq!(scene.plan().unwrap().values(), before.values());
    scene.kept.insert("ENABLED_MODULES".to_owned(), "by hand".to_owned());
    assert_eq!(value(&scene.plan().unwrap(), "ENABLED_MODULES").as_deref(), Some("by hand"));
}

#[test]
fn a_backend_without_redis_gets_its_url_where_the_project_asks_for_it() {
    let mut scene = Scene::new(BACKEND);
    let url = |scene: &Scene| value(&scene.plan().unwrap(), "REDIS_URL");
    assert_eq!(url(&scene), None, "compose has no redis here");
    scene.example = "# REDIS_URL=redis://elsewhere\n";
    assert_eq!(url(&scene), None, "a comment asks for nothing");
    scene.example = "APP_NAME=x\nREDIS_URL=redis://localhost:6379\n";
    assert_eq!(url(&scene).as_deref(), Some("redis://redis:6379"));
    scene.example = "";
    let entry = "  REDIS_URL: {source: derived, environments: [production], required: true}\n";
    scene.contract = Scene::new(&format!("{BACKEND}{entry}")).contract;
    assert_eq!(url(&scene).as_deref(), Some("redis://redis:6379"));
    let given = "  REDIS_URL: {source: user_secret, environments: [production], consumers: [backend], \
                 required: false, description: A queue}\n";
    scene.contract = Scene::new(&format!("{BACKEND}{given}")).contract;
    scene.example = "REDIS_URL=redis://localhost:6379\n";
    assert_eq!(url(&scene), None, "the user's affair");
}
