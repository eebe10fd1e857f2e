//! Which variables a service gets and doesn't get beside what the project's own compose files say. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use super::compose::ServiceVariables;
use super::env::contract::declaration::ValueSource;
use super::env::contract::merged::EnvContract;
use super::env::dotenv;
use super::env::notes::EnvNotes;
use super::env::variables::{EnvPlan, Origin};
use super::model::ComposeProject;

/// The variables of each service: what is withheld from it, and what it needs although it doesn't read `.env`. `images`
/// are those of the release, by variable.
#[must_use]
pub fn service_variables(
    project: &ComposeProject,
    contract: &EnvContract,
    plan: &EnvPlan,
    images: &BTreeMap<String, String>,
) -> ServiceVariables {
    let mut found = ServiceVariables::new();
    withhold_secrets(project, contract, plan, &mut found);
    for service in project.services() {
        let own = project.runs_release(service);
        let only_prod = project.service_reads_env_prod(service) && !project.service_reads_env(service);
        // Slipway's quotes are for compose; where it's read once more, compose takes them away.
        if (own && only_prod) || project.service_reads_env_raw(service) {
            found.entry(service.to_owned()).or_default().reads_env = true;
        }
        if only_prod && !own {
            give_its_own(service, project, contract, plan, images, &mut found);
        } else if !own && project.service_reads_env(service) {
            // They change with each release, and would have it made anew.
            for name in images.keys().filter(|name| !project.service_sets(service, name)) {
                found.entry(service.to_owned()).or_default().variables.insert(name.clone(), String::new());
            }
        }
    }
    found
}

/// What users have given is empty for those that don't consume it. Only for services that the contract knows: one that
/// the project has added to its compose files alone is named by no contract, and gets what it always got. What the
/// compose files themselves set for a service stays.
fn withhold_secrets(project: &ComposeProject, contract: &EnvContract, plan: &EnvPlan, found: &mut ServiceVariables) {
    let secrets = contract.in_production().filter(|(_, d, _)| d.source == ValueSource::UserSecret);
    for (name, declaration, _) in secrets.filter(|(name, ..)| plan.get(name).is_some()) {
        for service in project.services().filter(|s| contract.knows(s) && project.service_reads_env(s)) {
            let consumes = declaration.consumers.iter().any(|c| c == service);
            if !consumes && !project.service_sets(service, name) {
                found.entry(service.to_owned()).or_default().variables.insert(name.to_owned(), String::new());
            }
        }
    }
}

/// A database or cache that reads `.env.prod` alone: from `.env` it gets what is named after it or after its image, and
/// what the contract says that it consumes. By interpolation, so that `.env` stays the one place for values.
fn give_its_own(
    service: &str,
    project: &ComposeProject,
    contract: &EnvContract,
    plan: &EnvPlan,
    images: &BTreeMap<String, String>,
    found: &mut ServiceVariables,
) {
    let image = project.image(service).rsplit('/').next().unwrap_or_default();
    let image = image.split([':', '@']).next().unwrap_or_default();
    let prefixes = [service, image].map(|name| format!("{}_", name.to_ascii_uppercase().replace(['-', '.'], "_")));
    for name in plan.values().keys() {
        let consumers = contract.declared(name).map(|d| (d.consumers.iter().any(|c| c == service), d.is_secret()));
        let its_own = match consumers {
            Some((true, _)) => true,
            Some((false, true)) => false,
            _ => prefixes.iter().any(|prefix| name.starts_with(prefix)) && !images.contains_key(name),
        };
        if its_own && !project.service_sets(service, name) {
            let reference = format!("${{{name}}}");
            found.entry(service.to_owned()).or_default().variables.insert(name.clone(), reference);
        }
    }
}

/// The text of `.env.prod`: of what is in it now, what somebody has put there by hand and nothing else decides. All else
/// is in `.env`, which the project's own services read too, and doesn't reach databases. What a request covers for now is
/// noted; the note stays as long as the name is a secret's: by it, what was there before is told from a secret.
#[must_use]
pub fn render_env_prod(now: &str, plan: &EnvPlan, sealed: &BTreeSet<String>) -> String {
    let EnvNotes { covered: before, mut covered_expressions, .. } = EnvNotes::read(now);
    covered_expressions.extend(dotenv::expressions(now));
    let mut by_hand = before.clone();
    by_hand.extend(dotenv::parse(now));
    by_hand.retain(|name, _| !name.ends_with("_IMAGE"));
    let (mut kept, mut covered) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in by_hand {
        match plan.get(&name) {
            Some((value, Origin::Kept)) if !sealed.contains(&name) => {
                kept.insert(name, value.to_owned());
            }
            Some((value, Origin::Kept)) if before.get(&name).is_some_and(|before| before == value) => {
                kept.insert(name.clone(), value.to_owned());
                covered.insert(name, value.to_owned());
            }
            Some((_, Origin::Given | Origin::Sealed)) => {
                covered.insert(name, value);
            }
            _ => {}
        }
    }
    if covered.is_empty() {
        dotenv::render_with(&kept, plan.expressions())
    } else {
        let expressions = plan.expressions().clone();
        EnvNotes { covered, covered_expressions, expressions, ..EnvNotes::default() }.render_with(&kept)
    }
}
