//! Which project on which server a command means, by what a person has named of it.

use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{Action, ProjectId};
use slipway_worker::store::ProjectServer;

use crate::commands::servers::unknown_server;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};

/// What was named.
pub(crate) struct NamedPlace<'a> {
    pub(crate) slug: &'a Slug,
    pub(crate) server: Option<&'a ServerHandle>,
    pub(crate) project_id: Option<ProjectId>,
}

impl NamedPlace<'_> {
    /// The only one of the slug's `places` that can be meant; workers refuse a request that may mean several.
    pub(crate) async fn choose(
        &self,
        places: Vec<ProjectServer>,
        action: Action,
        database: &Database,
    ) -> Result<ProjectServer, CliError> {
        let slug = self.slug;
        let on: Vec<String> = places.iter().map(|place| format!("it's on {}", place.server)).collect();
        let meant = |p: &ProjectServer| {
            self.server.is_none_or(|s| *s == p.server) && self.project_id.is_none_or(|id| id == p.project.id)
        };
        if let Some(server) = self.server.filter(|server| places.iter().all(|place| place.server != **server)) {
            let known = database.store.server(server).await.map_err(|e| database.cli_error(&e))?.is_some();
            return Err(match known {
                false => unknown_server(server),
                true if on.is_empty() => unknown_project(slug),
                true => CliError::usage(format!("{slug} was never deployed to {server}"))
                    .details(on)
                    .hint("give one of these as --server"),
            });
        }
        let is_known = !places.is_empty();
        let all: Vec<ProjectServer> = places.into_iter().filter(meant).collect();
        let present: Vec<ProjectServer> = all.iter().filter(|p| !p.gone).cloned().collect();
        let is_undeployed = present.is_empty() && !all.is_empty();
        let mut candidates = if is_undeployed && action == Action::Undeploy { all } else { present };
        match candidates.len() {
            1 => Ok(candidates.remove(0)),
            0 if is_undeployed => {
                Err(CliError::new(CommandExit::Failed, format!("{slug} was undeployed")).hint("submit it anew"))
            }
            0 if is_known => Err(CliError::usage(format!("no project {slug} with this --project-id is there")).hint(
                format!("`slipway projects owners` and `slipway deployments list --project {slug}` show whose it is"),
            )),
            0 => Err(unknown_project(slug)),
            _ => {
                let places = candidates.iter().map(|p| format!("{} on {}", p.project.id, p.server)).collect();
                Err(CliError::usage(format!("{slug} may mean several"))
                    .details(places)
                    .hint("give --server or --project-id"))
            }
        }
    }
}

fn unknown_project(slug: &Slug) -> CliError {
    CliError::usage(format!("no deployment of {slug} is known")).hint("`slipway deployments list` shows what is")
}
