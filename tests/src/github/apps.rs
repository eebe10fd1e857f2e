//! The app's own endpoints: itself, its installation on a repository, and the tokens of an installation.
//!
//! Deliberately not here: listing installations, and tokens scoped to a user.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::caller::{Caller, suspended};
use super::error::{ApiError, Reply};
use super::hosted_repository::RepoRef;
use super::permissions::{Level, Permissions};
use super::random::{alphanumeric, random};
use super::shapes;
use super::state::{GithubState, Installation};
use super::tokens::{Token, TokenKind};

const TOKEN_LIFETIME_SECS: i64 = 3600;

/// Installation tokens have two forms; the long one has been GitHub's default since the summer of 2026.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenForm {
    /// 40 characters.
    Opaque,
    /// `ghs_<app id>_<JSON web token>`, some 520 characters with two dots.
    Stateless,
}

/// Only the app may ask, with a JSON web token.
fn require_app(caller: &Caller) -> Result<(), ApiError> {
    match caller {
        Caller::App(_) => Ok(()),
        _ => Err(ApiError::new(StatusCode::UNAUTHORIZED, "A JSON web token could not be decoded")),
    }
}

impl GithubState {
    /// `GET /app`
    pub(super) fn get_app(&self, caller: &Caller) -> Result<Reply, ApiError> {
        require_app(caller)?;
        let app = &self.app;
        Ok(Reply::ok(&json!({
            "id": app.id,
            "client_id": app.client_id,
            "node_id": shapes::node_id("A", app.id),
            "slug": app.slug,
            "name": app.slug,
            "owner": shapes::account("slipway"),
            "description": null,
            "external_url": "https://slipway.example.org",
            "html_url": format!("https://github.com/apps/{}", app.slug),
            "created_at": shapes::BIRTH,
            "updated_at": shapes::BIRTH,
            "permissions": {},
            "events": ["push"],
            "installations_count": self.installations.len(),
        })))
    }

    /// `GET /repos/{owner}/{repo}/installation`
    pub(super) fn get_installation(&self, caller: &Caller, repo: &RepoRef) -> Result<Reply, ApiError> {
        require_app(caller)?;
        let repository = self.repository(repo).ok_or_else(ApiError::not_found)?;
        let installation = self
            .installations
            .values()
            .find(|installation| installation.repositories.contains(&repository.id))
            .ok_or_else(ApiError::not_found)?;
        Ok(Reply::ok(&json!({
            "id": installation.id,
            "app_id": self.app.id,
            "client_id": self.app.client_id,
            "app_slug": self.app.slug,
            "target_type": "Organization",
            "target_id": 7_000_001,
            "account": shapes::account(&installation.account),
            "repository_selection": "selected",
            "access_tokens_url": format!("https://api.github.com/app/installations/{}/access_tokens", installation.id),
            "repositories_url": "https://api.github.com/installation/repositories",
            "html_url": format!("https://github.com/organizations/{}/settings/installations/{}", installation.account, installation.id),
            "permissions": permissions_json(&installation.permissions),
            "events": ["push"],
            "single_file_name": null,
            "created_at": shapes::BIRTH,
            "updated_at": shapes::BIRTH,
            "suspended_by": installation.suspended_at.map(|_| shapes::account(&installation.account)),
            "suspended_at": installation.suspended_at.map(shapes::time),
        })))
    }

    /// `POST /app/installations/{id}/access_tokens`
    pub(super) fn create_token(
        &mut self,
        caller: &Caller,
        id: u64,
        body: &Value,
        form: TokenForm,
    ) -> Result<Reply, ApiError> {
        require_app(caller)?;
        let installation = self.installations.get(&id).ok_or_else(ApiError::not_found)?;
        if installation.suspended_at.is_some() {
            return Err(suspended());
        }
        let repositories = self.chosen_repositories(installation, body)?;
        let permissions = chosen_permissions(installation, body)?;

        let expires_at = self.now() + TOKEN_LIFETIME_SECS;
        let expires = Timestamp::from_second(expires_at).unwrap_or(Timestamp::MAX).to_string();
        let secret = new_installation_token(form, self.app.id, id, expires_at);
        let mut answer = json!({
            "token": secret,
            "expires_at": expires,
            "permissions": permissions_json(&permissions),
            "repository_selection": "selected",
        });
        if let Some(chosen) = &repositories {
            let listed = chosen.iter().filter_map(|id| self.repositories.get(id)).map(shapes::full_repository);
            answer["repositories"] = listed.collect();
        }
        let token = Token {
            kind: TokenKind::Installation(id),
            account: id,
            repositories,
            permissions,
            scopes: Vec::new(),
            expires_at: Some(expires_at),
        };
        self.tokens_minted.push(secret.clone());
        self.tokens.insert(secret, token);
        Ok(Reply::created(&answer))
    }

