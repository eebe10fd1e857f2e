//! Actions secrets of a repository. A value is accepted only as a sealed box that opens with the repository's key.
//!
//! Deliberately not here: secrets of organisations and environments.

use axum::http::header;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::caller::Caller;
use super::error::{ApiError, Reply, required};
use super::hosted_repository::{HostedRepository, RepoRef, StoredSecret};
use super::permissions::Needs;
use super::shapes;
use super::state::{GithubState, SecretWrite};

const MAX_VALUE_BYTES: usize = 48 * 1024;
const MAX_SECRETS: usize = 100;
const NAME_RULE: &str = "Secret names can only contain alphanumeric characters ([a-z], [A-Z], [0-9]) or underscores \
                         (_). Spaces are not allowed. Must start with a letter ([a-z], [A-Z]) or underscores (_).";
const BASE64_RULE: &str = "/^(?:[A-Za-z0-9+\\/]{4})*(?:[A-Za-z0-9+\\/]{2}==|[A-Za-z0-9+\\/]{3}=|[A-Za-z0-9+\\/]{4})$/";
const NOT_SEALED: &str = "Bad request - validation failed due to an improperly encrypted secret";

/// Whether a query names no other `value` than this one for `name`.
pub(super) fn is_wanted(query: &str, name: &str, value: &str) -> bool {
    query.split('&').filter_map(|pair| pair.split_once('=')).all(|(key, wanted)| key != name || wanted == value)
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListPage {
    number: usize,
    size: usize,
}

impl ListPage {
    /// Out of a query; GitHub forgives nonsense and takes at most 100 a page.
    pub(super) fn of(query: &str) -> Self {
        let value = |name: &str| {
            query
                .split('&')
                .filter_map(|pair| pair.split_once('='))
                .find(|(key, _)| *key == name)
                .and_then(|(_, value)| value.parse::<usize>().ok())
                .filter(|value| *value > 0)
        };
        Self { number: value("page").unwrap_or(1), size: value("per_page").unwrap_or(30).min(100) }
    }

    pub(super) fn of_items<T>(self, items: impl Iterator<Item = T>) -> Vec<T> {
        items.skip((self.number - 1).saturating_mul(self.size)).take(self.size).collect()
    }

    /// The `link` header, when there is more than one page.
    pub(super) fn links(self, total: usize, url: &str) -> Option<String> {
        let last = total.div_ceil(self.size).max(1);
        let link = |number: usize, rel: &str| format!("<{url}?per_page={}&page={number}>; rel=\"{rel}\"", self.size);
        let mut links = Vec::new();
        if self.number > 1 {
            links.push(link(self.number - 1, "prev"));
            links.push(link(1, "first"));
        }
        if self.number < last {
            links.push(link(self.number + 1, "next"));
            links.push(link(last, "last"));
        }
        (!links.is_empty()).then(|| links.join(", "))
    }
}

impl GithubState {
    /// `GET …/actions/secrets/public-key`
    pub(super) fn public_key(&self, caller: &Caller, repo: &RepoRef, needs: Needs) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        Ok(Reply::ok(&json!({ "key_id": repository.key_id, "key": repository.public_key_base64() })))
    }

    /// `GET …/actions/secrets`; `url` is the list's own, for its links.
    pub(super) fn list_secrets(
        &self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        page: ListPage,
        url: &str,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        let total = repository.secrets.len();
        let listed = page.of_items(repository.secrets.iter().map(|(name, secret)| describe(name, secret)));
        let reply = Reply::ok(&json!({ "total_count": total, "secrets": listed }));
        Ok(match page.links(total, url) {
            Some(links) => reply.with_header(header::LINK, links),
            None => reply,
        })
    }

    /// `GET …/actions/secrets/{name}`
    pub(super) fn get_secret(
        &self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        name: &str,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        let name = name.to_ascii_uppercase();
        let secret = repository.secrets.get(&name).ok_or_else(ApiError::not_found)?;
        Ok(Reply::ok(&describe(&name, secret)))
    }

    /// `PUT …/actions/secrets/{name}`
    pub(super) fn put_secret(
        &mut self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        name: &str,
        body: &Value,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        repository.ensure_writable()?;
        check_name(name)?;
        let value = open(repository, body)?;
        let (id, full_name, at) = (repository.id, repository.full_name(), self.timestamp());
        // GitHub stores and compares names in capitals.
        let name = name.to_ascii_uppercase();

        let repository = self.repositories.get_mut(&id).ok_or_else(ApiError::not_found)?;
        let before = repository.secrets.get(&name).map(|secret| secret.created_at);
        if before.is_none() && repository.secrets.len() >= MAX_SECRETS {
            return Err(ApiError::invalid(format!("A repository can't have more than {MAX_SECRETS} secrets.")));
        }
        let secret = StoredSecret { value, created_at: before.unwrap_or(at), updated_at: at };
        repository.secrets.insert(name.clone(), secret);
        let created = before.is_none();
        self.secret_writes.push(SecretWrite { at, repository: full_name, name, created });
        Ok(if created { Reply::created(&json!({})) } else { Reply::no_content() })
    }

    /// `DELETE …/actions/secrets/{name}`
    pub(super) fn delete_secret(
        &mut self,
        caller: &Caller,
        repo: &RepoRef,
        needs: Needs,
        name: &str,
    ) -> Result<Reply, ApiError> {
        let repository = self.authorize(caller, repo, needs)?;
        repository.ensure_writable()?;
        let id = repository.id;
        let repository = self.repositories.get_mut(&id).ok_or_else(ApiError::not_found)?;
        repository.secrets.remove(&name.to_ascii_uppercase()).ok_or_else(ApiError::not_found)?;
        Ok(Reply::no_content())
    }
}

fn describe(name: &str, secret: &StoredSecret) -> Value {
    json!({
        "name": name,
        "created_at": shapes::time(secret.created_at),
        "updated_at": shapes::time(secret.updated_at),
    })
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let mut characters = name.chars();
    let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(ApiError::invalid(NAME_RULE));
    }
    if name.to_ascii_uppercase().starts_with("GITHUB_") {
        return Err(ApiError::invalid("Secret names must not start with GITHUB_."));
    }
    Ok(())
}

/// The plain value, if it was sealed for this repository's present key.
fn open(repository: &HostedRepository, body: &Value) -> Result<String, ApiError> {
    let encrypted = required(body, "encrypted_value")?;
    let key_id = required(body, "key_id")?;
    let sealed = STANDARD
        .decode(encrypted)
        .ok()
        .filter(|sealed| !sealed.is_empty())
        .ok_or_else(|| ApiError::invalid_request(&format!("{encrypted} does not match {BASE64_RULE}.")))?;
    if key_id != repository.key_id {
        return Err(ApiError::invalid("Bad request - the key_id is not that of the repository's public key"));
    }
    let value = repository.key.unseal(&sealed).map_err(|_| ApiError::invalid(NOT_SEALED))?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(ApiError::invalid("Secret value is too large: it can't be more than 48 KB."));
    }
    String::from_utf8(value).map_err(|_| ApiError::invalid(NOT_SEALED))
}
