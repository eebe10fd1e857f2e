//! What follows from the contract for the variables of `.env`: ports, literals and generated secrets, and whether
//! anything that it requires is missing. No I/O.

use slipway_protocol::ErrorCode;

use super::declaration::{Declaration, ValueSource};
use crate::StageError;
use crate::project::env::variables::{EnvInputs, EnvPlan, Origin, generate_secret, missing_secret};

/// It would move the listener in the container, while compose still maps the port that it knows. Never written.
pub(in crate::project::env) const LISTENER: &str = "PORT";

/// Ports of allocations, and literals: of those that are on the server already, the ones that nobody has changed since
/// Slipway wrote them. What was by hand before there was a literal stays somebody's, also where both say the same.
pub(in crate::project::env) fn set_declared(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) {
    for (name, declaration, _) in inputs.contract.in_production().filter(|(name, ..)| *name != LISTENER) {
        if let ValueSource::Allocation(named) = &declaration.source {
            let mut allocations = inputs.request.allocations.iter();
            let found = allocations.find(|a| named.iter().any(|n| n == a.service.as_str()));
            if let Some(port) = found.and_then(|allocation| allocation.host_port) {
                plan.set(name, port.to_string(), Origin::Allocation);
            }
        }
        let Some(literal) = declaration.literal() else { continue };
        let own = inputs.kept.own.get(name);
        let unknown = inputs.kept.notes.of_unknown_origin;
        if own.is_none_or(|kept| inputs.kept.is_literal(name, kept) || (unknown && *kept == literal)) {
            plan.set(name, literal, Origin::Literal);
        }
    }
}

/// Whether a literal of an earlier commit is all that a variable on the server is: it goes with its declaration. What a
/// database was made with stays with the database.
pub(in crate::project::env) fn is_outdated(inputs: &EnvInputs<'_>, name: &str, kept: &str) -> bool {
    let literal = inputs.contract.declared(name).and_then(Declaration::literal).is_some();
    let database = inputs.database_exists && name.starts_with("POSTGRES_");
    !literal && !database && inputs.kept.is_literal(name, kept)
}

/// Draws what the contract wants generated and nobody has yet. A database's password is the database's affair.
pub(in crate::project::env) fn set_generated(inputs: &EnvInputs<'_>, plan: &mut EnvPlan) -> Result<(), StageError> {
    for (name, declaration, _) in inputs.contract.in_production() {
        let drawn = declaration.source == ValueSource::GeneratedSecret && name != LISTENER;
        if drawn && plan.value(name).is_none() && !(inputs.database_exists && name == "POSTGRES_PASSWORD") {
            plan.set(name, generate_secret()?, Origin::Generated);
        }
    }
    Ok(())
}

/// Refuses a plan without what the contract requires.
pub(in crate::project::env) fn check_declared(inputs: &EnvInputs<'_>, plan: &EnvPlan) -> Result<(), StageError> {
    let required = inputs.contract.in_production().filter(|(name, d, _)| d.required && *name != LISTENER);
    for (name, declaration, file) in required {
        if matches!(declaration.source, ValueSource::Literal(_)) || plan.value(name).is_some_and(|v| !v.is_empty()) {
            continue;
        }
        let why = match declaration.source {
            ValueSource::UserSecret => {
                let mut error = missing_secret(name, &format!("{file} requires it"));
                error.detail.secret_description.clone_from(&declaration.description);
                return Err(error);
            }
            ValueSource::GeneratedSecret => {
                let why = format!("{file} requires it, the database exists already, and its password isn't in .env");
                return Err(missing_secret(name, &why));
            }
            ValueSource::Allocation(_) => "the event allocates no port to the service or resource that it names",
            ValueSource::Derived | ValueSource::Literal(_) => "Slipway can't derive it from the event or the project",
        };
        let message = format!("{file} requires the variable {name}, and {why}");
        return Err(StageError::new(ErrorCode::VariableUnresolved, message));
    }
    Ok(())
}
