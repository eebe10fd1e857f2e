//! GitHub's runner, as far as the projects' own workflows need it: reads a workflow of a sample, fills in what stands in
//! `${{ … }}`, and plays one job of it step by step with the secrets that GitHub holds. Scripts run in bash, connections
//! are made by OpenSSH. What only builds images isn't played: a world publishes them by itself.

mod expression;
mod runner;
mod steps;

pub use runner::{JobRun, WorkflowRunner};
