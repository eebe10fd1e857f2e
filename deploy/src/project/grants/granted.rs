//! What a project is granted, beside the keys that are harmless by themselves; and which labels are its own.

use std::collections::BTreeSet;

use serde_json::Value;
use slipway_protocol::ProjectReady;

use super::allowance::Allowance;
use super::refusal::Refusals;

/// The server's part of a judgement.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerFacts {
    /// Slugs of other projects that begin as this one's does.
    pub neighbours: Vec<String>,
    /// Names of others' containers that begin so.
    pub taken: Vec<String>,
    /// Networks and addresses that the server reaches, and that aren't the project's own.
    pub routes: Vec<String>,
    /// Where containers of the project that run may write, as the server's paths.
    pub writable: BTreeSet<String>,
}

/// What a project is granted.
pub(crate) struct Grants<'a> {
    /// Slug, modules, commit and allocations.
    pub request: &'a ProjectReady,
    /// The project's directory on the server.
    pub directory: &'a str,
    /// How the names of the project's own images begin, the registry included.
    pub own_images: &'a str,
    /// The host of the workers' image registry.
    pub registry: &'a str,
    /// Names of the project's variables, as its `.env` has them.
    pub variables: &'a BTreeSet<String>,
    /// What operators have allowed.
    pub allowances: &'a [Allowance],
    /// What the server knows of others, and of what runs.
    pub server: &'a ServerFacts,
}

#[cfg(test)]
impl<'a> Grants<'a> {
    /// Of the sample request, to which operators have allowed nothing.
    pub(crate) fn of_sample(request: &'a ProjectReady, directory: &'a str, server: &'a ServerFacts) -> Self {
        let (own_images, registry) = ("ghcr.io/acme-org/corner.shop-", "ghcr.io");
        static NONE: BTreeSet<String> = BTreeSet::new();
        Self { request, directory, own_images, registry, variables: &NONE, allowances: &[], server }
    }
}

/// Whether a label is one by which compose or Slipway know what is theirs. Those that our own override gives are set by it.
fn poses(label: &str, value: &Value, grants: &Grants<'_>, module: bool) -> bool {
    let ours = match label {
        "slipway.project" => value.as_str() == Some(grants.request.project.slug.as_str()),
        "slipway.commit" | "slipway.deployment" => module,
        // Whatever it says, it's of no weight but for the service itself.
        "slipway.files" => true,
        _ => false,
    };
    !ours && (label.starts_with("slipway.") || label.starts_with("com.docker."))
}

/// Refuses labels that pose as somebody else's.
pub(super) fn judge_labels(refusals: &mut Refusals, grants: &Grants<'_>, place: &str, labels: &Value, module: bool) {
    const RULE: &str = "labels that begin with slipway. or com.docker. are those of Slipway and Docker";
    let named = labels.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value.clone()));
    let listed = labels.as_array().into_iter().flatten().filter_map(Value::as_str);
    let listed = listed.map(|line| line.split_once('=').unwrap_or((line, ""))).map(|(n, v)| (n, Value::from(v)));
    for (name, value) in named.chain(listed) {
        if poses(name, &value, grants, module) {
            refusals.refuse(place, "labels", &Value::from(name), RULE);
        }
    }
}
