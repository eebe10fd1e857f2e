//! Which tables grow, and which statements aren't run here.

/// Tables that grow with the number of deployments.
pub(super) const GROWING: &[&str] = &[
    "deployments",
    "stage_journal",
    "outbox",
    "dead_letters",
    "github_deployments",
    "cancellations",
    "operator_audit",
    "project_places",
    "project_repositories",
    "ended_requests",
    "github_digests",
    "project_halves",
    "notifications",
    "webhook_deliveries",
];

/// Statements that aren't run here, with the reason.
pub(super) const UNVISITED: &[(&str, &str)] = &[
    ("FROM deployments LIMIT {LARGE}", ONCE),
    ("UPDATE deployments d SET producer_sequence = k.highest", ONCE),
    ("WITH RECURSIVE p (id, n) AS", ONCE),
    (
        "FROM slug_owners o ORDER BY o.project_slug",
        "an operator lists all that belongs to projects, however many there are",
    ),
];

const ONCE: &str = "a migration of a large database, which its own test carries out";
