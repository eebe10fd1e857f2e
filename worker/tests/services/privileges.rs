//! What `ops/privileges.md` says, and RabbitMQ's users that it describes.

use secrecy::{ExposeSecret as _, SecretString};

fn document() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops/privileges.md");
    std::fs::read_to_string(path).unwrap()
}

/// The rows of the table below a heading, without its first two lines.
pub(super) fn rows(heading: &str) -> Vec<Vec<String>> {
    let document = document();
    let section = document.split_once(&format!("## {heading}\n")).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    // A bar within a cell is escaped.
    let cell = |text: &str| text.trim().replace('\u{1}', "|").trim_matches('`').to_owned();
    let row = |line: &str| line.replace("\\|", "\u{1}").trim_matches('|').split('|').map(cell).collect();
    section.lines().filter(|line| line.starts_with('|')).skip(2).map(row).collect()
}

/// RabbitMQ's users of the roles: name, and what it may configure, write and read.
pub fn broker_roles() -> Vec<[String; 4]> {
    rows("RabbitMQ").into_iter().map(|row| row.try_into().unwrap()).collect()
}

/// The URL of a broker for a role.
pub fn broker_url(url: &SecretString, role: &str) -> SecretString {
    url.expose_secret().replace("slipway:slipway@", &format!("{role}:slipway@")).into()
}
