//! Decides the value of every variable in a project's `.env`. No I/O; the types are in `variables`.
//!
//! What is given for this deployment wins; what belongs to the release (image tags, the host port) follows; then what
//! is on the server already; then what can be derived; generated values come last and are kept from then on.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret as _;
use slipway_protocol::names::VariableName;
use slipway_protocol::{ErrorCode, ProjectReady};

use super::database::set_database;
use super::variables::{ComposeVariable, EnvInputs, EnvPlan, Origin, generate_secret, missing_secret};
use crate::StageError;
use crate::project::compose::REGISTRY_AUTH;
use crate::project::image_tag::image_name;

/// Decides all variables.
///
/// # Errors
/// `missing-secret` names a secret that nobody has given; `compose-invalid` a required variable that isn't one.
pub fn plan_env(inputs: &EnvInputs<'_>) -> Result<EnvPlan, StageError> {
    let mut plan = EnvPlan::default();
    for (name, value) in &inputs.request.variables {
        plan.set(name.as_str(), value, Origin::Given);
    }
    for (name, value) in inputs.secrets {
        plan.set(name.as_str(), value.expose_secret(), Origin::Sealed);
    }
    set_release(inputs, &mut plan);
    for (name, value) in inputs.kept.iter().filter(|(name, _)| *name != REGISTRY_AUTH && *name != "PORT") {
        plan.set(name, value, Origin::Kept);
    }
    set_derived(inputs, &mut plan);
    set_database(inputs, &mut plan)?;
    if plan.value("APP_SECRET_KEY").is_none() {
        plan.set("APP_SECRET_KEY", generate_secret()?, Origin::Generated);
    }
    check_complete(inputs, &plan)?;
    Ok(plan)
}

/// What changes from release to release, whatever was on the server.
fn set_release(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) {
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
pub fn image_variables(request: &ProjectReady, variables: &[ComposeVariable]) -> BTreeMap<String, String> {
    let modules = request.modules.iter().map(|m| m.as_str().to_ascii_uppercase().replace('-', "_"));
    let required = variables.iter().filter(|a| a.required).filter_map(|a| a.name.strip_suffix("_IMAGE"));
    let given = |name: &String| request.variables.keys().any(|given| given.as_str() == name);
    let all = modules.chain(required.map(str::to_owned));
    let all = all.map(|module| (format!("{module}_IMAGE"), image_name(&request.repository.name, &module)));
    all.filter(|(name, _)| !given(name)).collect()
}

fn set_derived(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) {
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
fn check_complete(inputs: &EnvInputs<'_>, plan: &EnvPlan) -> Result<(), StageError> {
    let empty = |name: &str| plan.value(name).is_none_or(str::is_empty);
    let bot = inputs.request.modules.iter().any(|m| m.as_str() == "tg_bot");
    if bot && empty("TELEGRAM_BOT_TOKEN") {
        return Err(missing_secret("TELEGRAM_BOT_TOKEN", "module tg_bot needs it"));
    }
    let Some(ComposeVariable { name, .. }) = inputs.compose_variables.iter().find(|a| a.required && empty(&a.name))
    else {
        return Ok(());
    };
    if VariableName::new(name.clone()).is_ok_and(|name| name.names_a_secret()) {
        return Err(missing_secret(name, "the compose files require it"));
    }
    let message = format!("the compose files require the variable {name}, and the event doesn't give it");
    Err(StageError::new(ErrorCode::ComposeInvalid, message))
}
