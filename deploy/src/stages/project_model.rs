//! What compose makes of the project's own files, with the values that this deployment gives their variables. As long as these
//! are those on the server, that is known already; else compose is asked once more, before anything is written.

use std::collections::BTreeMap;

use secrecy::SecretString;
use slipway_protocol::{ErrorCode, Stage};

use crate::project::compose_versions::{bug_for_extending, bug_in_silence};
use crate::project::env::contract::merged::EnvContract;
use crate::project::env::describe::describe;
use crate::project::env::dotenv;
use crate::project::env::plan::{missing_variable, plan_env};
use crate::project::env::variables::{EnvInputs, EnvPlan};
use crate::project::image_tag;
use crate::project::model::ComposeProject;
use crate::remote::failure_phrases::explain_unexpected;
use crate::remote::output::plain;
use crate::remote::script::Script;
use crate::scripts;
use crate::stages::server_env::{ServerEnv, decode_file};
use crate::{Attempt, StageError};

impl Attempt {
    /// The project; `wanted` are the variables of its images, with the images' names.
    ///
    /// # Errors
    /// `compose-invalid` where compose refuses its files, `service-missing`, and those of [`plan_env`].
    pub(super) async fn resolve_project(
        &mut self,
        seen: &mut ServerEnv,
        contract: &EnvContract,
        wanted: &BTreeMap<String, String>,
    ) -> Result<ComposeProject, StageError> {
        let (host, commit) = (self.image_registry().as_str(), &self.work.request.repository.commit);
        let tag = image_tag::of_commit(commit);
        // Whichever they are in the end: of an image nothing counts here but whose it is.
        let images = wanted.iter().map(|(name, image)| (name.clone(), format!("{host}/{image}:{tag}"))).collect();
        let present = dotenv::parse(&seen.env);
        let values = if let Some(project) = seen.own_project(&present, wanted.keys())? {
            project.check(&self.work.request)?;
            let values = self.plan_variables(seen, &project, contract, &images)?.values();
            let others = |values: &BTreeMap<String, String>| -> BTreeMap<String, String> {
                let others = values.iter().filter(|(name, _)| !wanted.contains_key(*name));
                others.map(|(name, value)| (name.clone(), value.clone())).collect()
            };
            if others(&values) == others(&present) {
                return Ok(project);
            }
            values
        } else {
            self.plan_variables(seen, &ComposeProject::of_template(), contract, &images)?.values()
        };
        self.ask_project(seen, &values).await?;
        let Some(project) = seen.own_project(&values, wanted.keys())? else {
            return Err(StageError::new(
                ErrorCode::ComposeInvalid,
                "docker compose makes nothing of the project's files",
            ));
        };
        project.check(&self.work.request)?;
        Ok(project)
    }

    async fn ask_project(&mut self, seen: &mut ServerEnv, values: &BTreeMap<String, String>) -> Result<(), StageError> {
        self.learn_all(values, &seen.sealed);
        let script = Script::new("resolve project", scripts::ENV_MODEL)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .bytes("env", dotenv::render(values).as_bytes());
        match self.exec(Stage::Env, &script).await? {
            Ok(output) => seen.learn_project(&output, &self.work.earlier, self.own_images().as_str()),
            Err(output) => {
                let complaint = decode_file(&output, "complaint")?;
                if complaint.is_empty() {
                    let message = "the project's files couldn't be read";
                    return Err(explain_unexpected(&output, ErrorCode::InternalError, message));
                }
                Err(self.compose_refused(Stage::Env, seen, &String::from_utf8_lossy(&complaint)))
            }
        }
    }

    /// Decides all variables.
    pub(super) fn plan_variables(
        &self,
        seen: &ServerEnv,
        project: &ComposeProject,
        contract: &EnvContract,
        images: &BTreeMap<String, String>,
    ) -> Result<EnvPlan, StageError> {
        plan_env(&EnvInputs {
            request: &self.work.request,
            secrets: &self.work.secrets,
            kept: &seen.kept,
            compose_variables: &seen.compose_variables,
            project,
            contract,
            directory: self.root().of_project(&self.work.request.project.slug).as_str(),
            slots_file: &self.slots_file(),
            example: &seen.example,
            images,
            database_exists: seen.database,
        })
        .map_err(|error| with_description(error, seen))
    }

