//! Tests only: what is written for Docker Compose, read by the real Docker Compose.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::Value;
use slipway_protocol::names::VariableName;
use slipway_protocol::{DeploymentId, ErrorCode};

use crate::project::compose::{FILES, OVERRIDE, render_override};
use crate::project::compose_program::{BOT, own_view, request, run};
use crate::project::consumers::service_variables;
use crate::project::env::contract::merged::EnvContract;
use crate::project::env::dotenv;
use crate::project::env::kept::KeptVariables;
use crate::project::env::notes::EnvNotes;
use crate::project::env::plan::{image_variables, plan_env};
use crate::project::env::variables::{ComposeVariable, EnvInputs, EnvPlan};
use crate::project::grants::{Grants, ServerFacts, Verdict, judge};
use crate::project::labels::deployment_of;
use crate::project::limits::DefaultsInForce;
use crate::project::model::ComposeProject;
use crate::{ProjectLimits, StageError};

/// A copy of a sample project, as it is on a server before the env stage.
struct OnDisk {
    folder: tempfile::TempDir,
    project: ComposeProject,
    compose_variables: Vec<ComposeVariable>,
}

impl OnDisk {
    fn sample(generation: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/samples/generation-{generation}"));
        std::fs::create_dir(folder.path().join("infra")).unwrap();
        for file in &FILES[..2] {
            std::fs::copy(sample.join(file), folder.path().join(file)).unwrap();
        }
        let prefix = ["--project-name", "corner-shop", "--env-file", "/dev/null", "-f", FILES[0], "-f", FILES[1]];
        let asked = run(folder.path(), &[&prefix[..], &["--profile", "*", "config", "--variables"]].concat());
        let variables = String::from_utf8(asked).unwrap();
        let compose_variables = variables.lines().skip(1).map(|line| {
            let mut words = line.split_whitespace();
            ComposeVariable { name: words.next().unwrap().to_owned(), required: words.next() == Some("true") }
        });
        let compose_variables = compose_variables.collect();
        let mut disk = Self { compose_variables, project: ComposeProject::of_template(), folder };
        let values = disk.plan(&[], &[BOT], false).unwrap().values();
        disk.project = own_view(disk.folder.path(), &values).unwrap();
        disk
    }

    fn plan(&self, kept: &[(&str, &str)], secrets: &[(&str, &str)], database: bool) -> Result<EnvPlan, StageError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let secret =
            |(name, value): &(&str, &str)| (VariableName::new(*name).unwrap(), SecretString::from((*value).to_owned()));
        plan_env(&EnvInputs {
            request: &request(),
            secrets: &secrets.iter().map(secret).collect(),
            kept: &KeptVariables::new(kept.iter().map(owned).collect(), EnvNotes::default(), &[].into(), database),
            compose_variables: &self.compose_variables,
            project: &self.project,
            contract: &EnvContract::default(),
            directory: self.folder.path().to_str().unwrap(),
            slots_file: "",
            example: "",
            images: &self.images(),
            database_exists: database,
        })
    }

    fn overrides(&self, plan: &EnvPlan) -> String {
        let variables = service_variables(&self.project, &EnvContract::default(), plan, &self.images());
        let defaults = DefaultsInForce::anew(ProjectLimits::DEFAULT.containers);
        render_override(&request(), &self.project, &variables, DeploymentId(uuid::Uuid::nil()), &defaults)
    }

    fn images(&self) -> BTreeMap<String, String> {
        let (contract, kept) = (EnvContract::default(), KeptVariables::default());
        let images = image_variables(&request(), &self.compose_variables, &contract, &kept, "");
        images.into_iter().map(|(name, image)| (name, format!("ghcr.io/{image}:sha-0123456"))).collect()
    }

    fn resolved(&self, env: &BTreeMap<String, String>, overrides: &str) -> Value {
        let at = |file: &str| self.folder.path().join(file);
        std::fs::write(at(".env"), dotenv::render(env)).unwrap();
        std::fs::write(at("infra/.env.prod"), "").unwrap();
        std::fs::write(at(OVERRIDE), overrides).unwrap();
        let mut arguments = vec!["--project-name", "corner-shop", "--env-file", ".env"];
        arguments.extend(FILES.iter().flat_map(|file| ["-f", file]));
        arguments.extend(["config", "--format", "json"]);
        serde_json::from_slice(&run(self.folder.path(), &arguments)).unwrap()
    }
}

