//! Decides the value of every variable in a project's `.env`, and remembers where it comes from. No I/O.
//!
//! What is given for this deployment wins; what belongs to the release (image tags, the host port) follows; then what
//! is on the server already; then what can be derived; generated values come last and are kept from then on.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::names::{RepositoryName, VariableName};
use slipway_protocol::{ErrorCode, ProjectReady};

use super::database::database;
use crate::compose::ComposeProject;
use crate::{RegistryCredential, StageError};

/// The variable that lets the project's own deploy key pull private images; containers get it empty.
pub const REGISTRY_AUTH: &str = "SLIPWAY_REGISTRY_AUTH";
/// Length of generated values: 32 letters and digits are 190 bits.
const GENERATED_LENGTH: usize = 32;

/// Where a variable's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A plain variable of the event.
    Given,
    /// A secret of the event.
    Sealed,
    /// An allocated port.
    Allocation,
    /// What this release is made of: image tags.
    Release,
    /// It was in the server's `.env` already.
    Kept,
    /// It follows from the event or the compose files.
    Derived,
    /// It was drawn at random, just now.
    Generated,
}

impl Origin {
    /// The name, as in events and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Sealed => "sealed",
            Self::Allocation => "allocation",
            Self::Release => "release",
            Self::Kept => "kept",
            Self::Derived => "derived",
            Self::Generated => "generated",
        }
    }
}

/// A variable as `compose config --variables` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeVariable {
    /// Its name.
    pub name: String,
    /// Whether compose refuses to go on without it.
    pub required: bool,
}

/// What the plan is made from.
pub struct EnvInputs<'a> {
    /// The event.
    pub request: &'a ProjectReady,
    /// Its opened secrets.
    pub secrets: &'a BTreeMap<VariableName, SecretString>,
    /// The variables on the server.
    pub kept: &'a BTreeMap<String, String>,
    /// The variables in the compose files.
    pub asked: &'a [ComposeVariable],
    /// The compose files.
    pub project: &'a ComposeProject,
    /// The image of each variable that [`image_variables`] names.
    pub images: &'a BTreeMap<String, String>,
    /// The credential for it.
    pub registry: Option<&'a RegistryCredential>,
    /// Whether the database's volume exists: then its password can't be chosen any more.
    pub database_exists: bool,
}

/// The variables with their origins.
#[derive(Default)]
pub struct EnvPlan {
    pub(super) variables: BTreeMap<String, (String, Origin)>,
}

impl EnvPlan {
    /// Names and values.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        self.variables.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }

    /// Names of all variables by their origin, never values.
    #[must_use]
    pub fn origins(&self) -> BTreeMap<&'static str, Vec<&str>> {
        let mut origins = BTreeMap::<_, Vec<_>>::new();
        for (name, (_, origin)) in &self.variables {
            origins.entry(origin.as_str()).or_default().push(name.as_str());
        }
        origins
    }

    /// Names of the variables that are secrets by their way here: sealed now, or `earlier` and kept since.
    #[must_use]
    pub fn sealed(&self, earlier: &BTreeSet<String>) -> BTreeSet<String> {
        let is_sealed = |(name, (_, origin)): &(&String, &(String, Origin))| {
            *origin == Origin::Sealed || (*origin == Origin::Kept && earlier.contains(*name))
        };
        self.variables.iter().filter(is_sealed).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|(value, _)| value.as_str())
    }

    /// Sets a variable unless it's set: those who set earlier win.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>, origin: Origin) {
        self.variables.entry(name.to_owned()).or_insert_with(|| (value.into(), origin));
    }
}

/// Decides all variables.
///
/// # Errors
/// `missing-secret` names a secret that nobody has given; `compose-invalid` a required variable that isn't one.
pub fn plan(inputs: &EnvInputs<'_>) -> Result<EnvPlan, StageError> {
    let mut plan = EnvPlan::default();
    for (name, value) in &inputs.request.variables {
        plan.set(name.as_str(), value, Origin::Given);
    }
    for (name, value) in inputs.secrets {
        plan.set(name.as_str(), value.expose_secret(), Origin::Sealed);
    }
    release(inputs, &mut plan);
    for (name, value) in inputs.kept.iter().filter(|(name, _)| *name != REGISTRY_AUTH && *name != "PORT") {
        plan.set(name, value, Origin::Kept);
    }
    derive(inputs, &mut plan);
    database(inputs, &mut plan)?;
    if plan.value("APP_SECRET_KEY").is_none() {
        plan.set("APP_SECRET_KEY", generated()?, Origin::Generated);
    }
    complete(inputs, &plan)?;
    Ok(plan)
}

