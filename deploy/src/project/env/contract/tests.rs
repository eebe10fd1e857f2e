//! Tests only: the variables of projects that have a contract, without compose and without a server.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use secrecy::SecretString;
use slipway_protocol::names::VariableName;
use slipway_protocol::{ErrorCode, ProjectReady};

use crate::StageError;
use crate::project::consumers::service_variables;
use crate::project::env::contract::merged::EnvContract;
use crate::project::env::kept::KeptVariables;
use crate::project::env::notes::EnvNotes;
use crate::project::env::plan::{image_variables, plan_env};
use crate::project::env::variables::{ComposeVariable, EnvInputs, EnvPlan, Origin};
use crate::project::model::ComposeProject;

const COMPOSE: &str = r#"{ "services": {
    "backend": { "image": "own-backend", "environment": { "SLIPWAY_READS_ENV": "1" } },
    "tg_bot": { "image": "own-tg_bot", "environment": { "SLIPWAY_READS_ENV": "1", "PAY_KEY": "x" } },
    "frontend": { "image": "own-frontend", "environment": { "SLIPWAY_READS_ENV": "1" } },
    "extra": { "image": "extra", "environment": { "SLIPWAY_READS_ENV": "1" } },
    "db": { "image": "postgres:16", "environment": { "POSTGRES_PASSWORD": null, "A": "b" } } } }"#;

const BACKEND: &str = r#"
version: "1"
owner: backend
entries:
  APP_NAME: {source: derived, environments: [local, production], consumers: [backend], required: true}
  APP_SECRET_KEY: {source: generated_secret, environments: [production], consumers: [backend], required: true}
  BACKEND_IMAGE: {source: derived, environments: [production], required: true}
  BACKEND_PORT: {source: allocation, environments: [production], required: true, service: backend}
  DATABASE_URL: {source: user_secret, environments: [production], consumers: [backend], required: false, description: Another database}
  DEBUG: {source: literal, environments: [local], required: true, value: true}
  ENABLED_MODULES: {source: derived, environments: [production], required: false}
  PAY_KEY: {source: user_secret, environments: [production], consumers: [backend], required: true, description: Key of the payment provider}
  PORT: {source: derived, environments: [local, production], consumers: [backend], required: true}
  POSTGRES_DB: {source: derived, environments: [production], required: true}
  POSTGRES_PASSWORD: {source: generated_secret, environments: [production], required: true}
  POSTGRES_REQUIRE_SSL: {source: literal, environments: [production], required: true, value: false}
  POSTGRES_USER: {source: literal, environments: [production], required: true, value: app}
  QUEUE_KEY: {source: generated_secret, environments: [production], required: false}
"#;

mod by_hand;
mod left_out;

/// A project on a server.
struct Scene {
    contract: EnvContract,
    kept: BTreeMap<String, String>,
    /// What `.env.prod` has.
    beside: BTreeMap<String, String>,
    notes: EnvNotes,
    variables: BTreeMap<VariableName, String>,
    modules: Vec<&'static str>,
    secrets: BTreeMap<VariableName, SecretString>,
    database: bool,
    example: &'static str,
    required: Vec<ComposeVariable>,
}

impl Scene {
    fn new(yaml: &str) -> Self {
        let contract = EnvContract::read([("services/backend/env.contract.yaml", yaml.as_bytes())]).unwrap();
        let secret = |name: &str| (VariableName::new(name).unwrap(), SecretString::from(format!("given {name}")));
        let secrets = [secret("PAY_KEY"), secret("TELEGRAM_BOT_TOKEN")].into();
        Self {
            contract,
            kept: BTreeMap::new(),
            beside: BTreeMap::new(),
            notes: EnvNotes::default(),
            modules: vec!["backend", "tg_bot"],
            variables: [(VariableName::new("POSTGRES_USER").unwrap(), "given".to_owned())].into(),
            secrets,
            database: false,
            example: "",
            required: Vec::new(),
        }
    }

    fn plan(&self) -> Result<EnvPlan, StageError> {
        let request: ProjectReady = serde_json::from_value(serde_json::json!({
            "project": { "id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": "corner-shop" },
            "repository": {
                "name": "acme/shop", "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main"
            },
            "server": { "handle": "one" },
            "allocations": [{ "service": "backend", "host_port": 8080, "container_port": 8000 }],
            "modules": self.modules,
            "variables": self.variables
        }))
        .unwrap();
        let kept = KeptVariables::new(self.kept.clone(), self.notes.clone(), &self.beside, self.database);
        let images = image_variables(&request, &self.required, &self.contract, &kept, "ghcr.io/acme/shop-");
        plan_env(&EnvInputs {
            request: &request,
            secrets: &self.secrets,
            kept: &kept,
            compose_variables: &self.required,
            project: &ComposeProject::parse(COMPOSE.as_bytes()).unwrap(),
            contract: &self.contract,
            directory: "/opt/services/corner-shop",
            slots_file: "",
            example: self.example,
            images: &images,
            database_exists: self.database,
        })
    }

