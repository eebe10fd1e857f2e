//! The variables that are on the server already, and whose they are: what an operator wrote and what Slipway drew stays,
//! what an earlier request gave stays only with a request that gives it again. No I/O.

use std::collections::BTreeMap;

use super::dotenv::{expressions, parse};
use super::notes::{EnvNotes, digest_of};
use crate::EarlierRequests;

/// What Postgres takes on an empty volume only.
pub(super) const OF_DATABASE: [&str; 3] = ["POSTGRES_DB", "POSTGRES_PASSWORD", "POSTGRES_USER"];
/// What Slipway draws without being asked.
const DRAWN: [&str; 2] = ["APP_SECRET_KEY", "POSTGRES_PASSWORD"];

/// The variables on the server.
#[derive(Debug, Default)]
pub struct KeptVariables {
    /// All of them, as they are.
    pub values: BTreeMap<String, String>,
    /// What stays where nothing else decides.
    pub own: BTreeMap<String, String>,
    /// What a given value covers from now on, so that it comes back with the first request that leaves it out.
    pub to_cover: BTreeMap<String, String>,
    /// What a request gave and the database was made with: only another value covers it.
    pub of_database: BTreeMap<String, String>,
    pub notes: EnvNotes,
}

impl KeptVariables {
    /// Of the texts of `.env`, and of `.env.prod` and `.env` beside the compose files where somebody has put such. Where
    /// `.env` doesn't tell what requests gave, `earlier` ones do. Names that begin with `own_images` are of the project's
    /// images: CI's job moves these on from what was given, and changes no note.
    #[must_use]
    pub fn read(
        env: &str,
        env_prod: &str,
        env_infra: &str,
        database_exists: bool,
        earlier: &EarlierRequests,
        own_images: &str,
    ) -> Self {
        let mut beside = parse(env_infra);
        beside.extend(EnvNotes::read(env_prod).covered);
        beside.extend(parse(env_prod));
        let (env, mut notes) = (parse(env), EnvNotes::read(env));
        for (name, text) in expressions(env_infra).into_iter().chain(expressions(env_prod)) {
            if !env.contains_key(&name) {
                notes.expressions.insert(name, text);
            }
        }
        if notes.of_unknown_origin {
            let given = env.iter().filter(|(name, value)| earlier.gave(name, value));
            notes.given.extend(given.map(|(name, value)| (name.clone(), digest_of(value))));
        }
        for (name, image) in
            env.iter().filter(|(name, image)| name.ends_with("_IMAGE") && image.starts_with(own_images))
        {
            if let Some(given) = notes.given.get_mut(name) {
                *given = digest_of(image);
            }
        }
        Self::new(env, notes, &beside, database_exists)
    }

    /// Of the variables of `.env` and its notes, and of those in files `beside` it, which it beats.
    #[must_use]
    pub fn new(
        env: BTreeMap<String, String>,
        notes: EnvNotes,
        beside: &BTreeMap<String, String>,
        database_exists: bool,
    ) -> Self {
        let (values, own, to_cover) = (beside.clone(), beside.clone(), beside.clone());
        let mut kept = Self { values, own, to_cover, of_database: BTreeMap::new(), notes };
        for (name, value) in env {
            let before = kept.notes.covered.get(&name).cloned();
            if !kept.notes.is_given(&name, &value) {
                kept.own.insert(name.clone(), value.clone());
                if kept.is_worth_covering(&name, &value) {
                    kept.to_cover.insert(name.clone(), value.clone());
                }
            } else if let Some(before) = before {
                kept.own.insert(name.clone(), before.clone());
                kept.to_cover.insert(name.clone(), before);
            } else if database_exists && OF_DATABASE.contains(&name.as_str()) && !kept.own.contains_key(&name) {
                // It stays with the database.
                kept.own.insert(name.clone(), value.clone());
                kept.of_database.insert(name.clone(), value.clone());
            }
            kept.values.insert(name, value);
        }
        kept
    }

    /// Not what follows from the contract again. Where nobody has noted what requests gave, it may have come with one:
    /// then only what may have been drawn.
    fn is_worth_covering(&self, name: &str, value: &str) -> bool {
        let drawn = DRAWN.contains(&name) || self.notes.drawn.contains(name);
        !self.is_literal(name, value) && (drawn || !self.notes.of_unknown_origin)
    }

    /// Whether `value` is all that an earlier deployment wrote because a contract said so.
    pub(in crate::project::env) fn is_literal(&self, name: &str, value: &str) -> bool {
        self.notes.literals.get(name).is_some_and(|written| written == value)
    }

    /// How somebody has written this value of the variable, where it refers to others.
    pub(super) fn expression(&self, name: &str, value: &str) -> Option<&String> {
        let is = |values: &BTreeMap<String, String>| values.get(name).is_some_and(|known| known == value);
        let covered = || self.notes.covered_expressions.get(name).filter(|_| is(&self.notes.covered));
        self.notes.expressions.get(name).filter(|_| is(&self.values)).or_else(covered)
    }

