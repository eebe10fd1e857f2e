//! Scripts that are killed on their server before a command that they run, as a power cut or a lack of memory would: how
//! that's done. What must hold then is said by those who use it.

use std::fmt::Write as _;

use crate::pipeline::scene::AttemptScene;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/src/scripts");

/// Stands before every program that a script may call: counts, and kills its process group when it's told to.
const COUNTER: &str = r#"#!/bin/sh
read -r _ _ _ _ group _ </proc/$$/stat
# The bootstrap's shell leads the group, with a language of its own by then, or CI's command does: sshd calls programs, too,
# when somebody logs in.
if [ -e /run/die-at ] && { [ ! -e /run/until-env ] || [ ! .slipway/at_env -nt /run/die-at ]; } &&
    { [ "${LC_ALL:-}" = C ] && /usr/bin/grep -qE '^umask 077|base64 -d\)"' "/proc/$group/cmdline" ||
        /usr/bin/grep -q '/\.slipway/ci-deploy' "/proc/$group/cmdline"; }; then
    line="${0##*/} $*"
    IFS= read -r from </run/die-from
    case $line in $from) : >/run/counting ;; esac
    if [ -e /run/counting ] && [ ! -e /run/died-before ]; then
        printf . >>/run/commands
        read -r commands </run/commands
        printf '%s\n' "$line" >>/run/commands-seen
        read -r at </run/die-at
        IFS= read -r before </run/die-before
        case "${#commands} $line" in "$at "* | *" "$before)
            printf '%s\n' "$line" >/run/died-before
            kill -s KILL -- "-$group"
            ;;
        esac
    fi
fi
for place in /usr/sbin /usr/bin; do
    if [ -x "$place/${0##*/}" ]; then exec "$place/${0##*/}" "$@"; fi
done
"#;

/// Puts [`COUNTER`] before every program of the server whose name is a word of the scripts.
pub fn count_commands(scene: &AttemptScene) {
    let mut words = std::collections::BTreeSet::new();
    for script in std::fs::read_dir(SCRIPTS).unwrap() {
        let path = script.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "sh") {
            continue;
        }
        let text = std::fs::read_to_string(path).unwrap();
        let word = |c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-';
        words.extend(text.split(word).filter(|word| !word.is_empty() && *word != "sh").map(str::to_owned));
    }
    let mut setup = format!("cat >/root/counter <<'END'\n{COUNTER}END\nchmod 755 /root/counter\n");
    // One loop: a line for each word would be longer than an argument may be.
    let words = words.into_iter().collect::<Vec<_>>().join(" ");
    let _ = writeln!(
        setup,
        "for word in {words}; do\n    [ ! -x /usr/bin/$word ] && [ ! -x /usr/sbin/$word ] || ln -s /root/counter /usr/local/bin/$word\ndone"
    );
    scene.world.target(0).sh(&setup).unwrap();
}

/// Before which of its commands a script is killed.
pub enum Points {
    /// Each of them, by its number.
    All,
    /// Those that look like one of these, each at its first turn after one that looks like `from`.
    These {
        /// A pattern of the shell.
        from: &'static str,
        /// Patterns of the shell.
        commands: Vec<String>,
    },
}

/// What no command looks like.
const NONE: &str = "none of them";

/// Does `act` without a death, and gives patterns of the commands that its scripts call after one that looks like `from`,
/// in their order, each of them once.
pub fn commands_of(scene: &AttemptScene, from: &str, act: impl FnOnce()) -> Vec<String> {
    watch(scene, from, 0, NONE);
    act();
    let seen = scene.world.target(0).sh("rm /run/die-at; cat /run/commands-seen").unwrap();
    let mut commands: Vec<String> = Vec::new();
    for command in seen.lines().map(pattern_of) {
        if !commands.contains(&command) {
            commands.push(command);
        }
    }
    commands
}

/// What a command looks like whenever it's called: without ids, moments and what a pattern would read in its own way.
fn pattern_of(command: &str) -> String {
    let mut pattern = String::new();
    for word in command.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (name, end) = match word.char_indices().last() {
            Some((at, last)) if !last.is_ascii_alphanumeric() => (&word[..at], Some(last)),
            _ => (word, None),
        };
        let changes = name.len() > 3 && name.contains(|c: char| c.is_ascii_digit());
        pattern.push_str(if changes { "*" } else { name });
        pattern.extend(end.map(|c| if "/-_. ".contains(c) { c } else { '?' }));
    }
    pattern
}

fn watch(scene: &AttemptScene, from: &str, at: usize, before: &str) {
    let script = format!(
        "cd /run; rm -f commands commands-seen died-before counting; : >commands-seen; printf '%s\\n' '{from}' >die-from\n\
         printf '%s\\n' '{before}' >die-before; echo {at} >die-at"
    );
    scene.world.target(0).sh(&script).unwrap();
}

/// Does `act` again and again, each time with its script killed before another one of its commands, after which `whole`
/// must hold. All three are given the number of the try; `act` tries again by itself. Gives how often it died.
pub fn dies_before_each_command(
    scene: &AttemptScene,
    points: Points,
    before: impl Fn(usize),
    act: impl Fn(usize) -> Result<(), String>,
    whole: impl Fn(usize),
) -> usize {
    let server = scene.world.target(0);
    let (from, tries) = match points {
        Points::All => ("*", None),
        Points::These { from, commands } => (from, Some(commands)),
    };
    let mut deaths = 0;
    for at in 1.. {
        let number = if tries.is_none() { at } else { 0 };
        let command = match &tries {
            None => NONE,
            Some(commands) if at > commands.len() => break,
            Some(commands) => &commands[at - 1],
        };
        before(at);
        watch(scene, from, number, command);
        let outcome = act(at);
        let counted = server.sh("rm /run/die-at; wc -c </run/commands; cat /run/died-before 2>/dev/null || :").unwrap();
        let (counted, command) = counted.split_once('\n').unwrap();
        outcome.unwrap_or_else(|e| panic!("killed before `{}`: {e}", command.trim()));
        if !command.is_empty() {
            deaths += 1;
            whole(at);
        } else if tries.is_none() && counted.trim().parse::<usize>().unwrap() < at {
            break;
        }
        // Else two commands at once have both missed the number.
    }
    deaths
}
