//! How a script is begun on a server, whatever login shell the SSH user has there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::quote::{ShellWord, quote};

/// Becomes root where it may.
const LAUNCHER: &str = include_str!("../scripts/launch.sh");
/// Reads the script and its data from stdin, starts the watchdog, runs the script.
const BOOTSTRAP: &str = include_str!("../scripts/bootstrap.sh");
/// The longest word that every login shell takes: csh's end at 1019 characters.
const LONGEST_WORD: usize = 960;

/// The command that starts the bootstrap with these arguments, `apart` in a mount namespace of its own. To csh a newline
/// or an exclamation mark means something in single quotes too, and to fish a backslash: there is none outside of the
/// base64, and no equals sign in that, which zsh takes at a word's beginning for one of its own.
pub(super) fn launch(apart: bool, arguments: &[&str]) -> String {
    let words = [BOOTSTRAP, if apart { "apart" } else { "" }].into_iter().chain(arguments.iter().copied());
    let words: Vec<String> = words.map(|text| quote(&OwnText(text))).collect();
    let mut program = format!("set -- {}\n{LAUNCHER}", words.join(" "));
    while !program.len().is_multiple_of(3) {
        program.push('\n');
    }
    let encoded = STANDARD.encode(program);
    let words = encoded.as_bytes().chunks(LONGEST_WORD).map(String::from_utf8_lossy);
    let words: Vec<_> = words.collect();
    format!(r#"exec setsid -w sh -c 'eval "$(printf %s "$@" | base64 -d)"' sh {}"#, words.join(" "))
}

/// Our own scripts, and values that were words already.
struct OwnText<'a>(&'a str);

impl ShellWord for OwnText<'_> {
    fn word(&self) -> String {
        self.0.to_owned()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_command_has_nothing_that_a_login_shell_reads_in_its_own_way() {
        let commands = (0..3).map(|n| launch(n == 0, &["mark", &"\\'!\n$x".repeat(1000 + n), "token=1\n"]));
        for command in commands {
            let text = command.strip_prefix(r#"exec setsid -w sh -c 'eval "$(printf %s "$@" | base64 -d)"' sh "#);
            let words: Vec<&str> = text.expect("the one beginning").split(' ').collect();
            let plain = |word: &&str| word.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/".contains(&b));
            assert!(words.len() > 5 && words.iter().all(|word| plain(word) && word.len() < 1019), "{command}");
        }
    }
}
