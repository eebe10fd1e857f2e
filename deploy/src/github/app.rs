//! The GitHub App: its JSON web token, signed with ring, and tokens of its installation on one repository.
//!
//! Deliberately not here: keeping tokens (`token`).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use slipway_protocol::ErrorCode;
use slipway_protocol::names::RepositoryName;

use super::api::{ApiCall, ApiClient};
use super::retry;
use super::token::{IssuedToken, TokenScope};
use crate::StageError;

/// Seconds that the token is dated back, for a clock that is ahead of GitHub's.
const BACKDATED: i64 = 60;
/// GitHub refuses more than ten minutes.
const LIFETIME: i64 = 9 * 60;
/// A token that was refused is signed once more when GitHub's clock turns out to differ by more.
const OWN_CLOCK_MAY_DIFFER: SignedDuration = SignedDuration::from_secs(5);

pub(super) struct GithubApp {
    id: String,
    key: KeyPair,
}

#[derive(Deserialize)]
struct Installation {
    id: u64,
    suspended_at: Option<Value>,
}

#[derive(Deserialize)]
struct AccessToken {
    token: String,
    expires_at: Timestamp,
}

impl GithubApp {
    /// Reads the key: PEM, PKCS#1 as GitHub hands it out, or PKCS#8.
    pub(super) fn new(id: &str, private_key: &SecretString) -> Result<Self, StageError> {
        let refuse = |why: &str| {
            StageError::new(ErrorCode::GithubCredentialUnusable, format!("the GitHub App's private key {why}"))
        };
        let pem = private_key.expose_secret();
        let unread = if pem.contains("ENCRYPTED") {
            "is protected by a passphrase, which no worker can give"
        } else if pem.contains("\\n") {
            "has `\\n` where lines must end"
        } else {
            "isn't a private key in PEM form, or not a whole one"
        };
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| refuse(unread))? {
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(refuse("isn't an RSA key")),
        };
        let key = key.map_err(|_| refuse("isn't an RSA key of 2048 bits or more"))?;
        Ok(Self { id: id.trim().to_owned(), key })
    }

    /// A token for this repository and scope alone.
    pub(super) async fn mint(
        &self,
        api: &ApiClient,
        repository: &RepositoryName,
        scope: TokenScope,
    ) -> Result<IssuedToken, StageError> {
        let signed_at = api.now();
        let mut jwt = self.web_token(signed_at.as_second())?;
        let doing = format!("find the App's installation on {repository}");
        let path = format!("/repos/{repository}/installation");
        let ask = async |jwt: &SecretString| {
            let call = ApiCall::of_app(Method::GET, &path, jwt, None, &doing);
            retry::send(api, &call).await
        };
        let mut answered = ask(&jwt).await;
        // Refused for its times, perhaps: the answer has told what GitHub's clock says.
        let by_its_clock = api.now();
        if answered.as_ref().is_err_and(|error| error.code == ErrorCode::GithubCredentialRefused)
            && by_its_clock.duration_since(signed_at).abs() > OWN_CLOCK_MAY_DIFFER
        {
            jwt = self.web_token(by_its_clock.as_second())?;
            answered = ask(&jwt).await;
        }
        let answer = answered?;
        let installation: Installation = answer.read(&doing)?;
        if installation.suspended_at.is_some_and(|at| !at.is_null()) {
            let message = format!("the GitHub App's installation on {repository} is suspended");
            return Err(StageError::new(ErrorCode::GithubSuspended, message));
        }

        let (permission, level) = scope.permission();
        let mut body = json!({ "permissions": { permission: level } });
        // Names must be the present ones, so a renamed repository goes by its number.
        match renamed(&answer.path) {
            Some(number) => body["repository_ids"] = json!([number]),
            None => body["repositories"] = json!([repository.name()]),
        }
        let doing = format!("give out a token for {repository} ({permission}: {level})");
        let path = format!("/app/installations/{}/access_tokens", installation.id);
        let call = ApiCall::of_app(Method::POST, &path, &jwt, Some(&body), &doing);
        let answer = retry::send(api, &call).await.map_err(|error| grant_error(error, permission, level))?;
        let AccessToken { token, expires_at } = answer.read(&doing)?;
        Ok(IssuedToken { token: token.into(), expires_at })
    }

    /// RS256 over `{iat, exp, iss}`, RFC 7519; `now` in Unix seconds.
    fn web_token(&self, now: i64) -> Result<SecretString, StageError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = part(&json!({ "alg": "RS256", "typ": "JWT" }));
        let claims = part(&json!({ "iat": now - BACKDATED, "exp": now + LIFETIME, "iss": self.id }));
        let signed = format!("{header}.{claims}");
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| StageError::new(ErrorCode::InternalError, "the GitHub App's web token can't be signed"))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }
}

/// GitHub refuses a token as invalid (422) when the installation lacks the permission, or doesn't cover the repository.
fn grant_error(error: StageError, permission: &str, level: &str) -> StageError {
    if error.code != ErrorCode::GithubRefused {
        return error;
    }
    if error.message.contains("permissions requested") {
        let message = format!("{}; it needs {permission}: {level}", error.message);
        return StageError { code: ErrorCode::GithubForbidden, message, ..error };
    }
    StageError { code: ErrorCode::GithubNotInstalled, ..error }
}

/// The repository's number, when GitHub redirected to it because the name is an old one.
fn renamed(path: &str) -> Option<u64> {
    path.rsplit_once("/repositories/")?.1.strip_suffix("/installation")?.parse().ok()
}
