//! Private keys, tried when a worker starts.

use std::path::PathBuf;

use super::Fixture;

#[test]
fn a_private_key_that_no_login_could_use_is_a_mistake_with_its_reason() {
    let made = |arguments: &[&str], content: &str| {
        let mut fixture = Fixture::new();
        let key = fixture.folder.path().join("made");
        let made = std::process::Command::new("ssh-keygen").args(arguments).arg("-qf").arg(&key).status().unwrap();
        assert!(made.success());
        let pem = std::fs::read_to_string(&key).unwrap();
        let file = fixture.file("spoilt", &content.replace("KEY", &pem).replace("HALF", &pem[..pem.len() / 2]));
        fixture.set("SLIPWAY_SSH_KEY_FILE", file.to_str().unwrap());
        fixture
    };
    let ed25519 = ["-t", "ed25519", "-N", ""];
    made(&ed25519, "\u{feff}KEY").config();
    for (arguments, content, why) in [
        (["-t", "ed25519", "-N", "a passphrase"], "KEY", "is protected by a passphrase"),
        (ed25519, "HALF", "not a whole one"),
    ] {
        let mistakes = made(&arguments, content).mistakes();
        assert!(mistakes.len() == 1 && mistakes[0].contains(why), "{mistakes:?}");
    }

    let app = |content: &str| {
        let mut fixture = made(&["-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""], content);
        let file = fixture.variables["SLIPWAY_SSH_KEY_FILE"].clone();
        fixture.set("SLIPWAY_GITHUB_APP_KEY_FILE", &file);
        fixture.set("SLIPWAY_GITHUB_APP_ID", "1");
        fixture.variables.remove("SLIPWAY_GITHUB_TOKEN_FILE");
        let pem = std::fs::read_to_string(&file).unwrap();
        (fixture, PathBuf::from(file), pem)
    };
    let (fixture, file, pem) = app("KEY");
    fixture.config();
    for (content, why) in
        [(pem.replace('\n', "\\n"), "has `\\n` where lines must end"), (pem[..600].to_owned(), "not a whole one")]
    {
        std::fs::write(&file, content).unwrap();
        let mistakes = fixture.mistakes().join(" ");
        assert!(mistakes.contains(why), "{mistakes}");
    }
}
