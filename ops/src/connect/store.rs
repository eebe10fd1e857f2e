//! The connection to Postgres, made by the worker's store. Its failures become errors that say what to do.

use slipway_protocol::DeploymentId;
use slipway_worker::store::{Store, StoreError};

use crate::connect::settings::{ConnectionSettings, redact_url};
use crate::terminal::error::{CliError, CommandExit, join_sources};
use crate::terminal::print::clean;

/// The store, and where it is, for error messages.
pub(crate) struct Database {
    pub(crate) store: Store,
    place: String,
}

impl Database {
    /// Prepares the connection. The first query makes it.
    pub(crate) fn new(settings: &ConnectionSettings) -> Result<Self, CliError> {
        Self::named(settings, "slipway-cli")
    }

    /// As [`Self::new`], under a name of its own.
    pub(crate) fn named(settings: &ConnectionSettings, name: &str) -> Result<Self, CliError> {
        let url = settings.database_url()?;
        let store = Store::over(url, &settings.database_route(), settings.ca_file.as_deref(), name).map_err(|e| {
            CliError::usage(join_sources(&e))
                .hint("set SLIPWAY_DATABASE_URL to postgres://user:password@host:port/database")
        })?;
        Ok(Self { store, place: redact_url(url) })
    }

    /// The one deployment whose id begins with `prefix`.
    pub(crate) async fn find_deployment(&self, prefix: &str) -> Result<DeploymentId, CliError> {
        let prefix = prefix.to_ascii_lowercase();
        if prefix.len() < 4 || !prefix.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Err(CliError::usage(format!(
                "`{}` is neither a deployment's id nor its beginning",
                clean(&prefix)
            ))
            .hint("give at least 4 digits of an id that `slipway deployments list` shows"));
        }
        let found = self.store.deployments_like(&prefix).await.map_err(|e| self.cli_error(&e))?;
        match found.as_slice() {
            [id] => Ok(*id),
            [] => Err(CliError::usage(format!("there is no deployment {prefix}…"))
                .hint("`slipway deployments list` shows the latest")),
            many => Err(CliError::usage(format!("{} or more deployments begin with {prefix}", many.len()))
                .details(many.iter().map(ToString::to_string).collect())
                .hint("give more digits")),
        }
    }

    /// The error that a person sees for a failure of the store, with what to do.
    pub(crate) fn cli_error(&self, error: &StoreError) -> CliError {
        let text = join_sources(error);
        if text.contains("relation \"") && text.contains("does not exist") {
            return CliError::new(
                CommandExit::Unavailable,
                format!("Postgres at {} has no tables of Slipway's yet", self.place),
            )
            .hint("start a worker once: it creates them");
        }
        let shown = CliError::new(CommandExit::Unavailable, format!("Postgres at {}: {text}", self.place));
        match error {
            StoreError::Unreadable { .. } => shown.hint("use the `slipway` of the workers' version"),
            _ => shown
                .hint("check that Postgres runs, that SLIPWAY_DATABASE_URL is right and that this machine may connect"),
        }
    }
}
