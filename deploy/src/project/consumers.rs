//! Which variables of `.env` a service doesn't get although it reads that file. No I/O.

use super::compose::{ComposeProject, ServiceVariables};
use super::env::contract::declaration::ValueSource;
use super::env::contract::merged::EnvContract;
use super::env::variables::EnvPlan;

/// What users have given is empty for those that don't consume it. Only for services that the contract knows: one that
/// the project has added to its compose files alone is named by no contract, and gets what it always got. What the
/// compose files themselves set for a service stays.
#[must_use]
pub fn withheld(project: &ComposeProject, contract: &EnvContract, plan: &EnvPlan) -> ServiceVariables {
    let mut withheld = ServiceVariables::new();
    let secrets = contract.in_production().filter(|(_, d, _)| d.source == ValueSource::UserSecret);
    for (name, declaration, _) in secrets.filter(|(name, ..)| plan.get(name).is_some()) {
        for service in project.services().filter(|s| contract.knows(s) && project.service_reads(s, ".env")) {
            let consumes = declaration.consumers.iter().any(|c| c == service);
            if !consumes && !project.service_sets(service, name) {
                withheld.entry(service.to_owned()).or_default().insert(name.to_owned(), String::new());
            }
        }
    }
    withheld
}
