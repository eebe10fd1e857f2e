//! Decides the value of every variable in a project's `.env`. No I/O; the types are in `variables`.
//!
//! What is given for this deployment wins; what belongs to the release (image tags, the host port) follows; then what
//! the project's contract says, then what is on the server already and came with no earlier request; then what can be
//! derived; generated values come last and are kept from then on.

use std::collections::BTreeMap;

use secrecy::ExposeSecret as _;
use slipway_protocol::names::{ServiceName, VariableName};
use slipway_protocol::{ErrorCode, ProjectReady};

use super::contract::declaration::{Declaration, ValueSource};
use super::contract::merged::EnvContract;
use super::contract::values::{LISTENER, check_declared, is_outdated, set_declared, set_generated};
use super::database::set_database;
use super::dotenv;
use super::kept::KeptVariables;
use super::variables::{ComposeVariable, EnvInputs, EnvPlan, Origin, generate_secret, missing_secret};
use crate::StageError;
use crate::project::compose::{FILES, REGISTRY_AUTH};
use crate::project::image_tag::image_name;

/// What compose gets from the server itself, as from a shell, in files that can't do without.
const OF_SHELL: [&str; 7] = ["HOME", "HOSTNAME", "LC_ALL", "LOGNAME", "PATH", "PWD", "USER"];

/// Decides all variables.
///
/// # Errors
/// `missing-secret` names a secret that nobody has given; `compose-invalid` and `variable-unresolved` a required variable
/// that isn't one.
pub fn plan_env(inputs: &EnvInputs<'_>) -> Result<EnvPlan, StageError> {
    decide(inputs).map_err(|mut error| {
        if let Some(name) = error.missing_secret.as_ref().filter(|name| inputs.kept.goes_unless_given(name.as_str())) {
            error.message += &format!("; an earlier request gave {name}, and what a request leaves out isn't kept");
        }
        error
    })
}

fn decide(inputs: &EnvInputs<'_>) -> Result<EnvPlan, StageError> {
    let mut plan = EnvPlan::default();
    // Compose by hand finds this project by it, and takes no other for it. Nobody may choose another.
    plan.set("COMPOSE_PROJECT_NAME", inputs.request.project.slug.as_str(), Origin::Derived);
    for (name, value) in &inputs.request.variables {
        plan.set(name.as_str(), value, Origin::Given);
    }
    for (name, value) in inputs.secrets {
        plan.set(name.as_str(), value.expose_secret(), Origin::Sealed);
    }
    set_release(inputs, &mut plan);
    set_declared(inputs, &mut plan);
    for (name, value) in inputs.kept.own.iter().filter(|(name, _)| *name != LISTENER) {
        if !is_outdated(inputs, name, value) {
            plan.set(name, value, Origin::Kept);
        }
    }
    plan.keep_expressions(inputs.kept);
    set_derived(inputs, &mut plan);
    set_database(inputs, &mut plan)?;
    set_generated(inputs, &mut plan)?;
    if plan.value("APP_SECRET_KEY").is_none() && inputs.contract.declared("APP_SECRET_KEY").is_none() {
        plan.set("APP_SECRET_KEY", generate_secret()?, Origin::Generated);
    }
    plan.expand_kept();
    // Whoever gave it: nothing that reads `.env` may find a credential for images under this name.
    plan.variables.remove(REGISTRY_AUTH);
    check_complete(inputs, &plan)?;
    plan.note_covered(inputs.kept);
    Ok(plan)
}

/// What changes from release to release, whatever was on the server.
fn set_release(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) {
    for (name, image) in inputs.images {
        plan.set(name, image, Origin::Release);
    }
    for allocation in &inputs.request.allocations {
        let service = allocation.service.as_str().to_ascii_uppercase().replace('-', "_");
        if let Some(port) = allocation.host_port.filter(|_| inputs.request.modules.contains(&allocation.service)) {
            plan.set(&format!("{service}_PORT"), port.to_string(), Origin::Allocation);
        }
    }
}

