//! Webhooks of the App: what happened in a repository that it's installed on, signed and sent to its URL.
//!
//! Deliberately not here: GitHub's own second tries (it makes none), and events that Slipway doesn't read.

use std::sync::mpsc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use ring::hmac;
use serde_json::{Value, json};

use super::GitHub;
use super::hosted_repository::HostedRun;
use super::permissions::Level;
use super::runs;
use super::shapes;
use super::shared::SharedGithub;
use super::state::{GithubState, WebhookTarget};

/// GitHub gives up after this.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A webhook as it was sent, or would have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentWebhook {
    /// `X-GitHub-Event`.
    pub event: String,
    /// `X-GitHub-Delivery`.
    pub guid: String,
    /// `X-Hub-Signature-256`.
    pub signature: String,
    /// What was signed.
    pub body: String,
    /// The answer's status; 0 when there was none, or when it was lost.
    pub status: u16,
}

/// Methods that take `owner/name` panic on the name of a repository that was never added, or on which the App isn't
/// installed: that is a mistake in the test.
impl GitHub {
    /// Sets the App's webhook URL and secret.
    pub fn set_webhook(&self, url: &str, secret: &str) {
        let target = WebhookTarget { url: url.to_owned(), secret: secret.to_owned(), lost: false };
        self.shared.state().webhook = Some(target);
    }

    /// From now on webhooks get lost, or arrive again.
    pub fn lose_webhooks(&self, lost: bool) {
        if let Some(target) = &mut self.shared.state().webhook {
            target.lost = lost;
        }
    }

    /// Tells that somebody pushed `sha` to `branch`; git's own repository has it already.
    pub fn tell_push(&self, full_name: &str, branch: &str, sha: &str) -> SentWebhook {
        let payload = json!({
            "ref": format!("refs/heads/{branch}"),
            "before": "0".repeat(40),
            "after": sha,
            "created": false,
            "deleted": false,
            "forced": false,
        });
        self.tell(full_name, "push", "contents", payload)
    }

    /// Begins a run of `workflow` for a push; GitHub tells of that, too, but nobody here reads it.
    pub fn begin_run(&self, full_name: &str, workflow: &str, branch: &str, sha: &str) -> u64 {
        let id = self.shared.state().next_id();
        let run = HostedRun {
            id,
            workflow: workflow.to_owned(),
            branch: branch.to_owned(),
            sha: sha.to_owned(),
            event: "push".to_owned(),
            conclusion: None,
            waiting: false,
        };
        self.change(full_name, |repository| repository.runs.push(run));
        id
    }

    /// Lets a run wait for the rules of a protected environment.
    pub fn hold_run(&self, full_name: &str, id: u64) {
        self.change(full_name, |repository| {
            repository.runs.iter_mut().filter(|run| run.id == id).for_each(|run| run.waiting = true);
        });
    }

    /// As [`GitHub::end_run`], without telling anybody.
    pub fn conclude_run(&self, full_name: &str, id: u64, conclusion: &str) {
        self.change(full_name, |repository| {
            if let Some(run) = repository.runs.iter_mut().find(|run| run.id == id) {
                run.conclusion = Some(conclusion.to_owned());
            }
        });
    }

    /// Ends a run with `conclusion`, such as `success`, and tells of it. One that has ended may end anew.
    pub fn end_run(&self, full_name: &str, id: u64, conclusion: &str) -> SentWebhook {
        self.conclude_run(full_name, id, conclusion);
        let run = {
            let state = self.shared.state();
            let repository = state.by_full_name(full_name);
            let run = repository.and_then(|r| Some(runs::describe(r.runs.iter().find(|run| run.id == id)?, r)));
            run.unwrap_or_else(|| panic!("the test began no run {id} of {full_name}"))
        };
        self.tell(full_name, "workflow_run", "actions", json!({ "action": "completed", "workflow_run": run }))
    }

    /// Sends a webhook again, as the button on GitHub's page does.
    pub fn redeliver(&self, webhook: &SentWebhook) -> SentWebhook {
        self.deliver(SentWebhook { status: 0, ..webhook.clone() })
    }

    fn tell(&self, full_name: &str, event: &str, permission: &str, mut payload: Value) -> SentWebhook {
        let webhook = {
            let state = self.shared.state();
            let secret = state.webhook.as_ref().map(|target| target.secret.clone());
            let Some(secret) = secret else { panic!("the App has no webhook URL") };
            add_sender(&state, full_name, permission, &mut payload);
            let body = payload.to_string();
            let signature = sign(&secret, &body);
            let guid = uuid::Uuid::new_v4().to_string();
            SentWebhook { event: event.to_owned(), guid, signature, body, status: 0 }
        };
        self.deliver(webhook)
    }

    /// Sends a webhook whatever it holds, and gives it with the answer's status.
    pub fn deliver(&self, webhook: SentWebhook) -> SentWebhook {
        let (answer, answered) = mpsc::channel();
        let (shared, sending) = (std::sync::Arc::clone(&self.shared), webhook.clone());
        // On the servers' own event loop, which lives in their network.
        self.events.spawn(async move {
            let _ = answer.send(send(&shared, &sending).await);
        });
        let status = answered.recv_timeout(2 * TIMEOUT).unwrap_or(0);
        SentWebhook { status, ..webhook }
    }
}

/// What every webhook has; only an installation with the permission is told.
fn add_sender(state: &GithubState, full_name: &str, permission: &str, payload: &mut Value) {
    let repository = state.by_full_name(full_name);
    let Some(repository) = repository else { panic!("the test added no repository {full_name}") };
    let told = state.installations.values().find(|installation| {
        installation.repositories.contains(&repository.id)
            && installation.permissions.get(permission).is_some_and(|level| *level >= Level::Read)
    });
    let Some(installation) = told else { panic!("no installation on {full_name} may read {permission}") };
    payload["installation"] = json!({ "id": installation.id });
    payload["repository"] = shapes::full_repository(repository);
    payload["sender"] = json!({ "login": "octocat", "type": "User" });
}

/// The signature of `body` with `secret`.
pub fn sign(secret: &str, body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    format!("sha256={}", HEXLOWER.encode(tag.as_ref()))
}

async fn send(shared: &SharedGithub, webhook: &SentWebhook) -> u16 {
    let target = shared.state().webhook.clone();
    let Some(target) = target.filter(|target| !target.lost) else { return 0 };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
    let Ok(client) = client else { return 0 };
    let request = client
        .post(target.url)
        .header("user-agent", "GitHub-Hookshot/044aadd")
        .header("content-type", "application/json")
        .header("x-github-event", &webhook.event)
        .header("x-github-delivery", &webhook.guid)
        .header("x-hub-signature-256", &webhook.signature)
        .body(webhook.body.clone());
    request.send().await.map_or(0, |answer| answer.status().as_u16())
}
