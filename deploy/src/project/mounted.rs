//! What of the server a project's containers have mounted: files of the commit, and a database's data. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};

use super::model::{ComposeProject, ComposeService, Reference, Resource};

/// Where a database of the project's would have its data.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct DatabasePlaces {
    /// Volumes, by Docker's names for them.
    pub volumes: BTreeSet<String>,
    /// Directories on the server.
    pub directories: BTreeSet<String>,
}

impl ComposeProject {
    /// A digest of the files of the commit that the service mounts, where it mounts any: git puts new ones in their place,
    /// and a container goes on with the old ones until it's made anew.
    pub(super) fn mounted_files(&self, service: &ComposeService) -> Option<String> {
        let of = |section: &BTreeMap<String, Resource>, references: &Option<Vec<Reference>>| -> Vec<String> {
            let entries = references.iter().flatten().filter_map(|reference| section.get(&reference.source));
            entries.filter_map(|entry| entry.file.clone()).collect()
        };
        let files: BTreeSet<String> = [
            service.singular.bound().map(str::to_owned).collect(),
            of(&self.configs, &service.configs),
            of(&self.secrets, &service.secrets),
        ]
        .concat()
        .into_iter()
        .collect();
        let named: Vec<String> =
            files.iter().filter_map(|path| Some(format!("{path} {}\n", self.mounted.get(path)?))).collect();
        let digest = digest(&SHA256, named.concat().as_bytes());
        (!named.is_empty()).then(|| HEXLOWER.encode(&digest.as_ref()[..8]))
    }

    /// Where the data are of `db`, and of whatever else looks like a Postgres.
    pub(crate) fn database_places(&self) -> DatabasePlaces {
        let mut places = DatabasePlaces::default();
        for (name, service) in &self.services {
            for (kind, source, target) in service.singular.mounts() {
                if name != "db" && !target.contains("postgres") {
                    continue;
                }
                if kind == "bind" {
                    places.directories.insert(source.to_owned());
                } else if let Some(name) = self.volumes.get(source).and_then(|volume| volume.name.clone()) {
                    places.volumes.insert(name);
                }
            }
        }
        places
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const PROJECT: &str = r#"{"services": {
        "proxy": {"image": "nginx", "volumes": [{"type": "bind", "source": "/p/nginx.conf", "target": "/n"}]},
        "named": {"image": "x", "configs": [{"source": "c"}], "secrets": [{"source": "s"}]},
        "data": {"image": "x", "volumes": [{"type": "bind", "source": "/p/data", "target": "/d"}]},
        "db": {"image": "postgres", "volumes": [{"type": "volume", "source": "pg", "target": "/var/lib/postgresql/data"},
            {"type": "volume", "target": "/anonymous"}]},
        "other": {"image": "x", "volumes": [{"type": "bind", "source": "/p/pg", "target": "/bitnami/postgresql"},
            {"type": "volume", "source": "pg", "target": "/x"}]}},
        "volumes": {"pg": {"name": "shared", "external": true}},
        "configs": {"c": {"name": "p_c", "file": "/p/c.conf"}}, "secrets": {"s": {"file": "/p/s.txt"}}}"#;

    fn digests(mounted: &[(&str, &str)]) -> Vec<Option<String>> {
        let mounted = mounted.iter().map(|(path, object)| ((*path).to_owned(), (*object).to_owned()));
        let project = ComposeProject::parse(PROJECT.as_bytes()).unwrap().with_mounted(mounted.collect());
        ["proxy", "named", "data"].map(|name| project.mounted_files(&project.services[name])).into()
    }

    #[test]
    fn a_file_of_the_commit_that_is_mounted_makes_its_containers_anew_when_it_changes() {
        let first = digests(&[("/p/nginx.conf", "1"), ("/p/c.conf", "1"), ("/p/s.txt", "1")]);
        assert!(first[0].is_some() && first[1].is_some() && first[2].is_none(), "{first:?}");
        assert_eq!(first, digests(&[("/p/nginx.conf", "1"), ("/p/c.conf", "1"), ("/p/s.txt", "1"), ("/p/more", "1")]));
        let other_file = digests(&[("/p/nginx.conf", "2"), ("/p/c.conf", "1"), ("/p/s.txt", "1")]);
        assert!(first[0] != other_file[0] && first[1] == other_file[1]);
        let other_secret = digests(&[("/p/nginx.conf", "1"), ("/p/c.conf", "1"), ("/p/s.txt", "2")]);
        assert!(first[0] == other_secret[0] && first[1] != other_secret[1]);
        assert_eq!(digests(&[]), [None, None, None], "what isn't of a commit is the server's own");
    }

    #[test]
    fn a_databases_data_are_found_by_whatever_name_they_have() {
        let places = ComposeProject::parse(PROJECT.as_bytes()).unwrap().database_places();
        assert_eq!(
            places,
            DatabasePlaces { volumes: ["shared".to_owned()].into(), directories: ["/p/pg".to_owned()].into() }
        );
    }
}
