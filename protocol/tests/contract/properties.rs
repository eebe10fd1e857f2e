//! Properties that hold for any input.

use proptest::prelude::*;
use slipway_protocol::names::{BranchName, Host, RepositoryName, Slug, VariableName};
use slipway_protocol::{Metadata, decode, read};

use super::commands::COMMANDS;
use super::sample_bytes;

/// The frozen sample of that name with another byte somewhere.
fn mutated(name: &str, at: usize, byte: u8) -> Vec<u8> {
    let mut body = sample_bytes(name);
    let at = at % body.len();
    body[at] = byte;
    body
}

proptest! {
    #[test]
    fn decoding_never_panics(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&body, &Metadata::default());
    }

    #[test]
    fn a_mutated_sample_never_panics(at in 0usize..1500, byte in any::<u8>()) {
        let _ = decode(&mutated("project-ready", at, byte), &Metadata::default());
    }

    #[test]
    fn a_mutated_command_never_panics_and_always_says_why(
        name in prop::sample::select(&COMMANDS[..]), at in 0usize..1000, byte in any::<u8>()
    ) {
        if let Err(rejection) = read(&mutated(name, at, byte), &Metadata::default()) {
            prop_assert!(!rejection.message.is_empty());
        }
    }

    #[test]
    fn no_name_carries_what_a_shell_or_a_path_would_act_on(text in "[A-Za-z0-9./_-]{0,8}[ -~]{1,2}[A-Za-z0-9./_-]{0,8}") {
        let names = [
            Slug::new(text.clone()).map(String::from),
            RepositoryName::new(text.clone()).map(String::from),
            BranchName::new(text.clone()).map(String::from),
            Host::new(text.clone()).map(String::from),
            VariableName::new(text).map(String::from),
        ];
        for name in names.into_iter().flatten() {
            prop_assert!(!name.contains(|c| r#" $`;&|<>()'"\*?~#"#.contains(c)), "{name}");
            // `a/b..` is a repository like any other.
            prop_assert!(name.split('/').all(|part| !matches!(part, "." | "..")), "{name}");
            prop_assert!(!name.starts_with('-'));
        }
    }
}
