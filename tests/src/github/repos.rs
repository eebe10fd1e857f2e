//! Repositories: the record, a commit of it, and the redirect after a rename.
//!
//! Deliberately not here: GitHub's JSON of them (`shapes`).

use axum::http::{Method, StatusCode, header};
use serde_json::json;

use super::caller::Caller;
use super::error::{ApiError, Reply};
use super::hosted_repository::RepoRef;
use super::permissions::Needs;
use super::route::Endpoint;
use super::shapes;
use super::state::GithubState;

impl GithubState {
    /// `GET /repos/{owner}/{repo}`
    pub(super) fn get_repository(&self, caller: &Caller, repo: &RepoRef, needs: Needs) -> Result<Reply, ApiError> {
        Ok(Reply::ok(&shapes::full_repository(self.authorize(caller, repo, needs)?)))
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
        Ok(Reply::ok(&shapes::commit(repository, sha)))
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
        // The App itself, which has no permissions, sees what it's installed on.
        match caller {
            Caller::App(_) => self.installations.values().find(|one| one.repositories.contains(&id)).map(drop)?,
            _ => self.authorize(caller, &RepoRef::Id(id), Endpoint::Get.needs()?).ok().map(drop)?,
        }
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
