//! The variables of a project's `.env`, each with where its value comes from. Which value a variable gets is decided in
//! `plan`.

use std::collections::{BTreeMap, BTreeSet};

use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::SecretString;
use slipway_protocol::names::VariableName;
use slipway_protocol::{ErrorCode, ProjectReady};

use super::contract::declaration::{Declaration, ValueSource};
use super::contract::merged::EnvContract;
use super::expression::{Expressions, expand, in_order};
use super::kept::{KeptVariables, OF_DATABASE};
use super::notes::{EnvNotes, digest_of};
use crate::StageError;
use crate::project::model::ComposeProject;

/// Length of generated values: 32 letters and digits are 190 bits.
const GENERATED_LENGTH: usize = 32;

/// With the request, openly or sealed.
const GIVEN: &[Origin] = &[Origin::Given, Origin::Sealed];

/// Where a variable's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A plain variable of the event.
    Given,
    /// A secret of the event.
    Sealed,
    /// An allocated port.
    Allocation,
    /// What this release is made of: image tags.
    Release,
    /// The project's contract says it.
    Literal,
    /// It was in the server's `.env` already.
    Kept,
    /// It follows from the event or the compose files.
    Derived,
    /// It was drawn at random, just now.
    Generated,
}

impl Origin {
    /// Whether a value comes from the request, its modules and allocations included, and goes with it. What a database was
    /// made with doesn't, though it was derived.
    fn is_the_requests(self, name: &str) -> bool {
        match self {
            Self::Given | Self::Sealed | Self::Release => true,
            Self::Allocation | Self::Derived => !OF_DATABASE.contains(&name),
            Self::Literal | Self::Kept | Self::Generated => false,
        }
    }

    /// The name, as in events and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Sealed => "sealed",
            Self::Allocation => "allocation",
            Self::Release => "release",
            Self::Literal => "literal",
            Self::Kept => "kept",
            Self::Derived => "derived",
            Self::Generated => "generated",
        }
    }
}

/// A variable as `compose config --variables` lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposeVariable {
    pub name: String,
    /// Whether compose refuses to go on without it.
    pub required: bool,
}

/// What the variables are decided from.
pub struct EnvInputs<'a> {
    pub request: &'a ProjectReady,
    /// The request's secrets, opened.
    pub secrets: &'a BTreeMap<VariableName, SecretString>,
    /// The variables on the server.
    pub kept: &'a KeptVariables,
    /// The variables in the compose files.
    pub compose_variables: &'a [ComposeVariable],
    pub project: &'a ComposeProject,
    /// What the project declares.
    pub contract: &'a EnvContract,
    /// Where it lies on the server.
    pub directory: &'a str,
    /// Where the slots of its services behind the front door are written; empty: it has none there.
    pub slots_file: &'a str,
    /// Its `.env.example`.
    pub example: &'a str,
    /// The image of each variable that [`super::plan::image_variables`] names.
    pub images: &'a BTreeMap<String, String>,
    /// Whether the database's volume exists: then its password can't be chosen any more.
    pub database_exists: bool,
}

/// The variables with their origins.
#[derive(Default)]
pub struct EnvPlan {
    pub(super) variables: BTreeMap<String, (String, Origin)>,
    /// What given values cover.
    pub(super) covered: BTreeMap<String, String>,
    covered_expressions: Expressions,
    pub(super) expressions: Expressions,
}