#[test]
fn the_override_makes_both_generations_fit_for_a_server() {
    for generation in [1, 2] {
        let disk = OnDisk::sample(generation);
        let plan = disk.plan(&[], &[BOT], false).unwrap();
        let env = plan.values();
        let config = disk.resolved(&env, &disk.overrides(&plan));
        let (request, alone) = (request(), ServerFacts::default());
        let grants = Grants::of_sample(&request, disk.folder.path().to_str().unwrap(), &alone);
        assert_eq!(judge(config.to_string().as_bytes(), &grants).unwrap(), Verdict::default());
        let backend = &config["services"]["backend"];
        assert_eq!(backend["ports"].as_array().unwrap().len(), 1, "{backend}");
        assert_eq!((&backend["ports"][0]["published"], &backend["ports"][0]["target"]), (&"8080".into(), &8000.into()));
        assert_eq!(backend["deploy"]["replicas"], 1);
        assert_eq!(backend["image"], "ghcr.io/acme-org/corner.shop-backend:sha-0123456");
        assert_eq!(backend["labels"]["slipway.project"], "corner-shop");
        for (name, service) in config["services"].as_object().unwrap() {
            assert_eq!(service["restart"], "unless-stopped", "{name}");
            assert!(service["deploy"].get("restart_policy").is_none(), "{name}");
            assert_eq!(service["logging"]["options"]["max-size"], "10m", "{name}");
            assert_eq!(service["pids_limit"], 1024, "{name}");
            assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]), "{name}");
        }
        assert_eq!(config["services"].as_object().unwrap().len(), 4, "the bot has no profile any more");
        assert_eq!(config["services"]["tg_bot"]["image"], "ghcr.io/acme-org/corner.shop-tg-bot:sha-0123456");
        assert_eq!(backend["environment"]["POSTGRES_PASSWORD"], env["POSTGRES_PASSWORD"].as_str());
        assert!(env["DATABASE_URL"].contains(&env["POSTGRES_PASSWORD"]));
        for helper in ["db", "redis"] {
            let environment = config["services"][helper]["environment"].to_string();
            for foreign in ["_IMAGE", BOT.1, "APP_SECRET_KEY"] {
                assert!(!environment.contains(foreign), "{helper}: {environment}");
            }
            assert_eq!(environment.contains("POSTGRES_"), helper == "db", "{helper}: {environment}");
        }
    }
}

