//! Indexes that a migration doesn't make on a large table, since everybody would wait for it: they are made beside the work,
//! one after the other. What needs one copes until it's there.

use crate::store::{Result, Store};

/// Each by its name, with what comes after it. A small table got them from the migration (V18).
pub(super) const INDEXES: &[(&str, &str)] = &[
    (
        "deployments_by_kind",
        "ON deployments (coalesce(project_id, '00000000-0000-0000-0000-000000000000'), coalesce(server, ''),
             coalesce(project_slug, ''), action,
             (CASE WHEN request IS NULL THEN '?' WHEN started_at IS NULL THEN '-' ELSE '+' END || state), arrival)
         WHERE finished_at IS NOT NULL",
    ),
    ("dead_letters_of_deployment", "ON dead_letters (deployment_id)"),
    ("dead_letters_closed", "ON dead_letters (updated_at, id) WHERE state <> 'open'"),
    ("dead_letters_with_body", "ON dead_letters (updated_at, id) WHERE state <> 'open' AND body IS NOT NULL"),
    ("cancellations_by_time", "ON cancellations (requested_at)"),
];

impl Store {
    /// Makes the indexes that are missing; gives their names. On a connection of its own: it may take minutes, and nothing
    /// that others do waits for it.
    ///
    /// # Errors
    /// When the database fails. What is half made then is removed and made anew the next time.
    pub async fn make_indexes(&self) -> Result<Vec<&'static str>> {
        // Where no session is ours, a worker makes them that has one.
        let Some((config, tls)) = &self.sessions else { return Ok(Vec::new()) };
        let (client, connection) = config.connect(tls.clone()).await?;
        let connection = tokio::spawn(connection);
        let made = async {
            client.batch_execute("SET statement_timeout = 0; SET lock_timeout = '2s'").await?;
            let mut made = Vec::new();
            for (name, definition) in INDEXES {
                let sql = "SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass($1)";
                match client.query_opt(sql, &[name]).await?.map(|row| row.get::<_, bool>(0)) {
                    Some(true) => continue,
                    Some(false) => client.batch_execute(&format!("DROP INDEX CONCURRENTLY {name}")).await?,
                    None => {}
                }
                client.batch_execute(&format!("CREATE INDEX CONCURRENTLY {name} {definition}")).await?;
                made.push(*name);
            }
            Ok(made)
        }
        .await;
        drop(client);
        let _ = connection.await;
        made
    }
}
