//! What an attempt needs beside its request: it comes with the claim.

use std::collections::BTreeMap;

use slipway_deploy::Allowance;
use tokio_postgres::Row;
use tokio_postgres::types::Json;

use crate::store::Result;
use crate::store::connection::value::readable;
use crate::store::server::inventory::{ServerRecord, record};

/// What is known of a deployment's server and of its project there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimBasis {
    /// The server, if the inventory holds it.
    pub server: Option<ServerRecord>,
    /// Keyed digests of what GitHub holds, by name.
    pub github_digests: BTreeMap<String, String>,
    /// What the project is allowed there.
    pub allowances: Vec<Allowance>,
}

/// What [`ClaimBasis::read`] needs of a deployment `due` and, joined from the left, of its row in `servers`.
pub(in crate::store) const BASIS_COLUMNS: &str = "servers.*, (SELECT json_object_agg(name, digest) FROM github_digests g \
         WHERE g.project_id = due.project_id AND g.server = due.server) AS digests, \
     ARRAY(SELECT DISTINCT allowance FROM allowances a WHERE a.revoked_at IS NULL \
         AND (a.server = due.server OR (a.project_id = due.project_id AND a.project_slug = due.project_slug)) \
         ORDER BY allowance) AS allowed";

impl ClaimBasis {
    pub(in crate::store) fn read(row: &Row) -> Result<Self> {
        let digests = readable("github_digests", "digest", row.try_get::<_, Option<Json<_>>>("digests"))?;
        let is_known = row.get::<_, Option<&str>>("handle").is_some();
        let allowed: Vec<String> = row.get("allowed");
        Ok(Self {
            server: is_known.then(|| record(row)).transpose()?,
            github_digests: digests.map(|Json(digests)| digests).unwrap_or_default(),
            // What this version doesn't know isn't allowed.
            allowances: allowed.iter().filter_map(|allowance| allowance.parse().ok()).collect(),
        })
    }
}
