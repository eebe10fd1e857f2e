//! Helpers of the tests: the binary, in an environment of its own, and what it said as one text.

use assert_cmd::Command;

/// The binary, without any setting of the machine it's tested on.
pub fn slipway() -> Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("slipway");
    command.env_clear().env("NO_COLOR", "1");
    command
}

/// Exit code, stdout and stderr.
pub fn transcript(command: &mut Command) -> String {
    let output = command.output().expect("the binary runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    format!(
        "exit: {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().map_or("none".to_owned(), |c| c.to_string()),
        text(&output.stdout),
        text(&output.stderr)
    )
}

/// The protocol's sample request.
pub fn sample() -> Vec<u8> {
    std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/samples/project-ready.v1.json"))
        .expect("the sample")
}
