//! Properties that hold for any input.

use proptest::prelude::*;
use slipway_protocol::names::{BranchName, Host, RepositoryName, Slug, VariableName};
use slipway_protocol::{Metadata, decode, read};

proptest! {
    #[test]
    fn decoding_never_panics_and_never_repeats_a_secret(body in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decode(&body, &Metadata::default());
    }

    #[test]
    fn a_mutated_sample_never_panics(at in 0usize..1500, byte in any::<u8>()) {
        let mut body = include_bytes!("../samples/project-ready.v1.json").to_vec();
        let at = at % body.len();
        body[at] = byte;
        let _ = decode(&body, &Metadata::default());
    }

    #[test]
    fn a_mutated_command_never_panics_and_always_says_why(
        name in prop::sample::select(vec!["stop", "start", "rollback", "undeploy"]), at in 0usize..1000, byte in any::<u8>()
    ) {
        let path = format!("{}/samples/project-{name}.v1.json", env!("CARGO_MANIFEST_DIR"));
        let mut body = std::fs::read(path).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let at = at % body.len();
        body[at] = byte;
        if let Err(rejection) = read(&body, &Metadata::default()) {
            prop_assert!(!rejection.message.is_empty());
        }
    }

    #[test]
    fn no_name_carries_what_a_shell_or_a_path_would_act_on(text in "[ -~]{1,60}") {
        let names = [
            Slug::new(text.clone()).map(String::from),
            RepositoryName::new(text.clone()).map(String::from),
            BranchName::new(text.clone()).map(String::from),
            Host::new(text.clone()).map(String::from),
            VariableName::new(text).map(String::from),
        ];
        for name in names.into_iter().flatten() {
            prop_assert!(!name.contains([' ', '$', '`', ';', '&', '|', '<', '>', '(', ')', '\'', '"', '\\', '*', '?', '~', '#']));
            prop_assert!(!name.contains("..") || !name.contains('/') , "{name}");
            prop_assert!(!name.starts_with('-'));
        }
    }
}
