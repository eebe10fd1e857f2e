//! The contract of the whole project, merged from its files: the same variable twice only with the same declaration,
//! whoever owns the file. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::declaration::{Declaration, ValueSource};
use super::fragment::{Fragment, invalid};
use crate::StageError;

/// What the project declares about its variables; empty where it has no contract.
#[derive(Debug, Clone, Default)]
pub(crate) struct EnvContract {
    /// By variable, with the file that is named in messages.
    entries: BTreeMap<String, (Declaration, String)>,
    /// Services that have a contract of their own.
    owners: BTreeSet<String>,
}

impl EnvContract {
    /// Reads and merges files, each with its path in the repository.
    ///
    /// # Errors
    /// `env-contract-version` and `env-contract-invalid`.
    pub(crate) fn read<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, StageError> {
        let mut contract = Self::default();
        let files: BTreeMap<_, _> = files.into_iter().collect();
        for (file, yaml) in files {
            let mut folders = file.split('/');
            if folders.next() == Some("services") {
                contract.owners.extend(folders.next().map(str::to_owned));
            }
            for (name, declaration) in Fragment::read(file, yaml)?.entries {
                match contract.entries.get(&name) {
                    Some((earlier, other)) if *earlier != declaration => {
                        return Err(invalid(file, &format!("and {other} declare {name} differently")));
                    }
                    Some(_) => {}
                    None => {
                        contract.entries.insert(name, (declaration, file.to_owned()));
                    }
                }
            }
        }
        Ok(contract)
    }

    /// What counts on a server, each with its name and file.
    pub(crate) fn in_production(&self) -> impl Iterator<Item = (&str, &Declaration, &str)> {
        let all = self.entries.iter().map(|(name, (declaration, file))| (name.as_str(), declaration, file.as_str()));
        all.filter(|(_, declaration, _)| declaration.is_for_production())
    }

    /// What is declared about this variable on a server.
    pub(crate) fn declared(&self, name: &str) -> Option<&Declaration> {
        self.entries.get(name).map(|(declaration, _)| declaration).filter(|d| d.is_for_production())
    }

    /// Which of these variables are to be generated.
    pub(crate) fn drawn(&self, values: &BTreeMap<String, String>) -> BTreeSet<String> {
        let drawn = self.in_production().filter(|(_, d, _)| d.source == ValueSource::GeneratedSecret);
        drawn.map(|(name, ..)| name.to_owned()).filter(|name| values.contains_key(name)).collect()
    }

    /// The services that a contract has a word on. Others, which the project has added to compose alone, can't be
    /// consumers of anything.
    pub(crate) fn knows(&self, service: &str) -> bool {
        let consumes = |(_, d, _): (&str, &Declaration, &str)| d.consumers.iter().any(|c| c == service);
        self.owners.contains(service) || self.in_production().any(consumes)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use slipway_protocol::ErrorCode;

    fn file(entry: &str) -> String {
        format!("version: \"1\"\nowner: somebody\nentries:\n  REDIS_URL:\n    {}\n", entry.replace(", ", "\n    "))
    }

    #[test]
    fn the_same_variable_twice_is_fine_only_where_both_say_the_same() {
        let same = file("source: literal, value: redis://redis, environments: [local,production], required: true");
        let other = same.replace("required: true", "required: false");
        let read = |second: &str| {
            EnvContract::read([
                ("services/backend/env.contract.yaml", second.as_bytes()),
                ("infra/env.contract.yaml", same.as_bytes()),
            ])
        };
        let merged = read(&same.replace("somebody", "somebody else")).unwrap();
        assert_eq!(merged.declared("REDIS_URL").unwrap().literal().as_deref(), Some("redis://redis"));
        assert!(merged.knows("backend") && !merged.knows("extra"));
        let error = read(&other).err().unwrap();
        assert_eq!(error.code, ErrorCode::EnvContractInvalid);
        let told = "services/backend/env.contract.yaml and infra/env.contract.yaml declare REDIS_URL differently";
        assert_eq!(error.message, told);
    }

    #[test]
    fn what_is_not_for_production_does_not_count_on_a_server() {
        let yaml = file("source: derived, environments: [local], required: true");
        let contract = EnvContract::read([("infra/env.contract.yaml", yaml.as_bytes())]).unwrap();
        assert!(contract.declared("REDIS_URL").is_none());
        assert_eq!(contract.in_production().count(), 0);
    }
}
