//! GitHub's runner, as far as the projects' own workflows need it: reads the workflows of a sample, fills in what stands in
//! `${{ … }}`, and plays what a push starts, or a start by hand, job by job with the secrets that GitHub holds. Scripts run
//! in bash, connections are made by OpenSSH. Actions have stand-ins; what is built are the images of these tests.

mod actions;
mod expression;
mod job;
mod machine;
mod runner;
mod steps;

pub use expression::JobOutcome;
pub use job::JobRun;
pub use runner::{WorkflowRun, WorkflowRunner};
