//! The project itself, apart from any server: its compose files, its environment and its images. How the files get onto
//! a server is decided in `stages`.

pub(crate) mod behind_door;
pub(crate) mod compose;
#[cfg(test)]
pub(crate) mod compose_program;
pub(crate) mod compose_versions;
pub(crate) mod consumers;
#[cfg(test)]
mod corpus;
pub(crate) mod env;
#[cfg(test)]
mod fuzzed_models;
pub(crate) mod grants;
pub(crate) mod health_check;
pub(crate) mod image_reference;
pub(crate) mod image_tag;
pub(crate) mod labels;
pub(crate) mod limits;
pub(crate) mod model;
pub(crate) mod mounted;
#[cfg(test)]
mod real_compose;
pub(crate) mod registry;
mod startup;
pub(crate) mod workflows;