    /// `DELETE /installation/token`
    pub(super) fn revoke_token(&mut self, caller: &Caller) -> Result<Reply, ApiError> {
        match caller {
            Caller::Token { secret, token } if matches!(token.kind, TokenKind::Installation(_)) => {
                self.tokens.remove(secret);
                Ok(Reply::no_content())
            }
            Caller::Anonymous(_) => Err(ApiError::new(StatusCode::UNAUTHORIZED, "Requires authentication")),
            _ => Err(ApiError::new(StatusCode::FORBIDDEN, "Resource not accessible by personal access token")),
        }
    }

    /// By name, without the owner, or by id. `None` is all of the installation's, and so is an empty list: a trap that
    /// GitHub really sets.
    fn chosen_repositories(
        &self,
        installation: &Installation,
        body: &Value,
    ) -> Result<Option<BTreeSet<u64>>, ApiError> {
        let refuse = || {
            ApiError::invalid(
                "There is at least one repository that does not exist or is not accessible to the parent installation.",
            )
        };
        let names = list(body, "repositories")?;
        let ids = list(body, "repository_ids")?;
        if names.is_empty() && ids.is_empty() {
            return Ok(None);
        }
        let mut chosen = BTreeSet::new();
        for name in names {
            let name = name.as_str().ok_or_else(refuse)?;
            let found = self.by_name(&installation.account, name).ok_or_else(refuse)?;
            chosen.insert(found.id);
        }
        for id in ids {
            chosen.insert(id.as_u64().ok_or_else(refuse)?);
        }
        if chosen.is_subset(&installation.repositories) { Ok(Some(chosen)) } else { Err(refuse()) }
    }
}

fn list<'a>(body: &'a Value, field: &str) -> Result<&'a [Value], ApiError> {
    match &body[field] {
        Value::Null => Ok(&[]),
        Value::Array(items) if items.len() <= 500 => Ok(items),
        Value::Array(_) => Err(ApiError::invalid("No more than 500 repositories can be named.")),
        other => Err(ApiError::invalid_request(&format!("For 'properties/{field}', {other} is not an array."))),
    }
}

/// No more than the installation has; none named is all.
fn chosen_permissions(installation: &Installation, body: &Value) -> Result<Permissions, ApiError> {
    let asked = match &body["permissions"] {
        Value::Null => return Ok(installation.permissions.clone()),
        Value::Object(asked) => asked,
        other => {
            return Err(ApiError::invalid_request(&format!("For 'properties/permissions', {other} is not an object.")));
        }
    };
    let mut chosen = Permissions::from([("metadata".to_owned(), Level::Read)]);
    for (name, level) in asked {
        let level = level.as_str().and_then(Level::parse);
        match (level, installation.permissions.get(name)) {
            (Some(level), Some(granted)) if level <= *granted => {
                chosen.insert(name.clone(), level);
            }
            _ => {
                return Err(ApiError::invalid("The permissions requested are not granted to this installation."));
            }
        }
    }
    Ok(chosen)
}

fn permissions_json(permissions: &Permissions) -> Value {
    permissions.iter().map(|(name, level)| (name.clone(), Value::from(level.name()))).collect()
}

fn new_installation_token(form: TokenForm, app: u64, installation: u64, expires_at: i64) -> String {
    match form {
        TokenForm::Opaque => format!("ghs_{}", alphanumeric::<36>()),
        TokenForm::Stateless => {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let header = part(&json!({ "alg": "RS256", "typ": "JWT" }));
            let claims = part(
                &json!({ "app": app, "installation": installation, "exp": expires_at, "jti": alphanumeric::<16>() }),
            );
            format!("ghs_{app}_{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(random::<256>()))
        }
    }
}
