//! Who asks, and what they may do.
//!
//! Deliberately not here: organizations' policies (`policies`), and OAuth apps.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::ApiError;
use super::hosted_repository::{HostedRepository, RepoRef};
use super::jwt::Verifier;
use super::limits::Bucket;
use super::permissions::{Level, Needs};
use super::state::GithubState;
use super::tokens::{Token, TokenKind};

/// Who sent a request.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    Anonymous(IpAddr),
    App(u64),
    /// The secret is kept for `DELETE /installation/token` alone.
    Token {
        secret: String,
        token: Token,
    },
}

impl Caller {
    pub(super) fn bucket(&self) -> Bucket {
        match self {
            Self::Anonymous(addr) => Bucket::Address(*addr),
            Self::App(id) => Bucket::App(*id),
            Self::Token { token, .. } => match token.kind {
                TokenKind::Installation(id) => Bucket::Installation(id),
                TokenKind::Classic | TokenKind::FineGrained => Bucket::User(token.account),
            },
        }
    }

    /// For the logs: the kind, never the token.
    pub(super) fn label(&self) -> String {
        match self {
            Self::Anonymous(_) => "anonymous".to_owned(),
            Self::App(_) => "app".to_owned(),
            Self::Token { token, .. } => match token.kind {
                TokenKind::Installation(id) => format!("installation {id}"),
                TokenKind::Classic => "classic token".to_owned(),
                TokenKind::FineGrained => "fine-grained token".to_owned(),
            },
        }
    }
}

/// What an `Authorization` header carries.
pub(super) enum Credential {
    None,
    Bearer(String),
    Token(String),
    Malformed,
}

impl Credential {
    /// Basic takes the token as password, or as user name when the password is empty or `x-oauth-basic`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Self::None;
        };
        let Some((scheme, rest)) = value.to_str().ok().and_then(|value| value.split_once(' ')) else {
            return Self::Malformed;
        };
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => Self::Bearer(rest.trim().to_owned()),
            "token" => Self::Token(rest.trim().to_owned()),
            "basic" => basic(rest.trim()).map_or(Self::Malformed, Self::Token),
            _ => Self::Malformed,
        }
    }
}

fn basic(encoded: &str) -> Option<String> {
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let token = if password.is_empty() || password == "x-oauth-basic" { user } else { password };
    Some(token.to_owned())
}

impl GithubState {
    /// Who sent a request to the API with these headers.
    pub(super) fn authenticate(&self, credential: Credential, peer: IpAddr) -> Result<Caller, ApiError> {
        match credential {
            Credential::None => Ok(Caller::Anonymous(peer)),
            // A JSON web token is three parts with dots; so is an installation token, but that has its prefix.
            Credential::Bearer(jwt) if jwt.contains('.') && !jwt.starts_with("ghs_") => {
                let app = &self.app;
                let (public_der, client_id) = (app.public_der.as_slice(), app.client_id.as_str());
                Verifier { public_der, app_id: app.id, client_id, now: self.now() }.verify(&jwt)?;
                Ok(Caller::App(app.id))
            }
            Credential::Bearer(secret) | Credential::Token(secret) => self.token_caller(secret),
            Credential::Malformed => Err(ApiError::bad_credentials()),
        }
    }

    /// The holder of a token that still works.
    pub(super) fn token_caller(&self, secret: String) -> Result<Caller, ApiError> {
        let token = self.tokens.get(&secret).ok_or_else(ApiError::bad_credentials)?.clone();
        if token.expires_at.is_some_and(|expires| expires <= self.now()) {
            return Err(ApiError::bad_credentials());
        }
        if let TokenKind::Installation(id) = token.kind {
            let installation = self.installations.get(&id).ok_or_else(ApiError::bad_credentials)?;
            if installation.suspended_at.is_some() {
                return Err(suspended());
            }
        }
        Ok(Caller::Token { secret, token })
    }

    /// Whether the caller's token was given this repository, apart from what anybody may see.
    fn covers(&self, caller: &Caller, repository: &HostedRepository) -> bool {
        let Caller::Token { token, .. } = caller else {
            return false;
        };
        let chosen = token.repositories.as_ref().is_none_or(|chosen| chosen.contains(&repository.id));
        chosen
            && match token.kind {
                TokenKind::Installation(id) => self
                    .installations
                    .get(&id)
                    .is_some_and(|installation| installation.repositories.contains(&repository.id)),
                TokenKind::FineGrained => true,
                TokenKind::Classic => {
                    let has = |scope: &str| token.scopes.iter().any(|given| given == scope);
                    has("repo") || has("repo_deployment") || (has("public_repo") && !repository.private)
                }
            }
    }

    fn level(&self, caller: &Caller, permission: &str) -> Option<Level> {
        let Caller::Token { token, .. } = caller else {
            return None;
        };
        match token.kind {
            TokenKind::Installation(id) => self.installation_level(id, token, permission),
            TokenKind::FineGrained => token.permissions.get(permission).copied(),
            TokenKind::Classic => {
                let repo = token.scopes.iter().any(|scope| scope == "repo" || scope == "public_repo");
                (repo || permission == "deployments" || permission == "metadata").then_some(Level::Write)
            }
        }
    }

    /// The repository, if the caller may do this to it: 404 when it mayn't even know of it, 403 when it may.
    pub(super) fn authorize(
        &self,
        caller: &Caller,
        name: &RepoRef,
        needs: Needs,
    ) -> Result<&HostedRepository, ApiError> {
        let repository = self.repository(name).ok_or_else(ApiError::not_found)?;
        let covered = self.covers(caller, repository);
        if repository.private && !covered {
            return Err(ApiError::not_found());
        }
        let open = !repository.private && needs.level == Level::Read && needs.permission != "secrets";
        let granted = covered && self.level(caller, needs.permission) >= Some(needs.level);
        if open || granted {
            return Ok(repository);
        }
        let message = match caller {
            Caller::Anonymous(_) => {
                return Err(ApiError::new(StatusCode::UNAUTHORIZED, "Requires authentication"));
            }
            Caller::App(_) => "Resource not accessible by integration",
            Caller::Token { token, .. } => match token.kind {
                TokenKind::Installation(_) => "Resource not accessible by integration",
                TokenKind::FineGrained => "Resource not accessible by personal access token",
                TokenKind::Classic => return Err(ApiError::not_found()),
            },
        };
        Err(ApiError::new(StatusCode::FORBIDDEN, message))
    }
}

/// GitHub's answer to anything in the name of a suspended installation.
pub(super) fn suspended() -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "This installation has been suspended")
}
