//! Rules about requests that no single field can check, each by itself: a request to deploy keeps all of them, each of its
//! halves those about what it tells.

use std::collections::{BTreeMap, BTreeSet};

use crate::allocation::{Allocation, HealthCheck};
use crate::names::{ServiceName, VariableName};
use crate::secret::SecretSource;

/// The JSON pointer of the offending field, and the rule that it breaks.
pub(crate) type BrokenRule = (String, String);

pub(crate) fn broken(pointer: &str, rule: &str) -> Result<(), BrokenRule> {
    Err((pointer.to_owned(), rule.to_owned()))
}

pub(crate) fn modules(modules: &BTreeSet<ServiceName>) -> Result<(), BrokenRule> {
    if modules.is_empty() || modules.len() > 32 {
        return broken("/data/modules", "must name 1 to 32 services");
    }
    Ok(())
}

/// The JSON pointer of the first allocation without a port.
pub(crate) fn missing_port(allocations: &[Allocation]) -> Option<String> {
    let missing = allocations.iter().position(|allocation| allocation.host_port.is_none())?;
    Some(format!("/data/allocations/{missing}/host_port"))
}

/// `is_served` says whether the front door may serve an allocation's service.
pub(crate) fn allocations(
    allocations: &[Allocation],
    is_served: impl Fn(&Allocation) -> bool,
) -> Result<(), BrokenRule> {
    if allocations.is_empty() || allocations.len() > 32 {
        return broken("/data/allocations", "must hold 1 to 32 entries");
    }
    let mut services = BTreeSet::new();
    let (mut ports, mut domains) = (BTreeSet::new(), BTreeSet::new());
    for (i, a) in allocations.iter().enumerate() {
        if !services.insert(&a.service) {
            return broken(&format!("/data/allocations/{i}/service"), "must not name a service twice");
        }
        if !a.host_port.is_none_or(|port| ports.insert(port)) {
            return broken(&format!("/data/allocations/{i}/host_port"), "must not give one port to two services");
        }
        if let Some((field, rule)) = a.health.as_ref().and_then(HealthCheck::defect) {
            return broken(&format!("/data/allocations/{i}/health/{field}"), rule);
        }
        if a.domains.len() > 16 {
            return broken(&format!("/data/allocations/{i}/domains"), "must hold at most 16 domains");
        }
        if !a.domains.is_empty() && !is_served(a) {
            return broken(
                &format!("/data/allocations/{i}/domains"),
                "must be left out where the service is no module, or neither backend nor frontend and without `health`",
            );
        }
        if let Some(twice) = a.domains.iter().position(|domain| !domains.insert(domain)) {
            return broken(&format!("/data/allocations/{i}/domains/{twice}"), "must not name a domain twice");
        }
    }
    Ok(())
}

pub(crate) fn environment(
    variables: &BTreeMap<VariableName, String>,
    secrets: &BTreeMap<VariableName, SecretSource>,
) -> Result<(), BrokenRule> {
    if let Some(name) = secrets.keys().find(|n| variables.contains_key(*n)) {
        return broken(&format!("/data/variables/{name}"), "must not be a variable and a secret at once");
    }
    if variables.len() > 500 || secrets.len() > 100 {
        return broken("/data/variables", "must not hold more than 500 variables and 100 secrets");
    }
    for (name, value) in variables {
        if value.len() > 32 * 1024 || value.contains('\0') {
            return broken(&format!("/data/variables/{name}"), "must be at most 32 KiB without NUL");
        }
    }
    Ok(())
}

pub(crate) fn sequence(sequence: Option<u64>) -> Result<(), BrokenRule> {
    if sequence.is_some_and(|s| s > 9_007_199_254_740_991) {
        return broken("/data/sequence", "must be at most 2^53 - 1, so that every JSON reader agrees on it");
    }
    Ok(())
}
