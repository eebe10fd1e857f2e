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
    /// The project's compose files as they are.
    pub compose_files: Vec<Vec<u8>>,
    pub model: ServerModel,
    pub project: Vec<u8>,
    pub compose_variables: Vec<ComposeVariable>,
    /// The `.env.prod` beside the compose files, unless it's a link.
    pub env_prod: String,
    /// Whether the `.env` beside the compose files is this one.
    pub linked: bool,
    pub private: bool,
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
        let (env_prod, served) = (text("env_prod")?, text("served")?);
        let database = output.value("database").is_some();
        let variables = output.values("variable").iter().filter_map(|line| {
            let (name, required) = line.split_once(' ')?;
            Some(ComposeVariable { name: name.to_owned(), required: required == "true" })
        });
        let contracts = output.values("contract").iter().filter_map(|line| line.split_once(' '));
        let contracts = contracts.map(|(file, path)| Ok((path.to_owned(), decode("contract", file)?)));
        Ok(Self {
            contracts: contracts.collect::<Result<_, StageError>>()?,
            kept: KeptVariables::read(&env, &env_prod, &text("env_infra")?, database, earlier, own_images),
            previous: dotenv::parse(&served),
            previous_covered: EnvNotes::read(&served).covered,
            local_images: output.values("local").iter().cloned().collect(),
            local_of_env: output.values("local_of_env").iter().filter_map(|line| LocalImage::read(line)).collect(),
            sealed: text("sealed")?.lines().map(str::to_owned).collect(),
            complaint: text("complaint")?,
            example: text("example")?,
            overrides: text("override")?,
            logs_unbounded: output.value("logging") == Some("json-file") && output.value("logs_unset").is_some(),
            looks_sooner: output
                .value("docker")
                .and_then(|versions| versions.split_once(' '))
                .is_some_and(|(docker, compose)| looks_sooner(docker, compose)),
            compose_files: output
                .values("compose_file")
                .iter()
                .map(|file| decode("compose_file", file))
                .collect::<Result<_, _>>()?,
            model: ServerModel::parse(output, decode_file(output, "model")?),
            project: decode_file(output, "project")?,
            compose_variables: variables.collect(),
            env_prod,
            linked: output.value("linked").is_some(),
            private: output.value("private").is_some(),
            database,
            valid: output.value("valid").is_some(),
            proof: output.value("proof").unwrap_or_default().to_owned(),
            env,
        })
    }
}

/// A file's content; empty when there is none.
pub(super) fn decode_file(output: &ScriptOutput, key: &str) -> Result<Vec<u8>, StageError> {
    decode(key, output.value(key).unwrap_or_default())
}

fn decode(key: &str, text: &str) -> Result<Vec<u8>, StageError> {
    STANDARD
        .decode(text)
        .map_err(|_| StageError::new(ErrorCode::InternalError, format!("the server told {key} in a broken form")))
}
