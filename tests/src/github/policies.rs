//! What an organization asks of everybody who reads its repositories: an address on its list, single sign-on.
//!
//! Deliberately not here: enterprises, and lists of allowed applications.

use std::net::IpAddr;

use axum::http::{HeaderName, StatusCode};

use super::caller::Caller;
use super::error::ApiError;
use super::hosted_repository::RepoRef;
use super::state::{GithubState, OrganizationPolicy};
use super::tokens::TokenKind;

fn refuses(policy: &OrganizationPolicy, caller: &Caller, peer: IpAddr) -> bool {
    let Caller::Token { token, .. } = caller else { return false };
    match policy {
        OrganizationPolicy::IpAllowList(allowed) => !allowed.contains(&peer),
        OrganizationPolicy::SingleSignOn => !matches!(token.kind, TokenKind::Installation(_)),
    }
}

impl GithubState {
    fn refusing_policy(&self, caller: &Caller, repo: &RepoRef, peer: IpAddr) -> Option<(&str, &OrganizationPolicy)> {
        let owner = &self.repository(repo)?.owner;
        let policy = self.policies.get(&owner.to_ascii_lowercase())?;
        refuses(policy, caller, peer).then_some((owner, policy))
    }

    /// In the API's words.
    pub(super) fn check_policy(&self, caller: &Caller, repo: &RepoRef, peer: IpAddr) -> Result<(), ApiError> {
        let Some((owner, policy)) = self.refusing_policy(caller, repo, peer) else { return Ok(()) };
        match policy {
            OrganizationPolicy::IpAllowList(_) => {
                let message = format!(
                    "Although you appear to have the correct authorization credentials, the `{owner}` organization has an IP \
                     allow list enabled, and your IP address is not permitted to access this resource."
                );
                Err(ApiError::new(StatusCode::FORBIDDEN, message))
            }
            OrganizationPolicy::SingleSignOn => {
                let message = "Resource protected by organization SAML enforcement. You must grant your Personal Access \
                               token access to this organization.";
                let url = format!("required; url=https://github.com/orgs/{owner}/sso?authorization_request=AZSCKL");
                let headers = vec![(HeaderName::from_static("x-github-sso"), url)];
                Err(ApiError { headers, ..ApiError::new(StatusCode::FORBIDDEN, message) })
            }
        }
    }

    /// In the git server's words.
    pub(super) fn git_policy(&self, caller: &Caller, repo: &RepoRef, peer: IpAddr) -> Result<(), String> {
        let Some((owner, policy)) = self.refusing_policy(caller, repo, peer) else { return Ok(()) };
        Err(match policy {
            OrganizationPolicy::IpAllowList(_) => format!(
                "The repository owner has an IP allow list enabled, and {peer} is not permitted to access this repository."
            ),
            OrganizationPolicy::SingleSignOn => format!(
                "The `{owner}' organization has enabled or enforced SAML SSO. To access this repository, you must \
                 re-authorize your personal access token."
            ),
        })
    }
}
