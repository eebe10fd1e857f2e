//! Tests only: what becomes of each thing that a compose file may ask for (`corpus.txt`), by the real Docker Compose, the
//! override file and the allow-list, as on a server, but without starting anything.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use secrecy::SecretString;
use serde_json::Value;
use slipway_protocol::DeploymentId;
use slipway_protocol::names::VariableName;

use crate::project::compose::{FILES, OVERRIDE, render_override};
use crate::project::compose_program::{BOT, own_view, request, try_run};
use crate::project::consumers::service_variables;
use crate::project::env::contract::merged::EnvContract;
use crate::project::env::dotenv;
use crate::project::env::kept::KeptVariables;
use crate::project::env::notes::EnvNotes;
use crate::project::env::plan::{image_variables, plan_env};
use crate::project::env::variables::{ComposeVariable, EnvInputs, EnvPlan};
use crate::project::grants::{Grants, ServerFacts, judge};
use crate::project::limits::DefaultsInForce;
use crate::project::model::ComposeProject;
use crate::{ProjectLimits, StageError};

const BASE: &str = r#"
services:
  backend: {image: "${BACKEND_IMAGE:?tag}", build: ., env_file: ../.env, ports: ["8000:8000"]}
  tg_bot: {image: "${TG_BOT_IMAGE:?tag}", env_file: ../.env}
  db: {image: "postgres:16", volumes: ["db_data:/var/lib/postgresql/data"]}
volumes: {db_data: }
"#;
const BESIDE: [(&str, &str); 4] = [
    ("infra/extra.yml", "services: {extra: {image: y, environment: {FROM: extra}}}"),
    ("infra/nginx.conf", "events {}\n"),
    ("infra/labels", "a=b\n"),
    ("app.env", "A=app\n"),
];

/// What is started, or why nothing is: a code with words, or the keys that are refused.
#[derive(Debug)]
enum Outcome {
    Started(Value),
    Fails(String),
    Refused(String),
}

struct CorpusProject {
    folder: tempfile::TempDir,
    variables: Vec<ComposeVariable>,
}

impl CorpusProject {
    fn new(prod: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("infra")).unwrap();
        for (file, text) in [(FILES[0], BASE), (FILES[1], prod)].into_iter().chain(BESIDE) {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        Self { folder, variables: required(prod) }
    }

    fn plan(&self, project: &ComposeProject, images: &BTreeMap<String, String>) -> Result<EnvPlan, StageError> {
        let token = (VariableName::new(BOT.0).unwrap(), SecretString::from(BOT.1));
        // By hand: a request can't say it.
        let kept = [("COMPOSE_PROFILES".to_owned(), "extra".to_owned())].into();
        plan_env(&EnvInputs {
            request: &request(),
            secrets: &[token].into(),
            kept: &KeptVariables::new(kept, EnvNotes::default(), &BTreeMap::new(), false),
            compose_variables: &self.variables,
            project,
            contract: &EnvContract::default(),
            directory: self.folder.path().to_str().unwrap(),
            slots_file: "",
            example: "",
            images,
            database_exists: false,
        })
    }

    /// As stage env does it.
    fn deploy(&self) -> Result<Outcome, Outcome> {
        let failed = |error: StageError| Outcome::Fails(format!("{} {error}", error.code));
        let invalid = |complaint: String| Outcome::Fails(format!("compose-invalid {complaint}"));
        let (request, contract) = (request(), EnvContract::default());
        let wanted = image_variables(&request, &self.variables, &contract, &KeptVariables::default(), "");
        let images: BTreeMap<_, _> =
            wanted.into_iter().map(|(name, image)| (name, format!("ghcr.io/{image}:sha-0123456"))).collect();
        let trial = self.plan(&ComposeProject::of_template(), &images).map_err(failed)?.values();
        let project = own_view(self.folder.path(), &trial).map_err(invalid)?;
        project.check(&request).map_err(failed)?;
        let plan = self.plan(&project, &images).map_err(failed)?;
        let variables = service_variables(&project, &contract, &plan, &images);
        let defaults = DefaultsInForce::anew(ProjectLimits::DEFAULT.containers);
        let id = DeploymentId(uuid::Uuid::nil());
        let put = |file: &str, text: String| std::fs::write(self.folder.path().join(file), text).unwrap();
        put(".env", dotenv::render(&plan.values()));
        put("infra/.env.prod", String::new());
        put(OVERRIDE, render_override(&request, &project, &variables, id, &defaults));
        let mut arguments = vec!["--project-name", "corner-shop", "--env-file", ".env"];
        arguments.extend(FILES.iter().flat_map(|file| ["-f", file]));
        arguments.extend(["config", "--format", "json"]);
        let model = try_run(self.folder.path(), &arguments).map_err(invalid)?;
        let names: BTreeSet<String> = plan.values().into_keys().collect();
        let (directory, alone) = (self.folder.path().to_str().unwrap(), ServerFacts::default());
        let grants = Grants { variables: &names, ..Grants::of_sample(&request, directory, &alone) };
        let refused = judge(&model, &grants).map_err(failed)?.refusals;
        if refused.is_empty() {
            Ok(Outcome::Started(serde_json::from_slice(&model).unwrap()))
        } else {
            Err(Outcome::Refused(refused.iter().map(|refusal| refusal.key.as_str()).collect::<Vec<_>>().join(" ")))
        }
    }
}

/// The variables that a fragment requires, and the base. How a server finds them is tried in `tests/tests/stages/gate`.
fn required(prod: &str) -> Vec<ComposeVariable> {
    let of_prod = prod.split("${").skip(1).filter_map(|rest| rest.split_once(":?")).map(|(name, _)| name);
    let names = ["BACKEND_IMAGE", "TG_BOT_IMAGE"].into_iter().chain(of_prod);
    names.map(|name| ComposeVariable { name: name.to_owned(), required: true }).collect()
}

/// Whether what came of it is what is expected.
fn is_as(expected: &str, outcome: &Outcome) -> bool {
    let (kind, rest) = expected.split_once(' ').unwrap_or((expected, ""));
    match (kind, outcome) {
        ("accepted", Outcome::Started(_)) => true,
        ("refused", Outcome::Refused(keys)) => keys == rest,
        ("adapted", Outcome::Started(model)) => {
            let (path, value) = rest.split_once('=').unwrap();
            let found = model.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default();
            found == serde_json::from_str::<Value>(value).unwrap()
        }
        ("fails", Outcome::Fails(words)) => {
            let (code, some) = rest.split_once(' ').unwrap();
            words.starts_with(code) && words.contains(some.trim_matches('"'))
        }
        _ => false,
    }
}

#[test]
fn what_compose_files_ask_for_is_accepted_adapted_or_refused_with_its_reason() {
    let rows = include_str!("corpus.txt").lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let rows: Vec<_> = rows.map(|line| line.split_once(" <= ").unwrap()).collect();
    assert!(rows.len() >= 150, "{}", rows.len());
    let (next, wrong) = (Mutex::new(rows.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            scope.spawn(|| {
                while let Some((expected, prod)) = { next.lock().unwrap().next() } {
                    let outcome = CorpusProject::new(prod).deploy().unwrap_or_else(|outcome| outcome);
                    if !is_as(expected, &outcome) {
                        wrong.lock().unwrap().push(format!("{expected} <= {prod}\n  {outcome:?}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}
