//! One entry of a contract: where a variable's value comes from and who needs it. A message says which rule is broken,
//! and never repeats a value: somebody may have written a secret there. No I/O.

use serde_json::{Map, Value};

/// Only these entries count on a server.
const PRODUCTION: &str = "production";
const COMMON: [&str; 6] = ["source", "environments", "consumers", "required", "description", "sensitive"];

/// What the project says about one variable.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declaration {
    pub source: ValueSource,
    environments: Vec<String>,
    /// The services that get it; empty where it's for compose itself.
    pub consumers: Vec<String>,
    pub required: bool,
    pub description: Option<String>,
    sensitive: bool,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ValueSource {
    UserSecret,
    GeneratedSecret,
    /// The port allocated to a service or a resource.
    Allocation(Vec<String>),
    Derived,
    /// As it was written: two that only look alike as text are two declarations.
    Literal(Value),
}

impl Declaration {
    /// Reads one entry, with a sentence about the first rule that it breaks.
    pub(super) fn read(entry: &Value) -> Result<Self, String> {
        let Value::Object(fields) = entry else { return Err("must be a mapping".to_owned()) };
        let kind = text(fields, "source")?.ok_or("source is missing")?;
        let own: &[&str] = match kind {
            "user_secret" | "generated_secret" | "derived" => &[],
            "allocation" => &["service", "resource"],
            "literal" => &["value"],
            _ => return Err("source must be user_secret, generated_secret, allocation, derived or literal".to_owned()),
        };
        if let Some(unknown) = fields.keys().find(|f| !COMMON.contains(&f.as_str()) && !own.contains(&f.as_str())) {
            return Err(format!("has the unknown field {unknown}"));
        }
        let consumers = texts(fields, "consumers")?.unwrap_or_default();
        let environments = texts(fields, "environments")?.unwrap_or_default();
        if environments.is_empty() {
            return Err("environments must name at least one".to_owned());
        }
        let description = text(fields, "description")?.map(str::to_owned);
        let required = flag(fields, "required")?.ok_or("required is missing")?;
        let source = match kind {
            "user_secret" => {
                if consumers.is_empty() || description.as_deref().is_none_or(str::is_empty) {
                    return Err("a user_secret needs consumers and a description".to_owned());
                }
                ValueSource::UserSecret
            }
            "generated_secret" => ValueSource::GeneratedSecret,
            "allocation" => {
                let named = [text(fields, "service")?, text(fields, "resource")?];
                let named: Vec<_> = named.into_iter().flatten().map(str::to_owned).collect();
                if named.is_empty() || named.iter().any(String::is_empty) {
                    return Err("an allocation needs a service or a resource".to_owned());
                }
                ValueSource::Allocation(named)
            }
            "derived" => ValueSource::Derived,
            _ => ValueSource::Literal(literal(fields.get("value"))?),
        };
        let secret = matches!(source, ValueSource::UserSecret | ValueSource::GeneratedSecret);
        let sensitive = flag(fields, "sensitive")?.unwrap_or(secret);
        if sensitive != secret && !matches!(source, ValueSource::Allocation(_)) {
            return Err(format!("sensitive can only be {secret} for a {kind}"));
        }
        Ok(Self { source, environments, consumers, required, description, sensitive })
    }

    pub(crate) fn is_for_production(&self) -> bool {
        self.environments.iter().any(|e| e == PRODUCTION)
    }

    pub(crate) fn is_secret(&self) -> bool {
        self.sensitive
    }

    /// The text of a literal, as an environment has it.
    pub(crate) fn literal(&self) -> Option<String> {
        match &self.source {
            ValueSource::Literal(Value::String(text)) => Some(text.clone()),
            ValueSource::Literal(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

fn literal(value: Option<&Value>) -> Result<Value, String> {
    match value {
        Some(Value::String(text)) if text.contains('\0') => Err("value holds a NUL, which no variable can".to_owned()),
        Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => Ok(value.clone()),
        Some(_) => Err("value must be a text, a number or a boolean".to_owned()),
        None => Err("a literal needs a value".to_owned()),
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} must be a text")),
    }
}

fn flag(fields: &Map<String, Value>, name: &str) -> Result<Option<bool>, String> {
    match fields.get(name) {
        None => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(*flag)),
        Some(_) => Err(format!("{name} must be true or false")),
    }
}

fn texts(fields: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, String> {
    let Some(list) = fields.get(name) else { return Ok(None) };
    let texts = list.as_array().map(|l| l.iter().map(|t| t.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>());
    texts.flatten().map(Some).ok_or_else(|| format!("{name} must be a list of texts"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_source_demands_its_own_fields_and_refuses_the_others() {
        let base = |source: &str| json!({ "source": source, "environments": ["production"], "required": true });
        let with = |source: &str, more: Value| {
            let mut entry = base(source);
            for (name, value) in more.as_object().into_iter().flatten() {
                entry[name] = value.clone();
            }
            Declaration::read(&entry)
        };
        assert!(with("user_secret", json!({ "consumers": ["a"], "description": "x" })).is_ok_and(|d| d.is_secret()));
        assert!(with("generated_secret", json!({})).is_ok_and(|d| d.is_secret()));
        assert!(with("allocation", json!({ "resource": "db", "sensitive": true })).is_ok());
        assert!(with("derived", json!({ "sensitive": false, "description": null })).is_ok_and(|d| !d.is_secret()));
        let literals = [(json!(false), "false"), (json!(5432), "5432"), (json!(1.5), "1.5"), (json!(""), "")];
        for (value, text) in literals {
            assert_eq!(with("literal", json!({ "value": value })).unwrap().literal().as_deref(), Some(text));
        }
        for (source, more, rule) in [
            ("user_secret", json!({ "consumers": ["a"] }), "a user_secret needs consumers and a description"),
            ("user_secret", json!({ "description": "x" }), "a user_secret needs consumers and a description"),
            ("generated_secret", json!({ "sensitive": false }), "sensitive can only be true for a generated_secret"),
            ("literal", json!({ "value": 1, "sensitive": true }), "sensitive can only be false for a literal"),
            ("literal", json!({ "value": [1] }), "value must be a text, a number or a boolean"),
            ("literal", json!({}), "a literal needs a value"),
            ("allocation", json!({}), "an allocation needs a service or a resource"),
            ("derived", json!({ "value": "hunter2" }), "has the unknown field value"),
            ("derived", json!({ "environments": [] }), "environments must name at least one"),
            ("derived", json!({ "required": "hunter2" }), "required must be true or false"),
            ("hunter2", json!({}), "source must be user_secret, generated_secret, allocation, derived or literal"),
        ] {
            assert_eq!(with(source, more).unwrap_err(), rule);
        }
    }
}
