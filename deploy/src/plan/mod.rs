//! The plan of a deployment: what would change on the server. Docker's daemon is never asked to change anything: nothing
//! is started, stopped, pulled, removed or opened, also when a stage fails; and GitHub is only asked for the code.

mod deployment_plan;
mod rehearsal;
mod replacement;
mod rules;
mod services;

pub use deployment_plan::{
    ContainerAction, DeploymentPlan, PlannedReplacement, ServiceBounds, ServicePlan, VariableChange, VariableDifference,
};
