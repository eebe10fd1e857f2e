//! A past in the database: deployments that were really carried out, copied with other ids, projects and times until
//! there are as many as wanted. It copies whatever tables there are, so that it needn't know the schema.

use anyhow::Result;
use tokio_postgres::Client;

/// How many deployments each made-up project has.
const OF_A_PROJECT: u64 = 500;
/// How many copies a statement makes of each row.
const CHUNK: u64 = 250;
/// How many deployments' events are kept: what is older was pruned long ago.
const WITH_EVENTS: u64 = 20_000;
/// Over how long the past is spread: short, so that no retention takes it away meanwhile.
const HOURS: f64 = 12.0;

/// What isn't of a deployment or project, or has one row for all.
const LEFT_OUT: &str = "'refinery_schema_history', 'workers', 'relay_lease', 'servers', 'server_circuits'";

const TABLES: &str = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped
            AND a.attname IN ('deployment_id', 'project_id', 'project_slug', 'repository'))";

const COLUMNS: &str = "SELECT column_name::text, data_type::text FROM information_schema.columns
    WHERE table_schema = 'public' AND table_name = $1 AND is_identity = 'NO' AND is_generated = 'NEVER'
    ORDER BY ordinal_position";

/// What a killed worker hadn't noted any more, and the relay's lease, which the next one would wait for.
const BURIED: &str = "UPDATE outbox SET published_at = now() WHERE published_at IS NULL;
    UPDATE relay_lease SET expires_at = now()";

/// A database with a past that can grow.
pub struct MadeUpPast {
    sql: Client,
    /// The tables, each with the rows that are copied and how.
    tables: Vec<(String, String)>,
    seeds: u64,
    copies: u64,
}

impl MadeUpPast {
    /// Takes what is there for what is copied.
    pub async fn of(sql: Client) -> Result<Self> {
        sql.batch_execute(BURIED).await?;
        sql.batch_execute("SET session_replication_role = replica; SET synchronous_commit = off; CREATE SCHEMA seed")
            .await?;
        let mut tables = Vec::new();
        let query =
            format!("{TABLES} AND c.relname NOT IN ({LEFT_OUT}) ORDER BY c.relname <> 'deployments', c.relname");
        for row in sql.query(&query, &[]).await? {
            let table: String = row.get(0);
            sql.batch_execute(&format!("CREATE TABLE seed.{table} AS SELECT * FROM public.{table}")).await?;
            let (mut names, mut values) = (Vec::new(), Vec::new());
            for column in sql.query(COLUMNS, &[&table]).await? {
                let (name, kind): (String, String) = (column.get(0), column.get(1));
                values.push(copied(&name, &kind));
                names.push(format!("\"{name}\""));
            }
            let (names, values) = (names.join(", "), values.join(", "));
            let copy = format!(
                "INSERT INTO public.{table} ({names}) SELECT {values} FROM seed.{table} t, \
                 generate_series($1::bigint, $2::bigint) k ON CONFLICT DO NOTHING"
            );
            tables.push((table, copy));
        }
        let seeds: i64 = sql.query_one("SELECT count(*) FROM seed.deployments", &[]).await?.get(0);
        Ok(Self { sql, tables, seeds: u64::try_from(seeds)?.max(1), copies: 0 })
    }

    /// Grows it to about `deployments`.
    pub async fn grow(&mut self, deployments: u64) -> Result<()> {
        let wanted = deployments / self.seeds;
        while self.copies < wanted {
            let (from, to) = (self.copies + 1, wanted.min(self.copies + CHUNK));
            for (table, copy) in &self.tables {
                let to = if table == "outbox" { to.min(WITH_EVENTS / self.seeds) } else { to };
                let bounds = (i64::try_from(from)?, i64::try_from(to)?);
                self.sql.execute(copy.as_str(), &[&bounds.0, &bounds.1]).await?;
            }
            self.copies = to;
        }
        // As autovacuum would have done meanwhile.
        self.sql.batch_execute("VACUUM ANALYZE").await?;
        self.sql.batch_execute("CHECKPOINT").await?;
        Ok(())
    }

    /// Has the next worker begin as if the last one had stopped, and not been killed.
    pub async fn bury_worker(&self) -> Result<()> {
        Ok(self.sql.batch_execute(BURIED).await?)
    }

    /// What it takes on the disk, in megabytes.
    pub async fn megabytes(&self) -> Result<f64> {
        let query = "SELECT pg_database_size(current_database())::float8 / 1e6 -
            (SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = 'seed'::regnamespace
                AND relkind = 'r')::float8 / 1e6";
        Ok(self.sql.query_one(query, &[]).await?.get(0))
    }

    /// A finished deployment's id and its project's slug, one of those with the longest past.
    pub async fn example(&self) -> Result<(String, String)> {
        let query = "SELECT id::text, project_slug FROM deployments WHERE project_slug = (SELECT project_slug
            FROM deployments GROUP BY project_slug ORDER BY count(*) DESC LIMIT 1) ORDER BY accepted_at LIMIT 1";
        let row = self.sql.query_one(query, &[]).await?;
        Ok((row.get(0), row.get(1)))
    }
}

/// The column of copy `k`.
fn copied(name: &str, kind: &str) -> String {
    let project = format!("(k / {OF_A_PROJECT})");
    match (name, kind) {
        ("project_id", "uuid") => format!("md5(t.project_id::text || {project})::uuid"),
        (_, "uuid") => format!("md5(t.\"{name}\"::text || k)::uuid"),
        ("project_slug" | "repository" | "subject", "text") => format!("t.\"{name}\" || '-' || {project}"),
        ("event_id" | "message_id", "text") => format!("t.\"{name}\" || '-' || k"),
        (_, "timestamp with time zone") => format!("t.\"{name}\" - (k % 5000) * interval '1 hour' * {HOURS} / 5000"),
        _ => format!("t.\"{name}\""),
    }
}
