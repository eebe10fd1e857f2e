//! What a project's compose files may ask for: an allow-list, over the model that compose resolves and starts. What isn't
//! named here is refused, also what later versions of compose bring. No I/O: how the model is read, and that what is started
//! is what was judged, is the matter of the scripts.

pub(crate) mod allowance;
mod files;
mod granted;
pub(crate) mod images;
mod limits;
mod mounts;
mod network;
pub(crate) mod paths;
pub(crate) mod refusal;
mod service;
mod subnets;
#[cfg(test)]
mod tests;
mod top_level;
#[cfg(test)]
mod tricks;
mod values;

pub(crate) use files::judge_files;
pub(crate) use granted::{Grants, ServerFacts};
use serde_json::Value;
use slipway_protocol::ErrorCode;
pub(crate) use top_level::is_of_server;

use self::images::ForeignImage;
use self::paths::{MountedPath, judge_nesting};
use self::refusal::{Refusal, Refusals};
use crate::StageError;

/// More of them, and one project takes the server from all others.
const MAX_SERVICES: usize = 40;

/// What came of a judgement.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Everything that isn't granted.
    pub refusals: Vec<Refusal>,
    /// What is mounted from the project's directory: the server has to show that no link is among it.
    pub paths: Vec<MountedPath>,
    /// Images of other owners: the registry has to say that everybody may have them.
    pub images: Vec<ForeignImage>,
}

/// A judgement that nothing was refused by.
#[derive(Debug, Clone)]
pub(crate) struct JudgedModel {
    /// The server starts what has this digest.
    pub digest: String,
    /// And mounts these paths, if they're still what they were.
    pub paths: Vec<String>,
}

/// Judges the output of `compose config --format json`.
///
/// # Errors
/// `compose-invalid` when it isn't what compose prints.
pub(crate) fn judge(model: &[u8], grants: &Grants<'_>) -> Result<Verdict, StageError> {
    let model: Value = serde_json::from_slice(model)
        .map_err(|e| StageError::new(ErrorCode::ComposeInvalid, format!("compose's model of the project: {e}")))?;
    let mut refusals = Refusals::new(grants.allowances);
    let mut paths = Vec::new();
    for (key, value) in model.as_object().into_iter().flatten() {
        match key.as_str() {
            "name" if value.as_str() != Some(grants.request.project.slug.as_str()) => {
                refusals.refuse("project", key, value, "a project's name is its slug");
            }
            "name" | "services" => {}
            "networks" | "volumes" | "configs" | "secrets" => {
                top_level::judge(&mut refusals, grants, key, value, &mut paths);
            }
            extension if extension.starts_with("x-") => {}
            _ => refusals.refuse("project", key, value, "this isn't one of what a project may have"),
        }
    }
    let count = model["services"].as_object().map_or(0, serde_json::Map::len);
    if count > MAX_SERVICES {
        refusals.refuse("project", "services", &Value::from(count), "a project has at most 40 services");
    }
    let mut images = Vec::new();
    for (name, service) in model["services"].as_object().into_iter().flatten() {
        let image = service["image"].as_str().unwrap_or_default();
        images.extend(images::foreign(grants, &format!("service {name}"), image));
        service::judge(&mut refusals, grants, name, service, &mut paths);
    }
    judge_nesting(&mut refusals, &paths, &grants.server.writable);
    Ok(Verdict { refusals: refusals.into_found(), paths, images })
}
