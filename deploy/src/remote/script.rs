//! A script for the server: literal shell text plus named data. One exec runs one script; the data, secrets included,
//! follow the text on stdin and become shell variables that are never exported. What anybody may see can stand in the
//! command itself. Running it is [`crate::remote::ssh`]'s job.

use std::fmt::Write as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use slipway_protocol::ProjectId;

use crate::RemotePath;
use crate::remote::launch::launch;
use crate::remote::quote::ShellWord;
use crate::scripts;

/// A script and its data.
#[derive(Clone)]
pub struct Script {
    name: &'static str,
    layered: bool,
    open: bool,
    last: bool,
    limit: Option<Duration>,
    done_once: Option<&'static str>,
    parts: Vec<&'static str>,
    data: SecretString,
}

impl Script {
    /// A script without data. `name` is what logs and traces call it.
    #[must_use]
    pub fn new(name: &'static str, parts: &[&'static str]) -> Self {
        let data = SecretString::from(String::new());
        Self {
            name,
            layered: false,
            open: false,
            last: false,
            limit: None,
            done_once: None,
            parts: parts.to_vec(),
            data,
        }
    }

    /// The name in logs and traces.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Gives a validated value as shell variable `variable`.
    #[must_use]
    pub fn word(self, variable: &'static str, value: &impl ShellWord) -> Self {
        self.line(variable, &value.word())
    }

    /// Gives a number as shell variable `variable`.
    #[must_use]
    pub fn number(self, variable: &'static str, value: u64) -> Self {
        self.line(variable, &value.to_string())
    }

    /// Gives a digest in hexadecimal digits; anything else is given as nothing.
    #[must_use]
    pub fn hex(self, variable: &'static str, value: &str) -> Self {
        let digest = value.bytes().all(|b| b.is_ascii_hexdigit());
        self.line(variable, if digest { value } else { "" })
    }

    /// Gives validated values as shell variable `variable`, with a space between.
    #[must_use]
    pub fn words<W: ShellWord>(self, variable: &'static str, values: &[W]) -> Self {
        self.line(variable, &values.iter().map(ShellWord::word).collect::<Vec<_>>().join(" "))
    }

    /// Gives any bytes, in base64; the script decodes them where it needs them.
    #[must_use]
    pub fn bytes(self, variable: &'static str, value: &[u8]) -> Self {
        self.line(variable, &STANDARD.encode(value))
    }

    /// The same script with the number of the claim that it acts for, as shell variable `fence`.
    #[must_use]
    pub(crate) fn fenced(&self, fence: u64) -> Self {
        self.clone().number("fence", fence)
    }

    /// The same script with the project that it acts for, and those that its slug was handed over from, as shell variables
    /// `owner` and `former`.
    #[must_use]
    pub(crate) fn owned(self, owner: ProjectId, former: &[ProjectId]) -> Self {
        self.word("owner", &owner).words("former", former)
    }

    fn line(self, variable: &'static str, value: &str) -> Self {
        debug_assert!(!value.contains('\n'), "values are single lines");
        let mut data = self.data.expose_secret().to_owned();
        let _ = writeln!(data, "{variable}={value}");
        Self { data: SecretString::from(data), ..self }
    }

    /// The same script, run so that nothing below `root` changes: what it writes is found by later scripts with the
    /// same `scratch` only, a directory in the server's memory.
    #[must_use]
    pub(crate) fn layered(&self, root: &RemotePath, scratch: &RemotePath) -> Self {
        let parts = [scripts::OVERLAY, self.parts.as_slice()].concat();
        let script = Self { layered: true, open: false, parts, ..self.clone() };
        script.word("root", root).word("scratch", scratch)
    }

    /// The same script with its text and data in the command, for data that anybody on the server may see. sshd takes what is
    /// for stdin a round trip later than the command.
    #[must_use]
    pub(crate) fn openly(self) -> Self {
        Self { open: true, ..self }
    }

    /// Whether it may stand in the command.
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// The same script, after which perhaps no other comes: no shell is begun for one.
    #[must_use]
    pub fn last(self) -> Self {
        Self { last: true, ..self }
    }

    /// Whether no other script is expected after it.
    pub(crate) fn is_last(&self) -> bool {
        self.last
    }

    /// The same script, ended after that time, however long other commands may take.
    #[must_use]
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// The same script, whose work is done once it has told `key`, whatever becomes of what it goes on to do.
    #[must_use]
    pub(crate) fn done_with(self, key: &'static str) -> Self {
        Self { done_once: Some(key), ..self }
    }

    /// What it tells once its work is done, if it goes on after that.
    pub(crate) fn done_once(&self) -> Option<&'static str> {
        self.done_once
    }

    /// How long it may take, where that's less than for any command.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// The command of the exec request, whose shell reads the script from stdin: the same for every script, so nothing of a
    /// project is ever in argv.
    #[must_use]
    pub fn waiting(&self) -> String {
        launch(self.layered, &[])
    }

    /// The command of an open script, which adds itself.
    #[must_use]
    pub(crate) fn with_itself(&self, mark: &str) -> String {
        launch(false, &[mark, &self.parts.concat(), self.data.expose_secret()])
    }

    /// What is written to stdin: `mark length`, the text, the data, an empty line. `mark` begins every line of stdout
    /// that is for us; what programs print can't fake it.
    pub(crate) fn frame(&self, mark: &str) -> SecretSlice<u8> {
        let text: String = self.parts.concat();
        let mut frame = format!("{mark} {}\n{text}", text.len()).into_bytes();
        frame.extend_from_slice(self.data.expose_secret().as_bytes());
        frame.push(b'\n');
        SecretSlice::from(frame)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use slipway_protocol::names::Slug;

    use super::*;

    #[test]
    fn the_command_is_the_same_for_every_script() {
        let script = |slug| Script::new("test", &["true\n"]).word("slug", &Slug::new(slug).expect("a slug"));
        assert_eq!(script("a").waiting(), script("b").openly().waiting());
    }

    #[test]
    fn the_data_follow_the_script_and_never_stand_in_the_command() {
        let script = Script::new("test", &["echo \"$slug\"\n"])
            .word("slug", &Slug::new("shop").expect("a slug"))
            .bytes("token", b"s3cret'; rm -rf /")
            .number("port", 80)
            .hex("proof", "ab12")
            .hex("forged", "$(reboot)")
            .fenced(7);
        let frame = String::from_utf8(script.frame("MARK").expose_secret().to_vec()).expect("text");
        insta::assert_snapshot!(frame);
    }

    #[test]
    fn nothing_that_makes_containers_may_build_their_images_on_the_server() {
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scripts");
        let mut made = 0;
        for script in std::fs::read_dir(scripts).expect("the scripts") {
            let script = script.expect("an entry").path();
            let text = std::fs::read_to_string(&script).expect("a script");
            for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
                let called = line.split_once("project_compose ").map_or("", |(_, arguments)| arguments);
                if matches!(called.split(' ').next(), Some("up" | "create")) {
                    made += 1;
                    assert!(called.contains(" --no-build "), "{}: {line}", script.display());
                }
            }
        }
        assert!(made >= 7, "only {made} calls were found");
    }

    #[test]
    fn compose_reads_a_projects_files_in_one_place_alone_and_starts_nothing_from_them() {
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/src/scripts");
        let mut views = 0;
        for script in std::fs::read_dir(scripts).expect("the scripts") {
            let script = script.expect("an entry").path();
            let text = std::fs::read_to_string(&script).expect("a script");
            let owner = script.ends_with("compose_call.sh");
            for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
                // Files are named to compose in the room, and nowhere else.
                assert!(owner || !line.contains("docker compose --"), "{}: {line}", script.display());
                assert!(owner || !line.contains("compose -f"), "{}: {line}", script.display());
                if let Some((_, arguments)) = line.split_once("files_view ") {
                    views += 1;
                    let looks = arguments.starts_with("config ") || arguments.starts_with("--profile '*' config ");
                    assert!(looks, "{}: {line}", script.display());
                }
            }
        }
        assert!(views >= 3, "only {views} calls were found");
    }

    #[test]
    fn a_real_shell_gets_the_data_as_variables_that_are_not_exported() {
        let text = "printf '%s' \"$data\" | base64 -d >&2; env >&2; tell said \"$number $#\"; exit 7\n";
        let value = "a'b\"c\\d\n$e `f` \u{e4}";
        let script = || Script::new("test", &[text]).bytes("data", value.as_bytes()).number("number", 42);
        for (command, frame) in
            [(script().waiting(), script().frame("MARK")), (script().with_itself("MARK"), Vec::new().into())]
        {
            let mut child = Command::new("sh")
                .args(["-c", &command])
                .env("LANGUAGE", "de")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("sh starts");
            let mut stdin = child.stdin.take().expect("piped");
            stdin.write_all(frame.expose_secret()).expect("written");
            // Stdin stays open: that it is closed means that the worker is gone.
            let status = child.wait().expect("ends");
            drop(stdin);
            let output = child.wait_with_output().expect("read");
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(status.code(), Some(7), "{stderr}");
            assert_eq!(output.stdout, b"\nMARK began yes\n\nMARK said 42 0\n\nMARK ended yes\n");
            assert!(stderr.starts_with(value), "{stderr}");
            assert!(!stderr.contains("data=") && !stderr.contains("LANGUAGE="), "{stderr}");
        }
    }
}
