//! What of a server belongs to one service of a project: its port, how it shows there that it's healthy, and its domains.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::DomainName;
use crate::names::{Host, Port, ServiceName, UrlPath};

/// A port of the server that belongs to one service of the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Allocation {
    /// Which service; chosen by name, never by position.
    pub service: ServiceName,
    /// The port on the server. It may be left out where the server is: then Slipway chooses one that is free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port: Option<Port>,
    /// The port that the service listens on inside its container.
    pub container_port: Port,
    /// How a module shows that it's healthy. Without it a backend is asked for `/health` and a frontend for `/`; any
    /// other must at least take connections, but for `tg_bot` and `notifications_worker`, which needn't listen. A service
    /// that is no module, such as a database, isn't asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthCheck>,
    /// The domains under which the front door serves this service over HTTPS, the first one in the result's `url`. They
    /// have to lead to the server, and belong to one project alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub domains: Vec<DomainName>,
}

/// What a service answers over HTTP when it's healthy, asked from outside of its server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthCheck {
    /// Which page; `/health` of a backend and `/` of any other when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<UrlPath>,
    /// The host to ask for, as people's browsers name it: for a service that answers no others. The server's address with
    /// the port when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
    /// The statuses of a healthy answer; any from 200 to 399 when left out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(length(max = 32), inner(range(min = 100, max = 599)))]
    pub statuses: BTreeSet<u16>,
    /// How many seconds the service may take, from the moment its container is stable, until it answers so; as the
    /// workers are configured when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub timeout_seconds: Option<u32>,
}

impl HealthCheck {
    /// Whether `status` is one of a healthy answer.
    #[must_use]
    pub fn accepts(&self, status: u16) -> bool {
        if self.statuses.is_empty() { (200..400).contains(&status) } else { self.statuses.contains(&status) }
    }

    /// The field that breaks its rule, and the rule.
    pub(crate) fn defect(&self) -> Option<(&'static str, &'static str)> {
        if self.statuses.len() > 32 || self.statuses.iter().any(|status| !(100..600).contains(status)) {
            return Some(("statuses", "must hold at most 32 HTTP statuses, 100 to 599"));
        }
        let timeout = self.timeout_seconds.unwrap_or(1);
        (!(1..=3600).contains(&timeout)).then_some(("timeout_seconds", "must be 1 to 3600"))
    }
}