    /// Tells of which modules the compose files want several: they have one port on the server, and one place.
    pub(super) fn report_multiplied(&self, project: &ComposeProject) {
        for (service, count) in project.multiplied(&self.work.request) {
            let line = format!(
                "warning: the compose files want {count} containers of service {service}: a module runs in one, since it \
                 has one port of the server"
            );
            self.report_line(Stage::Env, &line);
        }
    }

    /// Why compose refuses the project's files. It may quote lines of env files that it can't read, which have no name
    /// that shows a secret: everything after a `=` is masked.
    pub(super) fn compose_refused(&self, stage: Stage, seen: &ServerEnv, complaint: &str) -> StageError {
        for text in [&seen.env, &seen.env_prod, &seen.env_infra] {
            for value in text.lines().filter_map(|line| Some(line.split_once('=')?.1)) {
                self.learn(&SecretString::from(value.trim().trim_matches(['"', '\'']).to_owned()));
            }
        }
        let lines: Vec<String> = complaint.lines().map(|line| self.redactor.clean(&plain(line))).collect();
        if let Some(at) = lines.iter().position(|line| takes_too_much(line)) {
            let few = lines.into_iter().skip(at).take(1).collect();
            return StageError::new(ErrorCode::ComposeNotAllowed, TOO_MUCH).with_tail(few);
        }
        lines.iter().for_each(|line| self.report_line(stage, line));
        if lines.iter().any(|line| line.starts_with(NO_ROOM)) {
            let message =
                "the server makes no mount namespace, so that the project's files can't be read apart from others'";
            return StageError::new(ErrorCode::InternalError, message).with_tail(lines);
        }
        if let Some(name) = lines.iter().find_map(|line| missing_in(line)) {
            return with_description(missing_variable(name), seen).with_tail(lines.clone());
        }
        if let Some(bug) = bug_for_extending(&seen.compose).filter(|_| mentions(seen, &["extends"])) {
            return StageError::new(ErrorCode::ComposeTooOld, bug).with_tail(lines);
        }
        StageError::new(ErrorCode::ComposeInvalid, "docker compose refuses the project's files").with_tail(lines)
    }
}

/// Refuses a compose that would lose in silence what the files ask for.
///
/// # Errors
/// `compose-too-old` names the version.
pub(super) fn check_compose(seen: &ServerEnv) -> Result<(), StageError> {
    let lost = mentions(seen, &["extends"]) && mentions(seen, &["depends_on", "volumes_from"]);
    match bug_in_silence(&seen.compose).filter(|_| lost) {
        Some(bug) => Err(StageError::new(ErrorCode::ComposeTooOld, bug)),
        None => Ok(()),
    }
}

/// Whether the compose files use one of these keys.
fn mentions(seen: &ServerEnv, keys: &[&str]) -> bool {
    let text = seen.compose_text();
    let mut lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    lines.any(|line| keys.iter().any(|key| line.contains(&format!("{key}:"))))
}

/// How `room.sh` begins to say that it couldn't keep compose apart.
const NO_ROOM: &str = "slipway: the project files can not be kept apart";

/// As `compose_call.sh` bounds it.
const TOO_MUCH: &str = "docker compose needs too much to read the project's files: it gets half of the server's memory, \
                         at least 2 GiB and at most 4 GiB, and 30 seconds of a processor; look for aliases and lists \
                         that multiply";

/// The variable without which compose doesn't go on.
fn missing_in(line: &str) -> Option<&str> {
    line.split_once("required variable ")?.1.split_once(" is missing a value").map(|(name, _)| name)
}

/// Go's words about it, or the shell's.
fn takes_too_much(line: &str) -> bool {
    let words = ["out of memory", "cannot allocate memory", "cpu limit exceeded", "CPU time limit exceeded"];
    line == "Killed" || words.iter().any(|words| line.contains(words))
}

/// A missing secret with what the project says about it.
fn with_description(mut error: StageError, seen: &ServerEnv) -> StageError {
    let Some(name) = &error.missing_secret else { return error };
    let description = error.detail.secret_description.take();
    let description = description.or_else(|| describe(name.as_str(), &seen.example, &seen.compose_text()));
    if let Some(description) = &description {
        error.message = format!("{} ({description})", error.message);
    }
    error.detail.secret_description = description;
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_that_compose_misses_is_named() {
        let said =
            "error while interpolating services.s.hostname: required variable API_KEY is missing a value: see docs";
        assert_eq!(missing_in(said), Some("API_KEY"));
        assert_eq!(missing_in("required variable A is missing a value"), Some("A"));
        assert_eq!(missing_in("the required variable is missing"), None);
    }
}