    /// Whether an earlier request gave this variable, and it stays only if a request gives it again.
    pub(super) fn goes_unless_given(&self, name: &str) -> bool {
        self.values.contains_key(name) && !self.own.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NONE: EarlierRequests = EarlierRequests { variables: BTreeSet::new(), secrets: BTreeSet::new() };

    const OWN: &str = "ghcr.io/acme/shop-";

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// `.env` with these variables, of which a request gave some with these values, covering others.
    fn file(variables: &[(&str, &str)], given: &[(&str, &str)], covered: &[(&str, &str)]) -> String {
        let given = map(given).into_iter().map(|(name, value)| (name, digest_of(&value))).collect();
        EnvNotes { given, covered: map(covered), ..EnvNotes::default() }.render_with(&map(variables))
    }

    #[test]
    fn what_a_request_gave_stays_only_with_a_request_that_gives_it() {
        let env = file(
            &[("BY_HAND", "1"), ("GIVEN", "2"), ("CHANGED", "by hand"), ("OVER", "3"), ("POSTGRES_PASSWORD", "p")],
            &[("GIVEN", "2"), ("CHANGED", "given"), ("OVER", "3"), ("POSTGRES_PASSWORD", "p")],
            &[("OVER", "own"), ("CHANGED", "older")],
        );
        let kept = KeptVariables::read(&env, "", "", false, &NONE, OWN);
        let own = map(&[("BY_HAND", "1"), ("CHANGED", "by hand"), ("OVER", "own")]);
        assert_eq!((&kept.own, &kept.to_cover), (&own, &own));
        assert_eq!(kept.values.len(), 5);
        assert!(kept.goes_unless_given("GIVEN") && !kept.goes_unless_given("OVER"));

        let kept = KeptVariables::read(&env, "", "", true, &NONE, OWN);
        assert_eq!(kept.own.get("POSTGRES_PASSWORD").map(String::as_str), Some("p"), "the database was made with it");
        assert_eq!(kept.to_cover, own, "that a request gives it again changes nothing");
    }

    #[test]
    fn a_given_image_of_the_projects_own_goes_though_ci_has_moved_it_on() {
        let (own, other) = ("ghcr.io/acme/shop-web", "ghcr.io/acme/other-web");
        let given = [("OWN_IMAGE", own), ("OTHER_IMAGE", other), ("NAME", own)];
        let moved = format!("{own}:latest");
        let env = [("OWN_IMAGE", &*moved), ("OTHER_IMAGE", "by hand"), ("NAME", &*moved), ("BY_HAND_IMAGE", &*moved)];
        let kept = KeptVariables::read(&file(&env, &given, &[]), "", "", false, &NONE, OWN);
        assert_eq!(kept.own, map(&env[1..]));
    }

    #[test]
    fn a_file_beside_is_somebodys_own_and_brings_back_nothing_that_a_request_gave() {
        let prod =
            EnvNotes { covered: map(&[("NOTED", "own")]), ..EnvNotes::default() }.render_with(&map(&[("A", "1")]));
        let env = file(&[("A", "2"), ("B", "2"), ("NOTED", "2")], &[("A", "2"), ("B", "2"), ("NOTED", "2")], &[]);
        let kept = KeptVariables::read(&env, &prod, "C=1\nA=0\n", false, &NONE, OWN);
        assert_eq!(kept.own, map(&[("A", "1"), ("C", "1"), ("NOTED", "own")]));
        assert_eq!(kept.values["A"], "2");
    }

    #[test]
    fn in_a_file_without_notes_everything_stays_and_only_what_was_drawn_is_covered() {
        let all = map(&[("APP_SECRET_KEY", "k"), ("LIMIT", "1"), ("QUEUE_KEY", "q")]);
        let env = super::super::dotenv::render(&all) + "# generated QUEUE_KEY\n";
        let kept = KeptVariables::read(&env, "", "", false, &NONE, OWN);
        assert_eq!(kept.own, all);
        assert_eq!(kept.to_cover, map(&[("APP_SECRET_KEY", "k"), ("QUEUE_KEY", "q")]));
        assert_eq!(
            KeptVariables::read("LIMIT=1\n", "", "", false, &NONE, OWN).to_cover,
            map(&[("LIMIT", "1")]),
            "by hand"
        );
        // Unless somebody else knows what requests gave.
        let earlier = EarlierRequests {
            variables: [("LIMIT", "0"), ("LIMIT", "1"), ("APP_SECRET_KEY", "x")]
                .map(|(n, v)| (n.into(), v.into()))
                .into(),
            secrets: ["QUEUE_KEY".to_owned()].into(),
        };
        let kept = KeptVariables::read(&env, "", "", false, &earlier, OWN);
        assert_eq!(kept.own, map(&[("APP_SECRET_KEY", "k")]));
        let noted = EnvNotes::default().render_with(&all);
        assert_eq!(
            KeptVariables::read(&noted, "", "", false, &earlier, OWN).own,
            all,
            "the file itself knows it better"
        );
    }
}
