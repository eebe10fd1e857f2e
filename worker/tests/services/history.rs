//! A database with a long history, made by `history.sql`.

use super::TestDatabase;
use super::test_worker::request;

/// The statements with which the migration reads where projects are from deployments that are there already.
fn backfill() -> &'static str {
    let migration = include_str!("../../migrations/V16__places.sql");
    let (_, rest) = migration.split_once("-- What is there already").unwrap();
    rest.split_once("CREATE TRIGGER").unwrap().0.split_once('\n').unwrap().1
}

impl TestDatabase {
    /// Writes so many finished deployments into a database that has the schema.
    pub async fn write_history(&self, deployments: u64) {
        let request = String::from_utf8(request(|_| {})).unwrap().replace('\'', "''");
        let settings = format!("SET history.rows = {deployments}; SET history.request = '{request}'");
        self.sql.batch_execute(&settings).await.unwrap();
        self.sql.batch_execute(include_str!("history.sql")).await.unwrap();
        self.sql.batch_execute(&format!("BEGIN; {}; COMMIT", backfill())).await.unwrap();
        self.sql.batch_execute("VACUUM ANALYZE").await.unwrap();
    }
}