/// What changes from release to release, whatever was on the server.
fn release(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) {
    for (name, image) in inputs.images {
        plan.set(name, image, Origin::Release);
    }
    for allocation in &inputs.request.allocations {
        let service = allocation.service.as_str().to_ascii_uppercase().replace('-', "_");
        if inputs.request.modules.contains(&allocation.service) {
            plan.set(&format!("{service}_PORT"), allocation.host_port.to_string(), Origin::Allocation);
        }
    }
    if let Some(credential) = inputs.registry {
        let login = format!("{}:{}", credential.username, credential.password.expose_secret());
        plan.set(REGISTRY_AUTH, STANDARD.encode(login), Origin::Release);
    }
}

/// The variables that name images of this release, each with the image's name in the registry
/// (`<owner>/<repository>-<module>` in lower case): one for each module, and what the compose files require beside.
/// Variables are underscored, image names hyphenated.
#[must_use]
pub fn image_variables(request: &ProjectReady, asked: &[ComposeVariable]) -> BTreeMap<String, String> {
    let modules = request.modules.iter().map(|m| m.as_str().to_ascii_uppercase().replace('-', "_"));
    let asked = asked.iter().filter(|a| a.required).filter_map(|a| a.name.strip_suffix("_IMAGE"));
    let given = |name: &String| request.variables.keys().any(|given| given.as_str() == name);
    let all = modules.chain(asked.map(str::to_owned));
    let all = all.map(|module| (format!("{module}_IMAGE"), image_name(&request.repository.name, &module)));
    all.filter(|(name, _)| !given(name)).collect()
}

/// The name in the registry of a module's images.
pub fn image_name(repository: &RepositoryName, module: &str) -> String {
    format!("{repository}-{}", module.replace('_', "-")).to_ascii_lowercase()
}

fn derive(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) {
    for (name, value) in
        [("APP_NAME", inputs.request.project.slug.as_str()), ("APP_ENV", "production"), ("ENVIRONMENT", "production")]
    {
        plan.set(name, value, Origin::Derived);
    }
    if inputs.project.has("redis") {
        plan.set("REDIS_URL", "redis://redis:6379", Origin::Derived);
    }
    let backend = inputs.request.allocations.iter().find(|a| a.service.as_str() == "backend");
    if backend.is_some() || inputs.project.has("backend") {
        let url = format!("http://backend:{}", backend.map_or(8000, |b| b.container_port.get()));
        for name in ["BACKEND_API_URL", "API_BASE_URL"] {
            plan.set(name, &url, Origin::Derived);
        }
    }
}

/// Refuses a plan that the project can't run with.
fn complete(inputs: &EnvInputs<'_>, plan: &EnvPlan) -> Result<(), StageError> {
    let empty = |name: &str| plan.value(name).is_none_or(str::is_empty);
    let bot = inputs.request.modules.iter().any(|m| m.as_str() == "tg_bot");
    if bot && empty("TELEGRAM_BOT_TOKEN") {
        return Err(missing("TELEGRAM_BOT_TOKEN", "module tg_bot needs it"));
    }
    let Some(ComposeVariable { name, .. }) = inputs.asked.iter().find(|a| a.required && empty(&a.name)) else {
        return Ok(());
    };
    if VariableName::new(name.clone()).is_ok_and(|name| name.names_a_secret()) {
        return Err(missing(name, "the compose files require it"));
    }
    let message = format!("the compose files require the variable {name}, and the event doesn't give it");
    Err(StageError::new(ErrorCode::ComposeInvalid, message))
}

pub(super) fn missing(name: &str, why: &str) -> StageError {
    let mut error = StageError::new(ErrorCode::MissingSecret, format!("secret {name} is missing: {why}"));
    error.missing_secret = VariableName::new(name).ok();
    error
}

/// Letters and digits only: the value is pasted into URLs.
pub(super) fn generated() -> Result<String, StageError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut value = String::with_capacity(GENERATED_LENGTH);
    let random = SystemRandom::new();
    while value.len() < GENERATED_LENGTH {
        let mut bytes = [0; 64];
        random
            .fill(&mut bytes)
            .map_err(|_| StageError::new(ErrorCode::InternalError, "the system gives no random numbers"))?;
        // 248 is the largest multiple of 62 in a byte: no letter is likelier than another.
        let letters = bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(*b) % 62]));
        value.extend(letters.take(GENERATED_LENGTH - value.len()));
    }
    Ok(value)
}
