//! Clone: the exact commit into the project's directory.

use secrecy::ExposeSecret as _;
use slipway_protocol::{ErrorCode, Stage};

use crate::lines::ScriptOutput;
use crate::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn clone_commit(&mut self) -> Result<StageReport, StageError> {
        let repository = &self.work.request.repository;
        let token = self.unless_cancelled(self.github().repository_token(&repository.name)).await?;
        self.learn(&token);
        let url = self.git_url().of_repository(&repository.name);
        let script = Script::new("clone", scripts::CLONE)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("commit", &repository.commit)
            .word("url", &url)
            .bytes("token", token.expose_secret().as_bytes());
        let said = match self.exec(Stage::Clone, &script).await? {
            Ok(said) => said,
            Err(said) => {
                let error = explain(&said, url.as_str());
                if error.code == ErrorCode::GitCredentialRefused {
                    self.github().forget_token(&self.work.request.repository.name, &token).await;
                }
                return Err(error);
            }
        };
        let mut report = StageReport::of(said.value("change") == Some("changed"))
            .fact("commit", self.work.request.repository.commit.as_str());
        if let Some(previous) = said.value("previous") {
            report = report.fact("previous_commit", previous);
        }
        Ok(report)
    }
}

/// Git has no codes of its own: its words decide. All of them are in English, for the scripts run with `LC_ALL=C`.
fn explain(said: &ScriptOutput, url: &str) -> StageError {
    let text = said.tail().join("\n").to_lowercase();
    let any = |words: &[&str]| words.iter().any(|w| text.contains(w));
    let (code, what) = if said.value("fetch").is_none() {
        (ErrorCode::CheckoutFailed, "checking out the commit failed".to_owned())
    } else if any(&["not our ref", "couldn't find remote ref", "unadvertised object", "no such remote ref"]) {
        (ErrorCode::CommitNotFound, format!("{url} doesn't have the commit"))
    } else if any(&["repository not found", "not found", "error: 404", "does not exist"]) {
        (ErrorCode::RepositoryNotFound, format!("{url} wasn't found"))
    } else if any(&["authentication failed", "could not read username", "error: 403", "error: 401", "invalid username"])
    {
        (ErrorCode::GitCredentialRefused, format!("{url} refused the credential"))
    } else if any(&["no space left", "disk quota"]) {
        (ErrorCode::DiskFull, "the server's disk is full".to_owned())
    } else if any(&["read-only file system", "permission denied"]) {
        (ErrorCode::CheckoutFailed, "the fetched code couldn't be written".to_owned())
    } else {
        (ErrorCode::GitUnavailable, format!("fetching from {url} failed"))
    };
    StageError::new(code, what).with_tail(said.tail())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gits_words_become_codes() {
        let words = [
            ("fatal: remote error: upload-pack: not our ref 0123", ErrorCode::CommitNotFound),
            ("remote: Repository not found.", ErrorCode::RepositoryNotFound),
            (
                "fatal: unable to access 'https://x/': The requested URL returned error: 404",
                ErrorCode::RepositoryNotFound,
            ),
            ("fatal: Authentication failed for 'https://github.com/a/b.git/'", ErrorCode::GitCredentialRefused),
            ("fatal: unable to access 'https://x/': The requested URL returned error: 503", ErrorCode::GitUnavailable),
            ("fatal: unable to access 'https://x/': Could not resolve host: github.com", ErrorCode::GitUnavailable),
            ("error: file write error: No space left on device", ErrorCode::DiskFull),
            ("error: file write error: Read-only file system", ErrorCode::CheckoutFailed),
        ];
        for (line, code) in words {
            let mut said = ScriptOutput::default();
            assert_eq!(said.take("m", b"m fetch failed"), None);
            said.keep(line.to_owned());
            assert_eq!(explain(&said, "https://x").code, code, "{line}");
        }
    }
}
