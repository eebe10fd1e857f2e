//! Files that the scripts write, and settings of git's that they find, in a real shell.
#![expect(clippy::expect_used, reason = "tests")]

use std::fs;

use super::tests::{script, shell};

#[test]
fn a_file_has_the_mode_that_was_asked_for_whatever_was_left_in_its_place() {
    let place = tempfile::tempdir().expect("a folder");
    let text = format!(
        "cd {}; umask 022; mkdir .slipway; echo theirs >theirs\n\
         for left in : 'touch .slipway/put' 'install -m 777 /dev/null .slipway/put' 'ln -s ../theirs .slipway/put'; do\n\
         eval \"$left\"; put .env 600 printf '%s\\n' a; echo b | put infra 644; echo Ywo= | put ci 700 base64 -d\n\
         stat -c '%a' .env infra ci; cat .env infra ci; ls .slipway\ndone; cat theirs\n\
         if put .env 600 false; then echo written; fi; cat .env; ls .slipway",
        place.path().display()
    );
    let each = "600\n644\n700\na\nb\nc\n".repeat(4);
    assert_eq!(
        shell(&[], &format!("root=/x slug=x\n{}\n{text}", script("project_files.sh"))),
        format!("{each}theirs\na\n")
    );
}

#[test]
fn git_is_asked_for_settings_that_a_clone_may_not_have_itself() {
    let place = tempfile::tempdir().expect("a folder");
    fs::create_dir(place.path().join(".git")).expect("a folder");
    let plain = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\
                 [remote \"origin\"]\n\turl = https://github.com/acme/kiosk.git\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n";
    let asked = |config: &str| {
        fs::write(place.path().join(".git/config"), config).expect("a file");
        let text = format!("cd {}; git() {{ echo asked >&3; }}; disarm_git 3>&1", place.path().display());
        shell(&["git.sh"], &text) == "asked\n"
    };
    assert!(!asked(plain) && !asked(""));
    for other in [
        "[filter \"x\"]\n\tsmudge = rm\n",
        "[include]\n\tpath = x\n",
        "\tfsmonitor = x\n",
        "\tbare = false\\\n",
        "\turl = ext::sh -c x\n",
        "\turl = https://x \\\n",
        "\thooksPath = x",
    ] {
        assert!(asked(&format!("{plain}{other}")), "{other}");
    }
}
