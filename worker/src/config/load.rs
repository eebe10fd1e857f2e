//! Reads the environment into a [`Config`]. What the variables of one section mean together is decided in `sections`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use slipway_deploy::FrontDoor;

use super::front_door::front_door;
use super::placement::placement;
use super::reader::{ConfigMistakes, VariableReader};
use super::variables as var;
use super::{AdminConfig, BrokerConfig, Config, sections};
use crate::scheduler::PlacementLimits;

/// The settings of front doors alone, out of the environment of this process, for whoever needs no others.
///
/// # Errors
/// Every mistake in them, without any value that may be a secret.
pub fn front_door_from_env() -> Result<FrontDoor, ConfigMistakes> {
    alone_from_env(front_door)
}

/// The settings of placement alone, out of the environment of this process.
///
/// # Errors
/// Every mistake in them.
pub fn placement_from_env() -> Result<PlacementLimits, ConfigMistakes> {
    alone_from_env(placement)
}

/// Some settings out of the environment of this process.
fn alone_from_env<T>(read: impl FnOnce(&mut VariableReader) -> Option<T>) -> Result<T, ConfigMistakes> {
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let mut reader = VariableReader::new(variables.collect());
    let settings = read(&mut reader);
    let mistakes = reader.mistakes();
    settings.filter(|_| mistakes.0.is_empty()).ok_or(mistakes)
}

impl Config {
    /// Reads the environment of this process and the files that it names.
    ///
    /// # Errors
    /// Every mistake, without any value that may be a secret.
    pub fn from_env() -> Result<Self, ConfigMistakes> {
        // A name that isn't UTF-8 is none of ours.
        Self::from_map(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value))))
    }

    /// As [`Config::from_env`], from the given variables.
    ///
    /// # Errors
    /// Every mistake, without any value that may be a secret.
    pub fn from_map<K: Into<String>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigMistakes> {
        let variables: BTreeMap<_, _> = variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        let mut reader = VariableReader::new(variables);
        let worker = sections::worker(&mut reader);
        let broker = reader.take(&var::AMQP_URL).map(|url| BrokerConfig { url });
        let database = sections::database(&mut reader);
        let admin = reader.take(&var::ADMIN_ADDR).map(|address| AdminConfig { address });
        let servers = sections::servers(&mut reader);
        let secrets = sections::secrets(&mut reader);
        let deployer = sections::deployer(&mut reader);
        let registry = sections::registry(&mut reader);
        let pushes = sections::pushes(&mut reader);
        let telemetry = sections::telemetry(&mut reader, worker.as_ref());
        let retention = sections::retention(&mut reader, worker.as_ref());
        let warnings = std::mem::take(&mut reader.warnings);
        let mistakes = reader.mistakes();
        let parts = (worker, broker, database, admin, servers, secrets, deployer, pushes, retention, telemetry);
        match parts {
            (
                Some(worker),
                Some(broker),
                Some(database),
                Some(admin),
                Some(servers),
                Some(secrets),
                Some(deployer),
                Some(pushes),
                Some(retention),
                Some(telemetry),
            ) if mistakes.0.is_empty() => Ok(Self {
                worker,
                broker,
                database,
                admin,
                servers,
                secrets,
                deployer,
                registry,
                pushes,
                retention,
                telemetry,
                warnings,
            }),
            _ => Err(mistakes),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_default_passes_the_parser_of_its_own_variable() {
        assert_eq!(crate::config::variables::refused_defaults(), Vec::<&str>::new());
    }
}
