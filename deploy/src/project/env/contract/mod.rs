//! The project's own declaration of its variables: `env.contract.yaml` in `infra/` and in each service's folder. Reading
//! and merging the files, and the values that follow from them. How the files come from the server is decided in
//! `stages::env`.

pub(crate) mod declaration;
pub(crate) mod fragment;
pub(crate) mod merged;
#[cfg(test)]
mod tests;
pub(super) mod values;
