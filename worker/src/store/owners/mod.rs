//! Whose a slug on a server is, whose CI secrets a repository holds, and whose a domain is: one project's each, until an operator hands it
//! over. The server has a record of its own of its slugs; see `deploy/src/scripts/project_files.sh`.

pub(super) mod claim;
pub(super) mod domains;
pub(super) mod hand_over;
pub(super) mod list;
pub(super) mod release;