#[test]
fn the_override_file_looks_as_it_always_did() {
    let disk = OnDisk::sample(1);
    let text = disk.overrides(&disk.plan(&[], &[BOT], false).unwrap());
    assert_eq!(deployment_of(&text), Some(DeploymentId(uuid::Uuid::nil())));
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_on_the_server_wins_over_what_would_be_drawn_and_the_given_wins_over_both() {
    let disk = OnDisk::sample(1);
    let kept = [
        ("POSTGRES_PASSWORD", "old"),
        ("APP_NAME", "before"),
        ("BY_HAND", "x"),
        ("BACKEND_IMAGE", "ghcr.io/acme-org/corner.shop-backend:sha-7654321"),
        ("PORT", "9000"),
        ("SLIPWAY_REGISTRY_AUTH", "as a version before left it"),
    ];
    let values = disk.plan(&kept, &[BOT], true).unwrap().values();
    assert_eq!(values["POSTGRES_PASSWORD"], "old");
    assert_eq!(values["BY_HAND"], "x");
    assert_eq!(values["APP_NAME"], "Corner Shop");
    assert_eq!(values["BACKEND_IMAGE"], "ghcr.io/acme-org/corner.shop-backend:sha-0123456");
    assert!(!values.contains_key("PORT") && !values.contains_key("SLIPWAY_REGISTRY_AUTH"));
    let again: Vec<_> = values.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(disk.plan(&again, &[BOT], true).unwrap().values(), values, "a second deployment changes nothing");
    let given = disk.plan(&kept, &[BOT, ("POSTGRES_PASSWORD", "new")], true).unwrap().values();
    assert!(given["POSTGRES_PASSWORD"] == "new" && given["DATABASE_URL"].contains(":new@"));
}

#[test]
fn a_variable_that_came_as_a_secret_stays_one_until_it_is_given_openly() {
    let disk = OnDisk::sample(2);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let none = names(&[]);
    let first = disk.plan(&[], &[BOT, ("PAGER", "x-7c1d")], false).unwrap();
    assert_eq!(first.sealed(&none), names(&["PAGER", BOT.0]));
    let kept = disk.plan(&[("PAGER", "x-7c1d"), ("BY_HAND", "y"), ("APP_NAME", "z")], &[BOT], false).unwrap();
    assert_eq!(
        kept.sealed(&names(&["PAGER", "APP_NAME", "GONE"])),
        names(&["GONE", "PAGER", BOT.0]),
        "APP_NAME is given openly, and containers that are older may still log what is gone"
    );
}

#[test]
fn a_secret_that_nobody_gave_is_named() {
    let disk = OnDisk::sample(2);
    let error = disk.plan(&[], &[], false).err().unwrap();
    assert_eq!((error.code, error.missing_secret.unwrap().as_str()), (ErrorCode::MissingSecret, "TELEGRAM_BOT_TOKEN"));
    let mut disk = OnDisk::sample(2);
    disk.compose_variables.push(ComposeVariable { name: "PAYMENT_API_KEY".to_owned(), required: true });
    let error = disk.plan(&[], &[BOT], false).err().unwrap();
    assert_eq!((error.code, error.missing_secret.unwrap().as_str()), (ErrorCode::MissingSecret, "PAYMENT_API_KEY"));
    let mut disk = OnDisk::sample(2);
    disk.compose_variables.push(ComposeVariable { name: "REGION".to_owned(), required: true });
    assert_eq!(disk.plan(&[], &[BOT], false).err().unwrap().code, ErrorCode::ComposeInvalid);
    // `${REGION?}` may be empty, `${REGION:?}` may not: compose knows which it is.
    assert!(disk.plan(&[("REGION", "")], &[BOT], false).is_ok());
}

#[test]
fn a_databases_url_that_holds_its_password_stays_and_an_older_one_is_made_anew() {
    let disk = OnDisk::sample(2);
    let password = ("POSTGRES_PASSWORD", "p@ss/w0rd+x");
    let url = |kept: &str| {
        disk.plan(&[password, ("DATABASE_URL", kept)], &[BOT], true).unwrap().values()["DATABASE_URL"].clone()
    };
    for kept in [
        "postgresql://postgres:p%40ss%2fw0rd%2Bx@db:5432/service?sslmode=disable",
        "postgresql+asyncpg://postgres:p%40ss/w0rd+x@db/service",
        "postgres://postgres:p@ss/w0rd+x@db/service",
        "postgresql://somebody:else@elsewhere:5432/service",
        "sqlite:///data/db",
    ] {
        assert_eq!(url(kept), kept);
    }
    let login = "postgres:p%40ss%2Fw0rd%2Bx@db:5432/service";
    assert_eq!(url("postgresql+asyncpg://postgres:old@db/service"), format!("postgresql+asyncpg://{login}"));
    assert_eq!(url("postgres://postgres:old@db/service"), format!("postgres://{login}"));
    let fresh = disk.plan(&[password], &[BOT], true).unwrap().values();
    assert_eq!(fresh["DATABASE_URL"], format!("postgresql://{login}"));
}

#[test]
fn a_password_is_never_drawn_for_a_database_that_exists() {
    let error = OnDisk::sample(1).plan(&[], &[BOT], true).err().unwrap();
    assert_eq!(error.missing_secret.unwrap().as_str(), "POSTGRES_PASSWORD");
    let values = OnDisk::sample(2).plan(&[], &[BOT], true).unwrap().values();
    assert!(!values.contains_key("POSTGRES_PASSWORD"), "generation 2 keeps its default");
}

proptest! {
    // Many values a call: a call takes longer than all of its values.
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_value_comes_back_from_compose_unchanged(
        values in prop::collection::vec(
            prop_oneof!["[^\\x00]{0,40}", "[\\\\\"'$#{} \\n\\r\\tab=]{0,12}", "[a#]{0,3}\\\\{1,4}"], 1..60
        )
    ) {
        let folder = tempfile::tempdir().unwrap();
        let env: BTreeMap<String, String> =
            values.into_iter().enumerate().map(|(i, v)| (format!("V{i:03}"), v)).collect();
        std::fs::write(folder.path().join(".env"), dotenv::render(&env)).unwrap();
        // Both ways in which compose reads the file: for a container, and for its own interpolation.
        let uses: BTreeMap<String, String> = env.keys().map(|n| (format!("I_{n}"), format!("${{{n}}}"))).collect();
        let file = serde_json::json!({ "services": { "s": { "image": "i", "env_file": ".env", "environment": uses } } });
        std::fs::write(folder.path().join("c.yml"), file.to_string()).unwrap();
        let config = run(folder.path(), &["-p", "p", "--env-file", ".env", "-f", "c.yml", "config", "--format", "json"]);
        let config: Value = serde_json::from_slice(&config).unwrap();
        for (name, value) in &env {
            // `config` doubles every dollar, so that its output can be read by compose again.
            let shown = Value::from(value.replace('$', "$$"));
            prop_assert_eq!(&config["services"]["s"]["environment"][name], &shown);
            prop_assert_eq!(&config["services"]["s"]["environment"][format!("I_{name}")], &shown);
        }
    }
}
