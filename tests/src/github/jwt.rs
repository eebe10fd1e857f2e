//! The GitHub App's key, and the verification of the JSON web tokens it signs.
//!
//! Deliberately not here: any algorithm but RS256, which is the only one GitHub takes.

use std::process::Command;

use anyhow::{Context as _, anyhow, ensure};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs1KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

use super::error::ApiError;

/// GitHub refuses a token that lives longer than this from now.
const MAX_LIFETIME_SECS: f64 = 600.0;

const UNDECODABLE: &str = "A JSON web token could not be decoded";
const EXPIRED: &str = "'Expiration time' claim ('exp') must be a numeric value representing the future time at which \
                       the assertion expires";
const TOO_FAR: &str = "'Expiration time' claim ('exp') is too far in the future";
const ISSUED_AT: &str =
    "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued";

/// The app's RSA key.
pub(super) struct AppKey {
    pem: String,
    public_der: Vec<u8>,
}

impl AppKey {
    /// A fresh one. ring can't make RSA keys, so openssl does.
    pub(super) fn generate() -> anyhow::Result<Self> {
        let made = Command::new("openssl").args(["genrsa", "-traditional", "2048"]).output().context("run openssl")?;
        ensure!(made.status.success(), "openssl genrsa: {}", String::from_utf8_lossy(&made.stderr));
        Self::new(String::from_utf8(made.stdout)?)
    }

    /// One that somebody has made: PEM, PKCS#1.
    pub(super) fn new(pem: String) -> anyhow::Result<Self> {
        let der = PrivatePkcs1KeyDer::from_pem_slice(pem.as_bytes())?;
        let pair = RsaKeyPair::from_der(der.secret_pkcs1_der())
            .map_err(|error| anyhow!("ring rejects the app's key: {error}"))?;
        Ok(Self { pem, public_der: pair.public_key().as_ref().to_vec() })
    }

    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// PKCS#1 `RSAPublicKey`, the form ring verifies with.
    pub(super) fn public_der(&self) -> &[u8] {
        &self.public_der
    }
}

/// Who may sign, and what time it is.
pub(super) struct Verifier<'a> {
    pub public_der: &'a [u8],
    pub app_id: u64,
    pub client_id: &'a str,
    /// Unix seconds by the stand-in's clock.
    pub now: i64,
}

impl Verifier<'_> {
    /// Answers as GitHub does: the first rule that is broken gives the message.
    pub(super) fn verify(&self, token: &str) -> Result<(), ApiError> {
        let undecodable = || ApiError::new(StatusCode::UNAUTHORIZED, UNDECODABLE);
        let (signed, signature) = token.rsplit_once('.').ok_or_else(undecodable)?;
        let (header, claims) = signed.split_once('.').ok_or_else(undecodable)?;
        let header = decode(header).ok_or_else(undecodable)?;
        let claims = decode(claims).ok_or_else(undecodable)?;
        if header["alg"] != "RS256" {
            return Err(undecodable());
        }
        self.check_issuer(&claims["iss"])?;

        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| undecodable())?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.public_der)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| undecodable())?;
        self.check_times(&claims)
    }

    fn check_issuer(&self, issuer: &Value) -> Result<(), ApiError> {
        let issuer = match issuer {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => {
                let message = "'Issuer' claim ('iss') must be an Integer";
                return Err(ApiError::new(StatusCode::UNAUTHORIZED, message));
            }
        };
        if issuer == self.client_id || issuer == self.app_id.to_string() {
            Ok(())
        } else {
            Err(ApiError::new(StatusCode::NOT_FOUND, "Integration not found"))
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "seconds of our era fit into 53 bits")]
    fn check_times(&self, claims: &Value) -> Result<(), ApiError> {
        let refuse = |message| Err(ApiError::new(StatusCode::UNAUTHORIZED, message));
        let now = self.now as f64;
        match claims["exp"].as_f64() {
            Some(expires) if expires > now + MAX_LIFETIME_SECS => return refuse(TOO_FAR),
            Some(expires) if expires > now => {}
            _ => return refuse(EXPIRED),
        }
        match claims["iat"].as_i64() {
            Some(issued) if issued <= self.now => Ok(()),
            _ => refuse(ISSUED_AT),
        }
    }
}

/// A JSON web token with these claims, signed by the key (PEM, PKCS#1).
///
/// # Errors
/// When the key can't sign.
pub fn sign_web_token(pem: &str, claims: &Value) -> anyhow::Result<String> {
    let der = PrivatePkcs1KeyDer::from_pem_slice(pem.as_bytes())?;
    let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).map_err(|error| anyhow!("{error}"))?;
    let header = json!({ "alg": "RS256", "typ": "JWT" }).to_string();
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut signature = vec![0; pair.public().modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
        .map_err(|_| anyhow!("the token can't be signed"))?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

fn decode(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}
