//! What a webhook is about. Nothing of it decides what is deployed: it names the repository and the branch to look at.

use serde::Deserialize;
use slipway_protocol::names::{BranchName, RepositoryName};

/// Where a webhook says that there is something to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PushHint {
    pub repository: RepositoryName,
    /// `None` when all of the repository's branches may be meant.
    pub branch: Option<BranchName>,
    /// What happened, in GitHub's words.
    pub action: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    action: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    repository: Option<HookRepository>,
    workflow_run: Option<HookRun>,
}

#[derive(Deserialize)]
struct HookRepository {
    full_name: String,
}

#[derive(Deserialize)]
struct HookRun {
    head_branch: Option<String>,
}

/// Reads the body of an `event`; `None` when it's about nothing that leads to a deployment.
///
/// # Errors
/// When the body isn't JSON of GitHub's form.
pub(super) fn read_hint(event: &str, body: &[u8]) -> Result<Option<PushHint>, serde_json::Error> {
    let payload: Payload = serde_json::from_slice(body)?;
    let action = payload.action.as_deref();
    let branch = match (event, action) {
        ("push", _) => {
            let reference = payload.reference.as_deref().and_then(|reference| reference.strip_prefix("refs/heads/"));
            match reference.map(BranchName::new) {
                Some(Ok(branch)) => Some(branch),
                _ => return Ok(None),
            }
        }
        ("workflow_run", Some("completed")) => match payload.workflow_run.and_then(|run| run.head_branch) {
            Some(branch) => match BranchName::new(branch) {
                Ok(branch) => Some(branch),
                Err(_) => return Ok(None),
            },
            None => None,
        },
        ("registry_package" | "package", Some("published" | "updated")) => None,
        _ => return Ok(None),
    };
    let repository = payload.repository.and_then(|repository| RepositoryName::new(repository.full_name).ok());
    Ok(repository.map(|repository| PushHint { repository, branch, action: payload.action }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// `repository@branch`, or nothing.
    fn hint(event: &str, body: &Value) -> Option<String> {
        let hint = read_hint(event, body.to_string().as_bytes()).unwrap()?;
        Some(format!("{}@{}", hint.repository, hint.branch.map_or("*".to_owned(), String::from)))
    }

    #[test]
    fn fuzzed_webhooks_are_read_or_refused() {
        let push = br#"{"ref": "refs/heads/main", "repository": {"full_name": "acme/shop"}, "after": "0123"}"#;
        let run =
            br#"{"action": "completed", "workflow_run": {"head_branch": "main"}, "repository": {"full_name": "a/b"}}"#;
        slipway_protocol::fuzz::run("webhooks", &[push, run], |body| {
            for event in ["push", "workflow_run", "registry_package", "ping"] {
                let _ = read_hint(event, body);
            }
        });
    }

    #[test]
    fn pushes_ended_runs_and_published_packages_say_where_to_look() {
        let repository = json!({ "id": 1, "full_name": "acme/shop" });
        let push = |reference: &str| json!({ "ref": reference, "after": "b", "repository": repository, "more": 1 });
        assert_eq!(hint("push", &push("refs/heads/feature/x")).unwrap(), "acme/shop@feature/x");
        assert_eq!(hint("push", &push("refs/tags/v1")), None);
        assert_eq!(hint("push", &push("refs/heads/$(x)")), None, "no branch that a project can have");
        let run = |action: &str, branch: Value| json!({ "action": action, "workflow_run": { "head_branch": branch }, "repository": repository });
        assert_eq!(hint("workflow_run", &run("completed", "main".into())).unwrap(), "acme/shop@main");
        assert_eq!(hint("workflow_run", &run("completed", Value::Null)).unwrap(), "acme/shop@*");
        assert_eq!(hint("workflow_run", &run("requested", "main".into())), None);
        let package = json!({ "action": "published", "repository": repository });
        assert_eq!(hint("registry_package", &package).unwrap(), "acme/shop@*");
        assert_eq!(hint("package", &package).unwrap(), "acme/shop@*");
        assert_eq!(hint("issues", &package), None);
        assert_eq!(hint("push", &json!({ "ref": "refs/heads/main", "repository": { "full_name": "a b" } })), None);
        assert_eq!(hint("push", &json!({ "ref": "refs/heads/main" })), None);
        assert!(read_hint("push", b"payload=%7B%7D").is_err());
        assert!(read_hint("push", b"[]").is_err());
    }
}
