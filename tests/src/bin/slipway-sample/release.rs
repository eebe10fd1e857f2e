//! Who answers.

use std::{env, fs};

/// The commit that the image was built from.
pub fn commit() -> String {
    env::var("SAMPLE_COMMIT").unwrap_or_else(|_| "unknown".to_owned())
}

/// The container's own name: another one in each, also of the same commit.
pub fn container() -> String {
    fs::read_to_string("/etc/hostname").unwrap_or_default().trim_end().to_owned()
}
