//! Git objects that are made one by one, as git itself would never make them. What they are good for is tried in
//! `repositories`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use data_encoding::HEXLOWER;

/// A repository whose objects are made one by one, as git itself would never make them.
pub struct Objects {
    pub repository: PathBuf,
}

/// Mode, name, and the object's id.
pub type Entry<'a> = (&'a str, &'a [u8], &'a str);

pub const FILE: &str = "100644";
pub const LINK: &str = "120000";
pub const FOLDER: &str = "40000";

impl Objects {
    fn git(&self, arguments: &[&str], input: &[u8]) -> String {
        let mut git = Command::new("git")
            .arg("--git-dir")
            .arg(&self.repository)
            .args(arguments)
            .envs(["AUTHOR", "COMMITTER"].iter().flat_map(|who| {
                [(format!("GIT_{who}_NAME"), "Stranger"), (format!("GIT_{who}_EMAIL"), "stranger@example.com")]
            }))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        git.stdin.take().unwrap().write_all(input).unwrap();
        let output = git.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn blob(&self, content: &[u8]) -> String {
        self.git(&["hash-object", "-w", "--stdin"], content)
    }

    pub fn tree(&self, entries: &[Entry<'_>]) -> String {
        let mut bytes = Vec::new();
        for (mode, name, id) in entries {
            bytes.extend_from_slice(mode.as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(0);
            bytes.extend(HEXLOWER.decode(id.as_bytes()).unwrap());
        }
        self.git(&["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &bytes)
    }

    pub fn commit(&self, entries: &[Entry<'_>]) -> String {
        self.git(&["commit-tree", &self.tree(entries), "-m", "A trick"], b"")
    }

    /// A file below folders of these names.
    pub fn file_at(&self, path: &[&[u8]]) -> String {
        let (name, folders) = path.split_last().unwrap();
        let mut tree = self.tree(&[(FILE, name, &self.blob(b"mine\n"))]);
        for folder in folders.iter().skip(1).rev() {
            tree = self.tree(&[(FOLDER, folder, &tree)]);
        }
        self.commit(&[(FOLDER, folders[0], &tree)])
    }

    /// `width` times itself on each of `levels` levels.
    pub fn bomb(&self, mut tree: String, levels: usize, width: usize) -> String {
        let names: Vec<String> = (0..width).map(|name| name.to_string()).collect();
        for _ in 0..levels {
            let entries: Vec<Entry<'_>> = names.iter().map(|name| (FOLDER, name.as_bytes(), tree.as_str())).collect();
            tree = self.tree(&entries);
        }
        self.git(&["commit-tree", &tree, "-m", "A bomb"], b"")
    }
}
