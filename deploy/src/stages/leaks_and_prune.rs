//! At the end of an attempt: secrets that were left where they don't belong, and images that nobody needs any more. A
//! finding is a warning and never fails the deployment. What serves then is read in `serving`.

use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::{ErrorCode, Stage};

use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::scripts;
use crate::secrets::redact::Redactor;
use crate::{Attempt, StageReport};

impl Attempt {
    /// Looks for leaked secrets and prunes images after a success, unless stage secrets' own script has done so.
    pub(crate) async fn after_success(&mut self, report: StageReport) -> StageReport {
        let looked = match self.looked_after.take() {
            Some(output) => {
                self.tell_leaks(Stage::Secrets, &output);
                Some(output)
            }
            None => {
                let (request, reports) = self.reports_to_keep(&report, &self.work.github_digests);
                self.look_after(Stage::Secrets, &request, &reports).await
            }
        };
        let Some(output) = looked else { return report };
        report
            .fact("leaks", output.values("leak").to_vec())
            .fact("leaks_sought_everywhere", output.value("sweep").is_none())
            .fact("images_removed", output.values("pruned").len())
    }

    /// The beginning of the names of images that may be pruned.
    pub(super) fn prunable(&self) -> String {
        let repository = &self.work.request.repository.name;
        format!("{}/{repository}-", self.image_registry().as_str()).to_ascii_lowercase()
    }

    /// What shows the credential for images, unless the project has the same for a secret.
    pub(super) fn login_needles(&self) -> SecretString {
        let redactor = Redactor::default();
        let own = |password: &SecretString| {
            self.work.secrets.values().any(|secret| secret.expose_secret() == password.expose_secret())
        };
        if let Some(credential) = self.work.registry.as_ref().filter(|credential| !own(&credential.password)) {
            redactor.learn(&credential.password);
            redactor.learn(&credential.login());
        }
        redactor.searchable_values()
    }

    /// Runs the script and warns of secrets that it finds; gives its output, which also says what runs. Its own failure
    /// is only logged.
    pub(super) async fn find_leaks_and_prune(&mut self, stage: Stage) -> Option<ScriptOutput> {
        self.look_after(stage, "", b"").await
    }

    /// With a `request`, the server keeps how it was left, and the `reports`.
    async fn look_after(&mut self, stage: Stage, request: &str, reports: &[u8]) -> Option<ScriptOutput> {
        let script = Script::new("aftermath", scripts::LEAKS_AND_PRUNE)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .hex("request", request)
            .bytes("report", reports)
            .hex("comment", &self.rule_comment())
            .words("ports", &super::published_ports(&self.work.request))
            .bytes("prefix", self.prunable().as_bytes())
            .bytes("logins", self.login_needles().expose_secret().as_bytes())
            .bytes("needles", self.redactor.searchable_values().expose_secret().as_bytes())
            .last();
        let output = match self.exec(stage, &script).await {
            Ok(Ok(output)) => output,
            Ok(Err(_)) | Err(_) => {
                tracing::warn!("what the attempt left on the server couldn't be looked at");
                return None;
            }
        };
        self.tell_leaks(stage, &output);
        Some(output)
    }

    fn tell_leaks(&self, stage: Stage, output: &ScriptOutput) {
        for place in output.values("leak") {
            let code = ErrorCode::SecretLeaked.as_str();
            let place = self.redactor.clean(place);
            tracing::warn!(error.type = code, place, "a known secret is in a place where it doesn't belong");
            self.report_line(stage, &format!("warning: {code}: a known secret stands in {place}"));
        }
    }
}
