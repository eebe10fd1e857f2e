//! The only place where shell words are quoted. What is quoted are our own scripts and values of validated types;
//! data of others reaches a server by stdin ([`crate::remote::script`]), never inside a command.

use slipway_protocol::names::{CommitSha, Port, RepositoryName, ServiceName, Slug};
use slipway_protocol::{DomainName, ProjectId, VolumeName};

use crate::DoorImage;
use crate::remote::places::{HttpsUrl, RegistryHost, RemotePath};

/// A value that may be part of a command or a rendered script: its type guarantees its shape.
pub trait ShellWord {
    /// The value as text.
    fn word(&self) -> String;
}

macro_rules! words {
    ($($type:ty => $text:expr;)*) => {$(
        impl ShellWord for $type {
            fn word(&self) -> String {
                let text: fn(&Self) -> String = $text;
                text(self)
            }
        }
    )*};
}

words! {
    &'static str => |v| (*v).to_owned();
    Option<&DoorImage> => |v| v.map(ToString::to_string).unwrap_or_default();
    Slug => |v| v.as_str().to_owned();
    CommitSha => |v| v.as_str().to_owned();
    ProjectId => ToString::to_string;
    Port => ToString::to_string;
    u16 => ToString::to_string;
    DomainName => |v| v.as_str().to_owned();
    VolumeName => |v| v.as_str().to_owned();
    ServiceName => |v| v.as_str().to_owned();
    HttpsUrl => |v| v.as_str().to_owned();
    RepositoryName => ToString::to_string;
    RegistryHost => |v| v.as_str().to_owned();
    RemotePath => |v| v.as_str().to_owned();
}

/// `value` as one word of any POSIX shell: in single quotes, each single quote inside written as `'\''`.
#[must_use]
pub fn quote(value: &impl ShellWord) -> String {
    quoted(&value.word())
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use proptest::prelude::*;
    use std::process::Command;

    use super::quoted;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn any_text_comes_back_from_a_real_shell_as_one_word(words in prop::collection::vec("[^\\x00]{0,40}", 1..8)) {
            let script = format!("printf '%s\\0' {}", words.iter().map(|w| quoted(w)).collect::<Vec<_>>().join(" "));
            let output = Command::new("sh").args(["-c", &script]).output().expect("sh starts");
            let expected: Vec<u8> = words.iter().flat_map(|w| [w.as_bytes(), b"\0"].concat()).collect();
            prop_assert_eq!(output.stdout, expected);
        }
    }
}
