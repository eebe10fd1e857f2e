//! Whose slugs and repositories are, for people.

use jiff::Timestamp;
use slipway_protocol::ProjectId;
use slipway_protocol::names::{ServerHandle, Slug};
use tokio_postgres::Row;
use uuid::Uuid;

use crate::store::connection::deadline::deadline;
use crate::store::connection::value::readable;
use crate::store::{Result, Store};

const SLUGS: &str = "SELECT o.*, EXISTS (SELECT FROM project_places p WHERE p.project_id = o.project_id
            AND p.project_slug = o.project_slug AND p.server = o.server AND p.succeeded > coalesce(p.undeployed, 0)) AS deployed
        FROM slug_owners o ORDER BY o.project_slug, o.server";

/// What a project may have for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnedThing {
    /// A slug on a server: the directory, containers and volumes of that name.
    Slug {
        /// The name.
        slug: Slug,
        /// Where.
        server: ServerHandle,
    },
    /// The CI secrets of a repository, by its name in small letters.
    Repository(String),
    /// A domain, and where it's to be served.
    Domain {
        /// The name.
        domain: String,
        /// The project's slug there.
        slug: String,
        /// Where.
        server: String,
    },
}

/// Something that belongs to a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// What it is.
    pub thing: OwnedThing,
    /// Whose it is.
    pub project: ProjectId,
    /// Of a slug: whether a deployment of this project has succeeded there.
    pub proven: bool,
    /// Of a slug: whether the project lives there still, and wasn't moved away or undeployed since.
    pub deployed: bool,
    /// Of a slug: the projects that it was handed over from.
    pub former: Vec<ProjectId>,
    /// Since when it belongs to this project.
    pub since: Timestamp,
}

impl Store {
    /// All that belongs to projects: slugs by name and server, then repositories, then domains.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn owned(&self) -> Result<Vec<Owned>> {
        deadline(async {
            let client = self.client().await?;
            let slugs = client.query(SLUGS, &[]).await?;
            let repositories = client.query("SELECT * FROM repository_owners ORDER BY repository", &[]).await?;
            let domains = client.query("SELECT * FROM domains ORDER BY domain", &[]).await?;
            let others = repositories.iter().map(repository).chain(domains.iter().map(domain));
            slugs.iter().map(slug).chain(others.map(Ok)).collect()
        })
        .await
    }

    /// The slugs that belong to a project, on any server.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn slugs_of(&self, project: ProjectId) -> Result<Vec<String>> {
        deadline(async {
            let sql = "SELECT DISTINCT project_slug FROM slug_owners WHERE project_id = $1 ORDER BY project_slug";
            Ok(self.client().await?.query(sql, &[&project.0]).await?.iter().map(|row| row.get(0)).collect())
        })
        .await
    }
}

fn slug(row: &Row) -> Result<Owned> {
    const TABLE: &str = "slug_owners";
    let text = |column: &str| row.get::<_, String>(column);
    Ok(Owned {
        thing: OwnedThing::Slug {
            slug: readable(TABLE, "project_slug", Slug::new(text("project_slug")))?,
            server: readable(TABLE, "server", ServerHandle::new(text("server")))?,
        },
        project: ProjectId(row.get("project_id")),
        proven: row.get("proven"),
        deployed: row.get("deployed"),
        former: row.get::<_, Vec<Uuid>>("former").into_iter().map(ProjectId).collect(),
        since: row.get("since"),
    })
}

fn repository(row: &Row) -> Owned {
    whole(row, OwnedThing::Repository(row.get("repository")))
}

fn domain(row: &Row) -> Owned {
    let (domain, slug, server) = (row.get("domain"), row.get("project_slug"), row.get("server"));
    whole(row, OwnedThing::Domain { domain, slug, server })
}

/// What is its project's for as long as that has it.
fn whole(row: &Row, thing: OwnedThing) -> Owned {
    Owned {
        thing,
        project: ProjectId(row.get("project_id")),
        proven: true,
        deployed: true,
        former: Vec::new(),
        since: row.get("since"),
    }
}
