//! What the stand-in knows: the app, its installations, tokens, repositories, and the log of what was asked.
//!
//! Deliberately not here: persistence. Every test starts with an empty GitHub.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::SystemTime;

use crypto_box::SecretKey;
use crypto_box::aead::OsRng;
use jiff::Timestamp;
use serde_json::Value;

use super::faults::Faults;
use super::hosted_repository::{HostedRepository, RepoRef};
use super::limits::{Counters, RateLimits};
use super::permissions::{Level, Permissions};
use super::tokens::Token;

/// One request to the REST API, in the order of their answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestRequest {
    /// By the stand-in's clock.
    pub at: Timestamp,
    /// In capitals.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// The answer's; 0 when the connection was cut instead.
    pub status: u16,
    /// `app`, `installation 7`, `classic token`, `fine-grained token`, `anonymous` or `refused`; never a token.
    pub caller: String,
}

/// A request to the API with its answer, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptExchange {
    /// In capitals.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// What follows the question mark.
    pub query: String,
    /// Null where there was none.
    pub request: Value,
    /// The answer's.
    pub status: u16,
    /// Null where there was none.
    pub response: Value,
}

/// One request to the git server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRequest {
    /// By the stand-in's clock.
    pub at: Timestamp,
    /// `owner/name` as the client spelled it.
    pub repository: String,
    /// `git-upload-pack` or `git-receive-pack`.
    pub service: String,
    /// Whether this is the exchange itself and not the advertisement before it.
    pub exchange: bool,
    /// The answer's; 0 when the connection was cut instead.
    pub status: u16,
    /// As in [`RestRequest::caller`].
    pub caller: String,
}

/// One accepted write of an Actions secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretWrite {
    /// By the stand-in's clock.
    pub at: Timestamp,
    /// `owner/name` as GitHub spells it.
    pub repository: String,
    /// In capitals, as GitHub stores it.
    pub name: String,
    /// Whether the name was new.
    pub created: bool,
}

/// The GitHub App under test.
pub(super) struct RegisteredApp {
    pub id: u64,
    pub client_id: String,
    pub slug: String,
    /// PKCS#1 form.
    pub public_der: Vec<u8>,
}

/// The app's presence on one account.
pub(super) struct Installation {
    pub id: u64,
    pub account: String,
    pub repositories: BTreeSet<u64>,
    pub permissions: Permissions,
    pub suspended_at: Option<Timestamp>,
}

/// A rule of an organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrganizationPolicy {
    /// Only these addresses get in, with whatever token.
    IpAllowList(Vec<IpAddr>),
    /// People's tokens have to be authorized, and none is; installations needn't be.
    SingleSignOn,
}

/// Where the App wants its webhooks, and whether they arrive.
#[derive(Debug, Clone)]
pub(super) struct WebhookTarget {
    pub url: String,
    pub secret: String,
    pub lost: bool,
}

/// Everything, behind one lock.
pub(super) struct GithubState {
    pub app: RegisteredApp,
    pub installations: BTreeMap<u64, Installation>,
    pub tokens: HashMap<String, Token>,
    pub repositories: BTreeMap<u64, HostedRepository>,
    /// Lower-case full names that repositories had before.
    pub former_names: BTreeMap<String, u64>,
    pub limits: RateLimits,
    pub counters: Counters,
    pub faults: Faults,
    /// Where the App wants its webhooks.
    pub webhook: Option<WebhookTarget>,
    /// Every request with its answer, once a test wants them.
    pub exchanges: Option<Vec<KeptExchange>>,
    /// What organizations ask of everybody, by their lower-case names.
    pub policies: BTreeMap<String, OrganizationPolicy>,
    pub requests: Vec<RestRequest>,
    pub git_requests: Vec<GitRequest>,
    pub secret_writes: Vec<SecretWrite>,
    /// Oldest first, the revoked ones too.
    pub tokens_minted: Vec<String>,
    /// Seconds that the stand-in's clock is ahead.
    pub clock_offset: i64,
    last_id: u64,
}

impl GithubState {
    pub(super) fn new(public_der: Vec<u8>) -> Self {
        let app = RegisteredApp {
            id: 420_017,
            client_id: "Iv23liSlipwayStandIn".to_owned(),
            slug: "slipway".to_owned(),
            public_der,
        };
        Self {
            app,
            installations: BTreeMap::new(),
            tokens: HashMap::new(),
            repositories: BTreeMap::new(),
            former_names: BTreeMap::new(),
            limits: RateLimits::default(),
            counters: Counters::default(),
            faults: Faults::default(),
            webhook: None,
            exchanges: None,
            policies: BTreeMap::new(),
            requests: Vec::new(),
            git_requests: Vec::new(),
            secret_writes: Vec::new(),
            tokens_minted: Vec::new(),
            clock_offset: 0,
            last_id: 1000,
        }
    }

    /// One sequence for everything that GitHub numbers, so that a confusion of two kinds of id can't pass.
    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Unix seconds by the stand-in's clock.
    pub(super) fn now(&self) -> i64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX).saturating_add(self.clock_offset)
    }

    pub(super) fn timestamp(&self) -> Timestamp {
        Timestamp::from_second(self.now()).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn add_repository(&mut self, owner: &str, name: &str, default_branch: &str, private: bool) -> u64 {
        let id = self.next_id();
        let mut repository = HostedRepository {
            id,
            owner: owner.to_owned(),
            name: name.to_owned(),
            private,
            default_branch: default_branch.to_owned(),
            archived: false,
            key: SecretKey::generate(&mut OsRng),
            key_id: String::new(),
            secrets: BTreeMap::new(),
            statuses: Vec::new(),
            deployments: Vec::new(),
            runs: Vec::new(),
        };
        repository.rotate_key();
        self.repositories.insert(id, repository);
        id
    }

    /// The repository of that name, in whatever case.
    pub(super) fn by_name(&self, owner: &str, name: &str) -> Option<&HostedRepository> {
        self.repositories.values().find(|repository| {
            repository.owner.eq_ignore_ascii_case(owner) && repository.name.eq_ignore_ascii_case(name)
        })
    }

    pub(super) fn by_full_name(&self, full_name: &str) -> Option<&HostedRepository> {
        let (owner, name) = full_name.split_once('/')?;
        self.by_name(owner, name)
    }

    /// The repository that had that name before it was renamed; a new one of that name hides it.
    pub(super) fn by_former_name(&self, owner: &str, name: &str) -> Option<&HostedRepository> {
        let former = format!("{owner}/{name}").to_ascii_lowercase();
        self.repositories.get(self.former_names.get(&former)?)
    }

    pub(super) fn repository(&self, reference: &RepoRef) -> Option<&HostedRepository> {
        match reference {
            RepoRef::Id(id) => self.repositories.get(id),
            RepoRef::Name(owner, name) => self.by_name(owner, name),
        }
    }

    /// The least of what the app was granted and what the token asked for.
    pub(super) fn installation_level(&self, installation: u64, token: &Token, permission: &str) -> Option<Level> {
        let granted = *self.installations.get(&installation)?.permissions.get(permission)?;
        Some(granted.min(*token.permissions.get(permission)?))
    }
}
