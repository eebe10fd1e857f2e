//! What each service must answer on its port before a release counts as working: the allocation's own word, else what is
//! known of the module. Asking is done elsewhere: from outside in `verify` and `serving`, beside the running release by
//! `scripts/rehearse.sh`.

use slipway_protocol::names::{Port, ServiceName};
use slipway_protocol::{Allocation, HealthCheck, ProjectReady};

use crate::project::behind_door::may_poll;

/// What is asked of an allocated service.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ServiceCheck {
    /// A page with a healthy answer.
    Page { path: String, health: HealthCheck },
    /// That it takes connections: nobody says that it speaks HTTP.
    Connection,
}

/// A service, where it's reached and what is asked of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct CheckedService {
    pub(super) service: ServiceName,
    pub(super) port: Port,
    /// Host and port, as in a URL.
    pub(super) authority: String,
    /// The port inside the service's container.
    pub(super) inner: Port,
    pub(super) check: ServiceCheck,
}

impl CheckedService {
    /// The host that a request for its page names.
    pub(super) fn asked_host(&self) -> String {
        match &self.check {
            ServiceCheck::Page { health: HealthCheck { host: Some(host), .. }, .. } => host.url_form(),
            _ => self.authority.clone(),
        }
    }
}

/// How a service is checked over HTTP: the path to ask for, and what the request says about the answer.
pub(super) fn health_check_of(request: &ProjectReady, service: &str) -> (String, HealthCheck) {
    let allocation = request.allocations.iter().find(|a| a.service.as_str() == service);
    let check = allocation.and_then(|a| a.health.clone()).unwrap_or_default();
    // A backend has a health page; a frontend is asked for its start page.
    let usual = if service == "backend" { "/health" } else { "/" };
    (check.path.as_ref().map_or(usual, |path| path.as_str()).to_owned(), check)
}

/// All modules that have to answer on a port of their own, the web service first. What belongs to no module, such as a
/// database, isn't asked.
pub(super) fn checked_services(request: &ProjectReady, host: &str) -> Vec<CheckedService> {
    let checked = |allocation: &Allocation| {
        let service = &allocation.service;
        let check = if allocation.speaks_http() {
            let (path, health) = health_check_of(request, service.as_str());
            ServiceCheck::Page { path, health }
        } else if may_poll(service) {
            return None;
        } else {
            ServiceCheck::Connection
        };
        let port = allocation.host_port?;
        Some(CheckedService {
            service: service.clone(),
            port,
            authority: format!("{host}:{port}"),
            inner: allocation.container_port,
            check,
        })
    };
    let web = request.web();
    let others = request
        .allocations
        .iter()
        .filter(|a| request.modules.contains(&a.service) && web.is_none_or(|web| web.service != a.service));
    web.into_iter().chain(others).filter_map(checked).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn who_is_asked_for_what_follows_from_allocation_and_module() {
        let at = |service: &str, port: u16| serde_json::json!({ "service": service, "host_port": port, "container_port": 1 });
        let mut worker = at("notifications_worker", 84);
        worker["health"] = serde_json::json!({ "path": "/ready", "host": "shop.example.org" });
        let request = serde_json::json!({
            "project": { "id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": "shop" },
            "repository": {
                "name": "acme/shop", "commit": "0123456789abcdef0123456789abcdef01234567", "branch": "main"
            },
            "server": { "handle": "one" },
            "allocations": [
                at("db", 81), at("backend", 82), at("tg_bot", 83), worker, at("admin", 85), at("frontend", 86),
            ],
            "modules": ["admin", "backend", "frontend", "notifications_worker", "tg_bot"],
        });
        let request: ProjectReady = serde_json::from_value(request).expect("a request");
        let checked = checked_services(&request, "192.0.2.1");
        let hosts: Vec<_> = checked.iter().map(CheckedService::asked_host).collect();
        assert_eq!(hosts, ["192.0.2.1:86", "192.0.2.1:82", "shop.example.org", "192.0.2.1:85"]);
        let asked: Vec<_> = checked
            .into_iter()
            .map(|checked| match checked.check {
                ServiceCheck::Page { path, .. } => format!("{}{path}", checked.authority),
                ServiceCheck::Connection => checked.authority,
            })
            .collect();
        assert_eq!(asked, ["192.0.2.1:86/", "192.0.2.1:82/health", "192.0.2.1:84/ready", "192.0.2.1:85"]);
    }
}
