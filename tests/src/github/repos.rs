//! Repositories: the record, a commit of it, and the redirect after a rename.
//!
//! Deliberately not here: the rest of GitHub's hundred fields; Slipway reads a handful.

use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{ApiError, Reply};
use super::hosted_repository::{HostedRepository, RepoRef};
use super::permissions::Needs;
use super::route::Endpoint;
use super::state::GithubState;

/// GitHub's JSON of a repository.
pub(super) fn describe(repository: &HostedRepository) -> Value {
    let full_name = repository.full_name();
    json!({
        "id": repository.id,
        "name": repository.name,
        "full_name": full_name,
        "owner": { "login": repository.owner, "type": "Organization" },
        "private": repository.private,
        "visibility": if repository.private { "private" } else { "public" },
        "html_url": format!("https://github.com/{full_name}"),
        "clone_url": format!("https://github.com/{full_name}.git"),
        "url": format!("https://api.github.com/repos/{full_name}"),
        "default_branch": repository.default_branch,
        "archived": repository.archived,
        "disabled": false,
    })
}

impl GithubState {
    /// `GET /repos/{owner}/{repo}`
    pub(super) fn get_repository(&self, caller: &Caller, repo: &RepoRef, needs: Needs) -> Result<Reply, ApiError> {
        Ok(Reply::ok(&describe(self.authorize(caller, repo, needs)?)))
    }

    /// `GET /repos/{owner}/{repo}/commits/{ref}`, where `sha` is what the reference was found to be.
    pub(super) fn get_commit(
        &self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        reference: &str,
        sha: Option<&str>,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        let sha = sha.ok_or_else(|| ApiError::invalid(format!("No commit found for SHA: {reference}")))?;
        let url = format!("https://api.github.com/repos/{}/commits/{sha}", repository.full_name());
        Ok(Reply::ok(&json!({ "sha": sha, "url": url })))
    }

    /// Where a name that a repository had before leads, if the caller may see it.
    pub(super) fn redirect(
        &self,
        caller: &Caller,
        method: &Method,
        repo: &RepoRef,
        base: &str,
        path: &str,
    ) -> Option<Reply> {
        let RepoRef::Name(owner, name) = repo else {
            return None;
        };
        if self.by_name(owner, name).is_some() {
            return None;
        }
        let id = self.by_former_name(owner, name)?.id;
        self.authorize(caller, &RepoRef::Id(id), Endpoint::Get.needs()?).ok()?;
        let rest = path.strip_prefix(&format!("/repos/{owner}/{name}"))?;
        let url = format!("{base}/repositories/{id}{rest}");
        // Other methods must come again as they are, with their body.
        let (status, message) = match *method {
            Method::GET => (StatusCode::MOVED_PERMANENTLY, "Moved Permanently"),
            _ => (StatusCode::TEMPORARY_REDIRECT, "Temporary Redirect"),
        };
        let docs = "https://docs.github.com/rest/guides/best-practices-for-using-the-rest-api#follow-redirects";
        let body = json!({ "message": message, "url": url, "documentation_url": docs });
        Some(Reply::json(status, &body).with_header(header::LOCATION, url))
    }
}
