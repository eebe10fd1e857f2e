//! What a message brings that has to be opened, whichever kind it is.

use std::collections::BTreeMap;

use slipway_protocol::names::{RepositoryName, VariableName};
use slipway_protocol::{EngineeringDone, ProjectId, ProjectReady, RegistryAccess, SecretSource};

/// The secrets of a request or of its half, and for whom they are sealed.
#[derive(Debug, Clone, Copy)]
pub struct BroughtSecrets<'a> {
    /// The project.
    pub project: ProjectId,
    /// Its repository, whose owner's mounted secrets it may read.
    pub repository: &'a RepositoryName,
    /// Its secrets.
    pub secrets: &'a BTreeMap<VariableName, SecretSource>,
    /// Its credential for images.
    pub registry: Option<&'a RegistryAccess>,
}

impl<'a> From<&'a ProjectReady> for BroughtSecrets<'a> {
    fn from(request: &'a ProjectReady) -> Self {
        let ProjectReady { project, repository, secrets, registry, .. } = request;
        Self { project: project.id, repository: &repository.name, secrets, registry: registry.as_ref() }
    }
}

impl<'a> From<&'a EngineeringDone> for BroughtSecrets<'a> {
    fn from(half: &'a EngineeringDone) -> Self {
        let EngineeringDone { project, repository, secrets, registry, .. } = half;
        Self { project: project.id, repository: &repository.name, secrets, registry: registry.as_ref() }
    }
}
