//! A request to deploy that comes in two halves, each from whoever knows it first: `slipway.engineering.done.v1` tells the
//! code, `slipway.resources.allocated.v1` the server and its ports. Of both together one [`ProjectReady`] is made.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{ServiceName, VariableName};
use crate::rules::{self, BrokenRule};
use crate::{
    Allocation, CloudEvent, Correlation, EventType, Project, ProjectReady, RegistryAccess, Repository, SecretSource,
    Server, ids,
};

/// The code of a project is done: what `ProjectReady` tells of it, and nothing of where it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EngineeringDone {
    /// Which project; spelt as in the other half.
    pub project: Project,
    /// Which code.
    pub repository: Repository,
    /// The services that must run; databases and caches come with them through compose.
    #[schemars(length(min = 1, max = 32))]
    pub modules: BTreeSet<ServiceName>,
    /// As in `ProjectReady`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<VariableName, String>,
    /// As in `ProjectReady`: sealed or by reference.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<VariableName, SecretSource>,
    /// As in `ProjectReady`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryAccess>,
    /// The producer's number of this event within the project, counted together with the project's other requests: the
    /// highest wins. Without it the event's time decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9007199254740991u64))]
    pub sequence: Option<u64>,
    /// After this moment the half must not be acted on any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Opaque ids to echo in every event about the deployment; of a name in both halves this one's value counts.
    #[serde(default, skip_serializing_if = "Correlation::is_empty")]
    pub correlation: Correlation,
}

/// The server and the ports of a project are allocated: what `ProjectReady` tells of them, and nothing of the code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResourcesAllocated {
    /// Which project; spelt as in the other half.
    pub project: Project,
    /// Which server.
    pub server: Server,
    /// Host ports by service, as in `ProjectReady`.
    #[schemars(length(min = 1, max = 32))]
    pub allocations: Vec<Allocation>,
    /// The producer's number of this event within the project, counted together with the project's other requests: the
    /// highest wins. Without it the event's time decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 9007199254740991u64))]
    pub sequence: Option<u64>,
    /// After this moment the half must not be acted on any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Opaque ids to echo in every event about the deployment.
    #[serde(default, skip_serializing_if = "Correlation::is_empty")]
    pub correlation: Correlation,
}

/// Which half of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HalfKind {
    /// The code.
    Engineering,
    /// The server and its ports.
    Resources,
}

impl HalfKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Engineering, Self::Resources];

    /// The name, as in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Engineering => "engineering",
            Self::Resources => "resources",
        }
    }

    /// The half that is missing where this one is alone.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Engineering => Self::Resources,
            Self::Resources => Self::Engineering,
        }
    }

    /// The type of its event.
    #[must_use]
    pub fn event_type(self) -> EventType {
        match self {
            Self::Engineering => EventType::EngineeringDone,
            Self::Resources => EventType::ResourcesAllocated,
        }
    }
}

impl std::str::FromStr for HalfKind {
    type Err = crate::names::InvalidName;
    fn from_str(value: &str) -> Result<Self, Self::Err> {
        let rule = "be engineering or resources";
        Self::ALL.into_iter().find(|k| k.as_str() == value).ok_or(crate::names::InvalidName { what: "half", rule })
    }
}

/// Either half, as the engine reads it.
#[derive(Debug, Clone, PartialEq)]
pub enum ProjectHalf {
    /// The code.
    Engineering(EngineeringDone),
    /// The server and its ports.
    Resources(ResourcesAllocated),
}

impl ProjectHalf {
    /// Which half it is.
    #[must_use]
    pub fn kind(&self) -> HalfKind {
        match self {
            Self::Engineering(_) => HalfKind::Engineering,
            Self::Resources(_) => HalfKind::Resources,
        }
    }

    /// Which project.
    #[must_use]
    pub fn project(&self) -> &Project {
        match self {
            Self::Engineering(half) => &half.project,
            Self::Resources(half) => &half.project,
        }
    }

    /// The producer's number of this event within the project.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        match self {
            Self::Engineering(half) => half.sequence,
            Self::Resources(half) => half.sequence,
        }
    }

    /// After this moment it must not be acted on any more.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        match self {
            Self::Engineering(half) => half.expires_at,
            Self::Resources(half) => half.expires_at,
        }
    }

    /// Opaque ids to echo.
    #[must_use]
    pub fn correlation(&self) -> &Correlation {
        match self {
            Self::Engineering(half) => &half.correlation,
            Self::Resources(half) => &half.correlation,
        }
    }

    /// Whether it allocates the same as another one does, whatever number and ids it has.
    #[must_use]
    pub fn allocates_the_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Resources(one), Self::Resources(other)) => {
                (&one.project, &one.server, &one.allocations) == (&other.project, &other.server, &other.allocations)
            }
            _ => false,
        }
    }

    /// The JSON pointer of a port that is missing: who allocates the server allocates its ports.
    pub(crate) fn missing_port(&self) -> Option<String> {
        match self {
            Self::Engineering(_) => None,
            Self::Resources(half) => rules::missing_port(&half.allocations),
        }
    }

    pub(crate) fn check(&self) -> Result<(), BrokenRule> {
        match self {
            Self::Engineering(half) => {
                rules::modules(&half.modules)?;
                rules::environment(&half.variables, &half.secrets)?;
            }
            // What is served only the modules tell, which the other half has.
            Self::Resources(half) => rules::allocations(&half.allocations, |_| true)?,
        }
        rules::sequence(self.sequence())
    }
}

/// The request to deploy that two halves of one project make, whichever came first: its `source` is that of the code, its
/// `id` follows from the sources and ids of both, and it's as new as the newer of them. What each half alone doesn't show,
/// such as a domain of what is no module, is found out by whoever reads the request.
#[must_use]
pub fn join(
    engineering: &CloudEvent<EngineeringDone>,
    resources: &CloudEvent<ResourcesAllocated>,
) -> CloudEvent<ProjectReady> {
    let (code, place) = (&engineering.data, &resources.data);
    let mut correlation = place.correlation.clone();
    correlation.extend(code.correlation.clone());
    let data = ProjectReady {
        project: code.project.clone(),
        repository: code.repository.clone(),
        server: Some(place.server.clone()),
        placement: None,
        resources: None,
        allocations: place.allocations.clone(),
        modules: code.modules.clone(),
        variables: code.variables.clone(),
        secrets: code.secrets.clone(),
        registry: code.registry.clone(),
        sequence: code.sequence.max(place.sequence),
        expires_at: [code.expires_at, place.expires_at].into_iter().flatten().min(),
        correlation,
    };
    let id = ids::joined(&engineering.source, &engineering.id, &resources.source, &resources.id);
    let mut event = CloudEvent::new(EventType::ProjectReady, engineering.source.clone(), id, data);
    event.subject = Some(code.project.slug.to_string());
    event.time = engineering.time.max(resources.time);
    let (newer, older) = if resources.time > engineering.time {
        (&resources.traceparent, &engineering.traceparent)
    } else {
        (&engineering.traceparent, &resources.traceparent)
    };
    event.traceparent = newer.clone().or_else(|| older.clone());
    event
}
