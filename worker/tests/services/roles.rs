//! PostgreSQL's logins that may do what `ops/privileges.md` says, and nothing beside.

use secrecy::{ExposeSecret as _, SecretString};

use super::TestDatabase;
use super::privileges::rows;

/// Those of the table, by its columns.
const ROLES: [&str; 3] = ["operator", "notify", "monitoring"];

/// The URL of a database for a role, which `grant` has made.
pub fn database_url(database: &TestDatabase, role: &str) -> SecretString {
    database.url.expose_secret().replace("slipway@", &format!("{}_{role}@", database.name)).into()
}

/// Gives the roles but the worker what they may do in a database that has its schema.
pub async fn grant(database: &TestDatabase) {
    let name = &database.name;
    let mut sql = format!("REVOKE CONNECT ON DATABASE {name} FROM PUBLIC;");
    for role in ROLES {
        sql += &format!(
            "CREATE ROLE {name}_{role} LOGIN; GRANT CONNECT ON DATABASE {name} TO {name}_{role};
             GRANT USAGE ON SCHEMA public TO {name}_{role};"
        );
    }
    let mut tables = Vec::new();
    for row in rows("PostgreSQL") {
        for (role, privileges) in ROLES.iter().zip(&row[1..]).filter(|(_, cell)| *cell != "-") {
            sql += &format!("GRANT {privileges} ON {} TO {name}_{role};", row[0]);
        }
        tables.push(row[0].clone());
    }
    database.sql.batch_execute(&sql).await.unwrap();
    let sql = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace";
    for row in database.sql.query(sql, &[]).await.unwrap() {
        let table: String = row.get(0);
        let workers_alone = ["fleet", "relay_lease"].contains(&table.as_str());
        assert!(tables.contains(&table) || workers_alone, "ops/privileges.md says nothing of table {table}");
    }
}