    fn keep(&mut self, plan: &EnvPlan) {
        self.kept = plan.values();
        self.notes = plan.notes(&self.contract);
        self.database = true;
    }

    fn fails(&self) -> StageError {
        self.plan().err().unwrap()
    }
}

fn value(plan: &EnvPlan, name: &str) -> Option<String> {
    plan.get(name).map(|(value, _)| value.to_owned())
}

#[test]
fn every_source_gives_its_value_and_a_second_deployment_changes_none() {
    let mut scene = Scene::new(BACKEND);
    let plan = scene.plan().unwrap();
    for (name, expected, origin) in [
        ("APP_NAME", "corner-shop", Origin::Derived),
        ("BACKEND_IMAGE", "acme/shop-backend", Origin::Release),
        ("BACKEND_PORT", "8080", Origin::Allocation),
        ("ENABLED_MODULES", "backend,tg_bot", Origin::Derived),
        ("PAY_KEY", "given PAY_KEY", Origin::Sealed),
        ("POSTGRES_DB", "service", Origin::Derived),
        ("POSTGRES_REQUIRE_SSL", "false", Origin::Literal),
        ("POSTGRES_USER", "given", Origin::Given),
    ] {
        assert_eq!(plan.get(name), Some((expected, origin)), "{name}");
    }
    for name in ["APP_SECRET_KEY", "POSTGRES_PASSWORD", "QUEUE_KEY"] {
        assert!(plan.get(name).is_some_and(|(v, o)| v.len() == 32 && o == Origin::Generated), "{name}");
    }
    for name in ["PORT", "DEBUG", "DATABASE_URL"] {
        assert_eq!(plan.get(name), None, "{name}");
    }
    scene.keep(&plan);
    assert_eq!(scene.plan().unwrap().values(), plan.values());
}

#[test]
fn a_required_secret_that_nobody_gave_is_asked_for_in_the_projects_words() {
    let mut scene = Scene::new(BACKEND);
    let secrets = std::mem::take(&mut scene.secrets);
    let error = scene.fails();
    assert_eq!((error.code, error.missing_secret.unwrap().as_str()), (ErrorCode::MissingSecret, "PAY_KEY"));
    assert_eq!(error.detail.secret_description.as_deref(), Some("Key of the payment provider"));
    assert_eq!(error.message, "secret PAY_KEY is missing: services/backend/env.contract.yaml requires it");
    scene.secrets = secrets;
    scene.kept.insert("DATABASE_URL".to_owned(), "sqlite:///x".to_owned());
    assert_eq!(value(&scene.plan().unwrap(), "DATABASE_URL").as_deref(), Some("sqlite:///x"));
}

#[test]
fn a_bots_token_is_missing_only_if_the_contract_requires_it() {
    let entry = "  TELEGRAM_BOT_TOKEN: {source: user_secret, environments: [production], consumers: [tg_bot], \
                 required: true, description: Token of the bot}\n";
    let mut scene = Scene::new(&format!("{BACKEND}{entry}"));
    scene.secrets.remove(&VariableName::new("TELEGRAM_BOT_TOKEN").unwrap());
    assert_eq!(scene.fails().detail.secret_description.as_deref(), Some("Token of the bot"));
    scene.contract = Scene::new(&format!("{BACKEND}{}", entry.replace("required: true", "required: false"))).contract;
    assert_eq!(value(&scene.plan().unwrap(), "TELEGRAM_BOT_TOKEN"), None);
}

#[test]
fn what_is_required_and_can_not_be_derived_is_named_with_its_file() {
    for (entry, why) in [
        ("REGION: {source: derived, environments: [production], required: true}", "Slipway can't derive it"),
        (
            "WEB_PORT: {source: allocation, environments: [production], required: true, service: web}",
            "allocates no port",
        ),
    ] {
        let mut scene = Scene::new(&format!("{BACKEND}  {entry}\n"));
        let error = scene.fails();
        assert_eq!(error.code, ErrorCode::VariableUnresolved);
        let name = entry.split(':').next().unwrap();
        let begin = format!("services/backend/env.contract.yaml requires the variable {name}, and ");
        assert!(error.message.starts_with(&begin) && error.message.contains(why), "{error}");
        scene.contract =
            Scene::new(&format!("{BACKEND}  {}\n", entry.replace("required: true", "required: false"))).contract;
        assert_eq!(value(&scene.plan().unwrap(), name), None);
    }
}

#[test]
fn a_literal_follows_the_commit_until_somebody_changes_it_by_hand() {
    let mut scene = Scene::new(BACKEND);
    let ssl = |scene: &Scene| value(&scene.plan().unwrap(), "POSTGRES_REQUIRE_SSL");
    scene.keep(&scene.plan().unwrap());
    scene.contract = Scene::new(&BACKEND.replace("value: false", "value: true")).contract;
    assert_eq!(ssl(&scene).as_deref(), Some("true"));
    scene.kept.insert("POSTGRES_REQUIRE_SSL".to_owned(), "by hand".to_owned());
    assert_eq!(ssl(&scene).as_deref(), Some("by hand"));
    scene.keep(&scene.plan().unwrap());
    assert_eq!(ssl(&scene).as_deref(), Some("by hand"), "it stays so");
}

