//! Secret values: opening and sealing them, SSH keys, reading files that hold keys, and keeping known values out of
//! every text. Which secrets a project gets at GitHub is decided in `stages::secrets`.

pub mod bound;
pub(crate) mod hidden_names;
pub mod keys;
pub mod mounted;
pub mod open;
pub mod private_file;
pub mod redact;
pub mod seal;
pub mod source;
