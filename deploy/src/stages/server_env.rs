//! What the server tells of the project's environment, as the server's scripts put it.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slipway_protocol::ErrorCode;

use crate::project::env::dotenv;
use crate::project::env::kept::KeptVariables;
use crate::project::env::notes::EnvNotes;
use crate::project::env::variables::ComposeVariable;
use crate::project::health_check::looks_sooner;
use crate::project::model::ComposeProject;
use crate::remote::output::ScriptOutput;
use crate::stages::after_ci::LocalImage;
use crate::stages::judgement::ServerModel;
use crate::{EarlierRequests, StageError};

/// The project's environment as it is on the server.
pub(super) struct ServerEnv {
    pub env: String,
    pub kept: KeptVariables,
    /// The variables of the previous release: its containers may still log them.
    pub previous: BTreeMap<String, String>,
    pub previous_covered: BTreeMap<String, String>,
    /// The images of the version rolled back to that the server has.
    pub local_images: BTreeSet<String>,
    /// The images that `.env` names, as far as the server has them.
    pub local_of_env: Vec<LocalImage>,
    /// Names of variables that came as secrets, in this deployment or an earlier one.
    pub sealed: BTreeSet<String>,
    /// Why compose refuses the project's files, not redacted.
    pub complaint: String,
    /// The files of the project's contract, with their paths.
    pub contracts: Vec<(String, Vec<u8>)>,
    /// The project's `.env.example`.
    pub example: String,
    pub overrides: String,
    /// Whether Docker would keep all of a container's log.
    pub logs_unbounded: bool,
    /// Whether Docker looks at what starts as often as it's told to.
    pub looks_sooner: bool,
    /// The server's version of Docker Compose.
    pub compose: String,
    /// The project's compose files as they are.
    pub compose_files: Vec<Vec<u8>>,
    pub model: ServerModel,
    /// What compose makes of the project's own files with some values; empty where nobody has asked yet, or where it
    /// refuses those that are there.
    pub project: Vec<u8>,
    /// Git's names of the files and folders that it mounts, by path.
    pub mounted: BTreeMap<String, String>,
    pub compose_variables: Vec<ComposeVariable>,
    /// The `.env.prod` beside the compose files, unless it's a link.
    pub env_prod: String,
    /// The `.env` beside the compose files, unless it's a link.
    pub env_infra: String,
    /// Whether the `.env` beside the compose files is this one.
    pub linked: bool,
    pub private: bool,
    /// Whether a database has data already.
    pub database: bool,
    pub valid: bool,
    pub proof: String,
}

impl ServerEnv {
    pub(super) fn parse(
        output: &ScriptOutput,
        earlier: &EarlierRequests,
        own_images: &str,
    ) -> Result<Self, StageError> {
        let text = |key| decode_file(output, key).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let env = text("env")?;
        let (env_prod, env_infra, served) = (text("env_prod")?, text("env_infra")?, text("served")?);
        let versions = output.value("docker").and_then(|versions| versions.split_once(' '));
        let variables = output.values("variable").iter().filter_map(|line| {
            let (name, required) = line.split_once(' ')?;
            Some(ComposeVariable { name: name.to_owned(), required: required == "true" })
        });
        let mut seen = Self {
            contracts: read_contracts(output)?,
            kept: KeptVariables::default(),
            previous: dotenv::parse(&served),
            previous_covered: EnvNotes::read(&served).covered,
            local_images: output.values("local").iter().cloned().collect(),
            local_of_env: output.values("local_of_env").iter().filter_map(|line| LocalImage::read(line)).collect(),
            sealed: text("sealed")?.lines().map(str::to_owned).collect(),
            complaint: text("complaint")?,
            example: text("example")?,
            overrides: text("override")?,
            logs_unbounded: output.value("logging") == Some("json-file") && output.value("logs_unset").is_some(),
            looks_sooner: versions.is_some_and(|(docker, compose)| looks_sooner(docker, compose)),
            compose: versions.map(|(_, compose)| compose.to_owned()).unwrap_or_default(),
            compose_files: output
                .values("compose_file")
                .iter()
                .map(|file| decode("compose_file", file))
                .collect::<Result<_, _>>()?,
            model: ServerModel::parse(output, decode_file(output, "model")?),
            project: Vec::new(),
            mounted: BTreeMap::new(),
            compose_variables: variables.collect(),
            env_prod,
            env_infra,
            linked: output.value("linked").is_some(),
            private: output.value("private").is_some(),
            database: output.value("database").is_some(),
            valid: output.value("valid").is_some(),
            proof: output.value("proof").unwrap_or_default().to_owned(),
            env,
        };
        seen.learn_project(output, earlier, own_images)?;
        Ok(seen)
    }