#[test]
fn a_literal_goes_with_its_declaration_and_stays_with_a_database() {
    let yaml = format!("{BACKEND}  LIMIT: {{source: literal, environments: [production], required: true, value: 5}}\n");
    let mut scene = Scene::new(&yaml);
    scene.keep(&scene.plan().unwrap());
    scene.contract = EnvContract::default();
    let plan = scene.plan().unwrap();
    assert_eq!((value(&plan, "LIMIT"), value(&plan, "POSTGRES_REQUIRE_SSL").as_deref()), (None, Some("false")));
    scene.kept.insert("LIMIT".to_owned(), "6".to_owned());
    assert_eq!(value(&scene.plan().unwrap(), "LIMIT").as_deref(), Some("6"), "changed by hand");
}

#[test]
fn no_password_is_drawn_for_a_database_that_exists_whatever_the_contract_says() {
    let mut scene = Scene::new(BACKEND);
    scene.database = true;
    let error = scene.fails();
    assert_eq!((error.code, error.missing_secret.unwrap().as_str()), (ErrorCode::MissingSecret, "POSTGRES_PASSWORD"));
    assert!(error.message.contains("the database exists already"), "{}", error.message);
}

#[test]
fn what_a_user_is_to_give_is_not_drawn_in_the_users_place() {
    let user = "source: user_secret, environments: [production], consumers: [backend], required: true, description: D";
    for name in ["APP_SECRET_KEY", "POSTGRES_PASSWORD"] {
        let drawn = BACKEND.lines().find(|line| line.trim().starts_with(name)).unwrap();
        let error = Scene::new(&BACKEND.replace(drawn, &format!("  {name}: {{{user}}}"))).fails();
        assert_eq!((error.code, error.missing_secret.unwrap().as_str()), (ErrorCode::MissingSecret, name));
    }
}

/// What each service gets beside what its compose files say.
fn variables(scene: &Scene, compose: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let project = ComposeProject::parse(compose.as_bytes()).unwrap();
    let image = |module: &str| (format!("{}_IMAGE", module.to_ascii_uppercase()), format!("own-{module}"));
    let images = ["backend", "tg_bot", "frontend"].map(image).into();
    let project = project.with_values(&images, images.keys());
    let found = service_variables(&project, &scene.contract, &scene.plan().unwrap(), &images);
    found.into_iter().map(|(service, changes)| (service, changes.variables)).collect()
}

#[test]
fn what_users_gave_is_withheld_from_services_that_do_not_consume_it() {
    let more =
        "  CDN: {source: literal, environments: [production], consumers: [frontend], required: true, value: x}\n";
    let scene = Scene::new(&format!("{BACKEND}{more}"));
    let found = variables(&scene, COMPOSE);
    assert_eq!(found["frontend"], BTreeMap::from([("PAY_KEY".to_owned(), String::new())]));
    assert!(!found.contains_key("backend") && !found["extra"].contains_key("PAY_KEY"), "{found:?}");
    let bot = "  BOT: {source: derived, environments: [production], consumers: [tg_bot], required: false}\n";
    let found = variables(&Scene::new(&format!("{BACKEND}{more}{bot}")), COMPOSE);
    assert!(!found.contains_key("tg_bot"), "compose itself gives the bot its PAY_KEY: {found:?}");
}

#[test]
fn a_database_gets_its_own_variables_and_nothing_that_changes_with_a_release() {
    let scene = Scene::new(BACKEND);
    let found = variables(&scene, COMPOSE);
    assert_eq!(found["extra"].get("BACKEND_IMAGE").map(String::as_str), Some(""));
    assert!(!found.contains_key("db"), "it reads no file: {found:?}");
    let prod = r#"{ "services": { "db": { "image": "docker.io/library/postgres:16",
        "environment": { "SLIPWAY_READS_ENV_PROD": "1", "POSTGRES_USER": "x" } },
        "redis": { "image": "redis", "environment": { "SLIPWAY_READS_ENV_PROD": "1" } } } }"#;
    let found = variables(&scene, prod);
    let names: Vec<_> = found["db"].keys().map(String::as_str).collect();
    let own = ["POSTGRES_DB", "POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_REQUIRE_SSL"];
    assert_eq!(names, own, "a secret only for its consumers");
    assert_eq!(found["db"]["POSTGRES_DB"], "${POSTGRES_DB}");
    assert!(!found.contains_key("redis"), "{found:?}");
    let uncontracted = Scene { contract: EnvContract::default(), ..Scene::new(BACKEND) };
    let prod = prod.replace("POSTGRES_USER", "A");
    assert!(variables(&uncontracted, &prod)["db"].contains_key("POSTGRES_PASSWORD"));
}