impl EnvPlan {
    /// The value and its origin.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<(&str, Origin)> {
        self.variables.get(name).map(|(value, origin)| (value.as_str(), *origin))
    }

    #[must_use]
    pub fn values(&self) -> BTreeMap<String, String> {
        self.variables.iter().map(|(name, (value, _))| (name.clone(), value.clone())).collect()
    }

    /// What stays as somebody has written it, with references to other variables.
    #[must_use]
    pub const fn expressions(&self) -> &Expressions {
        &self.expressions
    }

    /// What the file says about itself, by which a later deployment sees what is still as Slipway wrote it.
    #[must_use]
    pub fn notes(&self, contract: &EnvContract) -> EnvNotes {
        let literals = self.variables.iter().filter(|(_, (_, origin))| *origin == Origin::Literal);
        let given = self.variables.iter().filter(|(name, (_, origin))| origin.is_the_requests(name));
        EnvNotes {
            literals: literals.map(|(name, (value, _))| (name.clone(), value.clone())).collect(),
            drawn: contract.drawn(&self.values()),
            given: given.map(|(name, (value, _))| (name.clone(), digest_of(value))).collect(),
            covered: self.covered.clone(),
            covered_expressions: self.covered_expressions.clone(),
            expressions: self.expressions.clone(),
            of_unknown_origin: false,
        }
    }

    /// Names of all variables by their origin, never values.
    #[must_use]
    pub fn origins(&self) -> BTreeMap<&'static str, Vec<&str>> {
        let mut origins = BTreeMap::<_, Vec<_>>::new();
        for (name, (_, origin)) in &self.variables {
            origins.entry(origin.as_str()).or_default().push(name.as_str());
        }
        origins
    }

    /// Names of the variables that are secrets by their way here: sealed now, or `earlier` and not given openly since.
    /// Those that are gone stay among them: older containers still know their values.
    #[must_use]
    pub fn sealed(&self, earlier: &BTreeSet<String>) -> BTreeSet<String> {
        let is_sealed = |(name, (_, origin)): &(&String, &(String, Origin))| {
            *origin == Origin::Sealed || (*origin == Origin::Kept && earlier.contains(*name))
        };
        let gone = earlier.iter().filter(|name| !self.variables.contains_key(*name));
        self.variables.iter().filter(is_sealed).map(|(name, _)| name).chain(gone).cloned().collect()
    }

    /// Takes over what is on the server with references in it, and what was there before a request covered it.
    pub(super) fn keep_expressions(&mut self, kept: &KeptVariables) {
        let kept_values = self.variables.iter().filter(|(_, (_, origin))| *origin == Origin::Kept);
        let stay =
            kept_values.filter_map(|(name, (value, _))| Some((name.clone(), kept.expression(name, value)?.clone())));
        self.expressions = stay.collect();
        self.expand_kept();
    }

    /// What refers to others follows them.
    pub(super) fn expand_kept(&mut self) {
        for (name, text) in in_order(&self.expressions) {
            let expanded = expand(text, &|name| self.variables.get(name).map(|(value, _)| value.clone()));
            if let (Some(expanded), Some((value, _))) = (expanded, self.variables.get_mut(name)) {
                *value = expanded;
            }
        }
    }

    pub(super) fn note_covered(&mut self, kept: &KeptVariables) {
        let given = |name: &String| self.variables.get(name).is_some_and(|(_, origin)| GIVEN.contains(origin));
        let replaced = kept.of_database.iter().filter(|(name, value)| self.value(name) != Some(value));
        let covered = kept.to_cover.iter().chain(replaced).filter(|(name, _)| given(name));
        self.covered = covered.map(|(name, value)| (name.clone(), value.clone())).collect();
        let expression =
            |(name, value): (&String, &String)| Some((name.clone(), kept.expression(name, value)?.clone()));
        self.covered_expressions = self.covered.iter().filter_map(expression).collect();
    }

    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|(value, _)| value.as_str())
    }

    /// Sets what Slipway would choose by itself, unless the project declares that it comes from elsewhere.
    pub(super) fn derive(&mut self, contract: &EnvContract, name: &str, value: impl Into<String>) {
        let elsewhere = |d: &Declaration| d.is_secret() || matches!(d.source, ValueSource::Allocation(_));
        if !contract.declared(name).is_some_and(elsewhere) {
            self.set(name, value, Origin::Derived);
        }
    }

    /// Sets a variable unless it's set: those who set earlier win.
    pub(super) fn set(&mut self, name: &str, value: impl Into<String>, origin: Origin) {
        self.variables.entry(name.to_owned()).or_insert_with(|| (value.into(), origin));
    }
}

pub(super) fn missing_secret(name: &str, why: &str) -> StageError {
    let mut error = StageError::new(ErrorCode::MissingSecret, format!("secret {name} is missing: {why}"));
    error.missing_secret = VariableName::new(name).ok();
    error
}

/// Letters and digits only: the value is pasted into URLs.
pub(super) fn generate_secret() -> Result<String, StageError> {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut value = String::with_capacity(GENERATED_LENGTH);
    let random = SystemRandom::new();
    while value.len() < GENERATED_LENGTH {
        let mut bytes = [0; 64];
        random
            .fill(&mut bytes)
            .map_err(|_| StageError::new(ErrorCode::InternalError, "the system gives no random numbers"))?;
        // 248 is the largest multiple of 62 in a byte: no letter is likelier than another.
        let letters = bytes.iter().filter(|b| **b < 248).map(|b| char::from(ALPHABET[usize::from(*b) % 62]));
        value.extend(letters.take(GENERATED_LENGTH - value.len()));
    }
    Ok(value)
}