    /// Takes in what a script has told of the project's own files.
    pub(super) fn learn_project(
        &mut self,
        output: &ScriptOutput,
        earlier: &EarlierRequests,
        own_images: &str,
    ) -> Result<(), StageError> {
        self.project = decode_file(output, "project")?;
        let mounted = output.values("mounted").iter().filter_map(|line| line.split_once(' '));
        self.mounted = mounted.map(|(object, path)| (path.to_owned(), object.to_owned())).collect();
        if let Some(project) = self.own_project(&BTreeMap::new(), [].iter())? {
            let places = project.database_places();
            let told = |key: &str, places: &BTreeSet<String>| output.values(key).iter().any(|it| places.contains(it));
            self.database |= told("volume", &places.volumes) || told("filled", &places.directories);
        }
        self.kept = KeptVariables::read(&self.env, &self.env_prod, &self.env_infra, self.database, earlier, own_images);
        Ok(())
    }

    /// What compose makes of the project's own files with these `values`, of which `images` name those of the release; none
    /// where nobody has asked yet.
    pub(super) fn own_project<'a>(
        &self,
        values: &BTreeMap<String, String>,
        images: impl Iterator<Item = &'a String>,
    ) -> Result<Option<ComposeProject>, StageError> {
        if self.project.is_empty() {
            return Ok(None);
        }
        let project = ComposeProject::parse(&self.project)?;
        Ok(Some(project.with_values(values, images).with_mounted(self.mounted.clone())))
    }

    /// The compose files as a text.
    pub(super) fn compose_text(&self) -> String {
        self.compose_files.iter().map(|file| String::from_utf8_lossy(file)).collect()
    }
}

/// The files of the project's contract, as git prints several at once: each after a line about it, and before a line's end.
fn read_contracts(output: &ScriptOutput) -> Result<Vec<(String, Vec<u8>)>, StageError> {
    let printed = decode_file(output, "contract")?;
    let (mut rest, mut files) = (printed.as_slice(), Vec::new());
    for line in output.values("contract_file") {
        let taken = line.split_once(' ').and_then(|(size, path)| {
            let start = rest.iter().position(|byte| *byte == b'\n')? + 1;
            let end = start.checked_add(size.parse().ok()?)?;
            let file = rest.get(start..end)?.to_vec();
            rest = rest.get(end..)?.strip_prefix(b"\n")?;
            Some((path.to_owned(), file))
        });
        files.push(taken.ok_or_else(|| broken("contract"))?);
    }
    Ok(files)
}

fn broken(key: &str) -> StageError {
    StageError::new(ErrorCode::InternalError, format!("the server told {key} in a broken form"))
}

/// A file's content; empty when there is none.
pub(super) fn decode_file(output: &ScriptOutput, key: &str) -> Result<Vec<u8>, StageError> {
    decode(key, output.value(key).unwrap_or_default())
}

fn decode(key: &str, text: &str) -> Result<Vec<u8>, StageError> {
    STANDARD.decode(text).map_err(|_| broken(key))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Whether a database has data, by what a script tells of a project with these mounts of `db`.
    fn has_data(mounts: &str, told: &[(&str, &str)]) -> bool {
        let project = format!(
            r#"{{"services": {{"db": {{"image": "postgres", "volumes": [{mounts}]}}}}, "volumes": {{"pgdata": {{"name": "old_data"}}}}}}"#
        );
        let mut output = ScriptOutput::default();
        output.assume("project", &STANDARD.encode(project));
        told.iter().for_each(|(key, value)| output.assume(key, value));
        ServerEnv::parse(&output, &EarlierRequests::default(), "ghcr.io/acme/shop-").unwrap().database
    }

    #[test]
    fn contracts_are_taken_as_git_prints_them_and_not_in_part() {
        let read = |printed: &str, files: &[&str]| {
            let mut output = ScriptOutput::default();
            output.assume("contract", &STANDARD.encode(printed));
            files.iter().for_each(|file| output.assume("contract_file", file));
            read_contracts(&output)
        };
        let printed = "0a blob 3\na\nb\n0b blob 0\n\n";
        let of = |path: &str, text: &str| (path.to_owned(), text.as_bytes().to_vec());
        assert_eq!(read(printed, &["3 infra/x", "0 a b"]).unwrap(), [of("infra/x", "a\nb"), of("a b", "")]);
        assert_eq!(read("", &[]).unwrap(), []);
        for files in [&["4 x", "0 y"][..], &["3 x", "1 y"], &["3 x", "0 y", "0 z"], &["18446744073709551615 x"]] {
            assert!(read(printed, files).is_err(), "{files:?}");
        }
    }

    #[test]
    fn data_of_a_database_are_data_wherever_they_lie() {
        let volume = r#"{"type": "volume", "source": "pgdata", "target": "/var/lib/postgresql/data"}"#;
        let directory = r#"{"type": "bind", "source": "/p/pg", "target": "/var/lib/postgresql/data"}"#;
        assert!(has_data(volume, &[("volume", "old_data")]));
        assert!(!has_data(volume, &[("volume", "shop_cache"), ("filled", "/p/pg")]));
        assert!(has_data(directory, &[("filled", "/p/pg")]));
        assert!(!has_data(directory, &[]));
        assert!(has_data("", &[("database", "yes")]), "a volume of the template, or without a name");
    }
}