/// The variables that name images of this release, each with the image's name in the registry
/// (`<owner>/<repository>-<module>` in lower case): one for each module, and what the compose files or the contract
/// require beside and nobody else decides. Names that begin with `own_images` are of the project's images. Variables are
/// underscored, image names hyphenated.
#[must_use]
pub fn image_variables(
    request: &ProjectReady,
    variables: &[ComposeVariable],
    contract: &EnvContract,
    kept: &KeptVariables,
    own_images: &str,
) -> BTreeMap<String, String> {
    // What is on the server or declared is an image of others, unless it's one of the project's, which each release moves on.
    let decided = |name: &str| {
        let literal = contract.declared(name).and_then(Declaration::literal);
        let own = kept.own.get(name).filter(|image| !image.starts_with(own_images)).filter(|image| !image.is_empty());
        literal.is_some() || own.is_some()
    };
    let modules = request.modules.iter().map(|m| m.as_str().to_ascii_uppercase().replace('-', "_"));
    let required = variables.iter().filter(|a| a.required).map(|a| a.name.as_str());
    let declared = contract.in_production().filter(|(_, d, _)| d.required && d.source == ValueSource::Derived);
    let required = required.chain(declared.map(|(name, ..)| name)).filter(|name| !decided(name));
    let required = required.filter_map(|name| name.strip_suffix("_IMAGE"));
    let given =
        |name: &String| request.variables.keys().chain(request.secrets.keys()).any(|given| given.as_str() == name);
    let all = modules.chain(required.map(str::to_owned));
    let all = all.map(|module| (format!("{module}_IMAGE"), image_name(&request.repository.name, &module)));
    all.filter(|(name, _)| !given(name)).collect()
}

fn set_derived(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) {
    let modules: Vec<_> = inputs.request.modules.iter().map(ServiceName::as_str).collect();
    plan.derive(inputs.contract, "APP_NAME", inputs.request.project.slug.as_str());
    plan.derive(inputs.contract, "APP_ENV", "production");
    plan.derive(inputs.contract, "ENVIRONMENT", "production");
    // For compose by hand as well: its own names for files aren't those of the project. Whoever gives `-f` isn't
    // concerned.
    let files = FILES.map(|file| format!("{}/{file}", inputs.directory));
    let slots = Some(inputs.slots_file.to_owned()).filter(|file| !file.is_empty());
    let files = files.into_iter().chain(slots).collect::<Vec<_>>().join(":");
    plan.derive(inputs.contract, "COMPOSE_FILE", files);
    if inputs.contract.declared("ENABLED_MODULES").is_some() {
        plan.derive(inputs.contract, "ENABLED_MODULES", modules.join(","));
    }
    // A backend may need it to be imported, though there is nobody to talk to.
    let example = || dotenv::parse(inputs.example).contains_key("REDIS_URL");
    if inputs.project.has("redis") || inputs.contract.declared("REDIS_URL").is_some() || example() {
        plan.derive(inputs.contract, "REDIS_URL", "redis://redis:6379");
    }
    let backend = inputs.request.allocations.iter().find(|a| a.service.as_str() == "backend");
    if backend.is_some() || inputs.project.has("backend") {
        let url = format!("http://backend:{}", backend.map_or(8000, |b| b.container_port.get()));
        for name in ["BACKEND_API_URL", "API_BASE_URL"] {
            plan.derive(inputs.contract, name, &url);
        }
    }
}

/// Refuses a plan that the project can't run with.
fn check_complete(inputs: &EnvInputs<'_>, plan: &EnvPlan) -> Result<(), StageError> {
    let empty = |name: &str| plan.value(name).is_none_or(str::is_empty);
    check_declared(inputs, plan)?;
    let bot = inputs.request.modules.iter().any(|m| m.as_str() == "tg_bot");
    let bot = bot && inputs.contract.declared("TELEGRAM_BOT_TOKEN").is_none();
    if bot && empty("TELEGRAM_BOT_TOKEN") {
        return Err(missing_secret("TELEGRAM_BOT_TOKEN", "module tg_bot needs it"));
    }
    let required = inputs.compose_variables.iter().filter(|variable| variable.required);
    let needed = required.map(|variable| variable.name.as_str()).filter(|name| !OF_SHELL.contains(name));
    // Whether one that is empty will do, only compose knows.
    let mut needed =
        needed.chain(inputs.project.taken_variables(inputs.request)).filter(|name| plan.value(name).is_none());
    needed.next().map_or(Ok(()), |name| Err(missing_variable(name)))
}

/// The error for a variable that the compose files can't do without.
pub(crate) fn missing_variable(name: &str) -> StageError {
    if VariableName::new(name).is_ok_and(|name| name.names_a_secret()) {
        return missing_secret(name, "the compose files require it");
    }
    let message = format!("the compose files require the variable {name}, and the event doesn't give it");
    StageError::new(ErrorCode::ComposeInvalid, message)
}
