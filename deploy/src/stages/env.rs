//! Env: `.env` and the override file. One exec reads them, then another one writes them if anything differs. Which
//! value each variable gets is decided in `project::env`, and what the project is with them in `project_model`.

use std::collections::{BTreeMap, BTreeSet};

use secrecy::SecretString;
use slipway_protocol::names::VariableName;
use slipway_protocol::{ErrorCode, PushDeployer, Stage};

use crate::project::compose::{REGISTRY_AUTH, ServiceVariables, render_override};
use crate::project::consumers::{render_env_prod, service_variables};
use crate::project::env::contract::merged::EnvContract;
use crate::project::env::dotenv;
use crate::project::env::plan::image_variables;
use crate::project::env::variables::EnvPlan;
use crate::project::labels::{commit_of, deployment_of};
use crate::project::limits::DefaultsInForce;
use crate::project::model::ComposeProject;
use crate::remote::failure_phrases::explain_unexpected;
use crate::remote::script::Script;
use crate::scripts;
use crate::stages::after_ci::is_deployed;
use crate::stages::images::Images;
use crate::stages::judgement::ServerModel;
use crate::stages::project_model::check_compose;
use crate::stages::server_env::{ServerEnv, decode_file};
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn env(&mut self) -> Result<StageReport, StageError> {
        let mut seen = self.read_env(Stage::Env).await?;
        self.judge_files(&seen.compose_files)?;
        check_compose(&seen)?;
        let contract = EnvContract::read(seen.contracts.iter().map(|(file, yaml)| (file.as_str(), yaml.as_slice())))?;
        let wanted = image_variables(
            &self.work.request,
            &seen.compose_variables,
            &contract,
            &seen.kept,
            self.own_images().as_str(),
        );
        let project = self.resolve_project(&mut seen, &contract, &wanted).await?;
        self.report_multiplied(&project);
        let images = self.images(wanted.clone(), &seen.local_images).await?;
        self.check_platforms(&images, &seen.project)?;
        let present = dotenv::parse(&seen.env);
        let deployed_by_ci = is_deployed(&self.work.request, &images, &present, &seen.local_of_env);
        let images = if deployed_by_ci { images.with_references(&present) } else { images };
        let plan = self.plan_variables(&seen, &project, &contract, &images.references)?;
        let values = plan.values();
        let mut sealed = plan.sealed(&seen.sealed);
        let secret = contract.in_production().filter(|(name, d, _)| d.is_secret() && plan.get(name).is_some());
        sealed.extend(secret.map(|(name, ..)| name.to_owned()));
        self.learn_all(&values, &sealed);
        let notes = plan.notes(&contract);
        self.learn_all(&notes.covered, &sealed);
        let env = notes.render_with(&values);
        let variables = service_variables(&project, &contract, &plan, &images.references);
        let overrides = self.overrides(&project, &variables, &seen, deployed_by_ci);
        let env_prod = project.reads_env_prod().then(|| render_env_prod(&seen.env_prod, &plan, &sealed));
        let same_prod = env_prod.as_ref().is_none_or(|text| *text == seen.env_prod);
        let same = seen.env == env && same_prod && seen.private && seen.linked;
        let changed = !(same && seen.sealed == sealed && seen.overrides == overrides && seen.valid);
        let (proof, model) = if changed {
            self.write_env(&env, &overrides, &sealed, env_prod.as_deref()).await?
        } else {
            (seen.proof, seen.model)
        };
        let removed: Vec<_> = seen.kept.values.keys().filter(|name| !values.contains_key(*name)).cloned().collect();
        (self.env_on_server, self.env_expressions) = (Some(values), notes.expressions);
        self.note_images(&wanted, &images, &model.model);
        self.judged = Some(self.judge_model(Stage::Env, &model).await?);
        let credential = self.work.registry.as_ref().map_or("none", |credential| credential.source.as_str());
        let report = env_report(changed, &plan, &images).fact("proof", proof).fact("registry_credential", credential);
        Ok(if removed.is_empty() { report } else { report.fact("removed", removed) })
    }

    /// The override file. Where only the deployment's id would differ, the one that is there stays. After CI's job that
    /// goes for the commit as well: the images themselves tell it.
    fn overrides(
        &self,
        project: &ComposeProject,
        variables: &ServiceVariables,
        seen: &ServerEnv,
        deployed_by_ci: bool,
    ) -> String {
        let request = &self.work.request;
        let defaults = DefaultsInForce {
            set: self.config().limits.containers,
            logs_unbounded: seen.logs_unbounded,
            written: &seen.overrides,
            anew: true,
            looks_sooner: seen.looks_sooner,
            front_door: self.front_door().is_some(),
        };
        if let Some(earlier) = deployment_of(&seen.overrides) {
            let mut written = request.clone();
            if let Some(commit) = commit_of(&seen.overrides).filter(|_| deployed_by_ci) {
                written.repository.commit = commit;
            }
            let defaults = DefaultsInForce { anew: false, ..defaults };
            let unchanged = render_override(&written, project, variables, earlier, &defaults);
            if unchanged == seen.overrides {
                return unchanged;
            }
        }
        render_override(request, project, variables, self.work.deployment, &defaults)
    }

    /// Writes both files; gives the proof of what is there then, and what compose makes of it.
    async fn write_env(
        &mut self,
        env: &str,
        overrides: &str,
        sealed: &BTreeSet<String>,
        env_prod: Option<&str>,
    ) -> Result<(String, ServerModel), StageError> {
        let sealed: String = sealed.iter().map(|name| format!("{name}\n")).collect();
        let script = Script::new("write env", scripts::ENV_WRITE)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .bytes("env", env.as_bytes())
            .bytes("overrides", overrides.as_bytes())
            .bytes("sealed", sealed.as_bytes())
            .bytes("env_prod", env_prod.unwrap_or_default().as_bytes())
            .number("has_prod", env_prod.is_some().into());
        let message = "the environment file or the override file couldn't be written";
        let output = self.exec_or(Stage::Env, &script, ErrorCode::EnvWriteFailed, message).await?;
        let model = ServerModel::parse(&output, decode_file(&output, "model")?);
        Ok((output.value("proof").unwrap_or_default().to_owned(), model))
    }

    pub(super) async fn read_env(&mut self, stage: Stage) -> Result<ServerEnv, StageError> {
        let script = Script::new("look at env", scripts::ENV_READ)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("registry", self.image_registry())
            .word("purpose", &stage.as_str())
            .number("by_commit", self.is_by_commit().into())
            .number("asks_docker", self.docker.is_none().into())
            .bytes("recorded", self.recorded_images().as_bytes());
        let ended = match self.env_seen.take().filter(|_| stage == Stage::Env) {
            Some(ended) => ended,
            None => self.run_script(stage, &script).await?,
        };
        let mut outcome = self.judge_end(&script, ended)?;
        let failed = outcome.is_err();
        let (Ok(output) | Err(output)) = &mut outcome;
        self.docker.iter().flatten().for_each(|(key, value)| output.assume(key, value));
        let seen = ServerEnv::parse(output, &self.work.earlier, self.own_images().as_str())?;
        for values in [&seen.kept.values, &seen.kept.notes.covered, &seen.previous, &seen.previous_covered] {
            self.learn_all(values, &seen.sealed);
        }
        if !seen.complaint.is_empty() {
            self.judge_files(&seen.compose_files)?;
            return Err(self.compose_refused(stage, &seen, &seen.complaint));
        }
        if failed {
            return Err(explain_unexpected(output, ErrorCode::InternalError, "the project's files couldn't be read"));
        }
        Ok(seen)
    }

    /// Whether the override file is always of the deployed commit: of what CI's job has deployed, it may stay.
    pub(super) fn is_by_commit(&self) -> bool {
        self.work.request.repository.pushes_deployed_by != PushDeployer::Both
    }

    /// The variables and the override file as they are on the server.
    pub(crate) async fn read_env_and_override(&mut self) -> Result<(BTreeMap<String, String>, String), StageError> {
        let seen = self.read_env(Stage::Env).await?;
        Ok((seen.kept.values, seen.overrides))
    }

    /// The variables on the server, for stages that run without [`Stage::Env`] before them in this attempt.
    pub(crate) async fn known_env(&mut self, stage: Stage) -> Result<BTreeMap<String, String>, StageError> {
        if self.env_on_server.is_none() {
            let kept = self.read_env(stage).await?.kept;
            (self.env_on_server, self.env_expressions) = (Some(kept.values), kept.notes.expressions);
        }
        Ok(self.env_on_server.clone().unwrap_or_default())
    }

    /// Adds the secrets of the project's environment to the redactor; `sealed` names those whose name doesn't show it.
    pub(super) fn learn_all(&self, values: &BTreeMap<String, String>, sealed: &BTreeSet<String>) {
        for (name, value) in values {
            let secret =
                VariableName::new(name.clone()).is_ok_and(|n| n.names_a_secret() || self.work.secrets.contains_key(&n));
            if secret || sealed.contains(name) || matches!(name.as_str(), REGISTRY_AUTH | "DATABASE_URL") {
                self.learn(&SecretString::from(value.clone()));
            }
        }
    }
}

/// Names only, never values.
fn env_report(changed: bool, plan: &EnvPlan, images: &Images) -> StageReport {
    let origins = plan.origins().into_iter().map(|(origin, names)| (origin.to_owned(), names.into()));
    let digests = images.digests.iter().map(|(name, digest)| (name.clone(), digest.as_str().into()));
    StageReport::of(changed)
        .fact("variables", plan.values().len())
        .fact("origins", origins.collect::<serde_json::Map<_, _>>())
        .fact("images", digests.collect::<serde_json::Map<_, _>>())
}
