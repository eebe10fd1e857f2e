//! GitHub's expressions: contexts, literals, `!`, `&&`, `||`, `==`, `!=` and the functions that tell how it went so far.
//! Anything else is an error rather than a guess.

use std::iter::Peekable;
use std::vec::IntoIter;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How it went so far: the steps before, or the jobs that are needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOutcome {
    /// All have worked.
    Passed,
    /// One has failed.
    Failed,
    /// None has failed, and one was left out.
    Skipped,
}

/// What expressions may name, and how it went so far.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// An object of contexts: `secrets`, `env`, `inputs`, `github`…
    pub contexts: Value,
    /// What has ended before.
    pub so_far: JobOutcome,
}

impl Scope {
    /// `text` with every `${{ … }}` replaced by its value.
    pub fn fill(&self, text: &str) -> Result<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${{") {
            let (expression, after) = after.split_once("}}").with_context(|| format!("no end of ${{{{ in {text}"))?;
            filled.push_str(before);
            filled.push_str(&as_text(&self.value(expression)?));
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// Whether a job or step with this `if` runs. One that doesn't ask how it went so far runs after successes only.
    pub fn runs(&self, condition: Option<&str>) -> Result<bool> {
        let passed = self.so_far == JobOutcome::Passed;
        let Some(condition) = condition else { return Ok(passed) };
        let text = condition.trim();
        let text = text.strip_prefix("${{").and_then(|text| text.strip_suffix("}}")).unwrap_or(text);
        let asks = ["success()", "failure()", "always()", "cancelled()"].iter().any(|function| text.contains(function));
        Ok(is_true(&self.value(text)?) && (asks || passed))
    }

    fn value(&self, expression: &str) -> Result<Value> {
        let mut parser = Parser { scope: self, tokens: tokens(expression)?.into_iter().peekable() };
        let value = parser.either().with_context(|| format!("the expression {expression}"))?;
        ensure!(parser.tokens.next().is_none(), "more than one expression: {expression}");
        Ok(value)
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// An operator or a bracket.
    Sign(&'static str),
    Text(String),
    Name(String),
}

fn tokens(expression: &str) -> Result<Vec<Token>> {
    const SIGNS: [&str; 11] = ["||", "&&", "==", "!=", "!", "(", ")", "[", "]", ".", ","];
    let mut tokens = Vec::new();
    let mut rest = expression.trim_start();
    while !rest.is_empty() {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if let Some(after) = rest.strip_prefix('\'') {
            let (text, after) = after.split_once('\'').with_context(|| format!("no end of a text in {expression}"))?;
            tokens.push(Token::Text(text.to_owned()));
            rest = after;
        } else {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            ensure!(end > 0, "not understood: {rest}");
            tokens.push(Token::Name(rest[..end].to_owned()));
            rest = &rest[end..];
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

struct Parser<'a> {
    scope: &'a Scope,
    tokens: Peekable<IntoIter<Token>>,
}

impl Parser<'_> {
    fn takes(&mut self, sign: &'static str) -> bool {
        self.tokens.next_if_eq(&Token::Sign(sign)).is_some()
    }

    fn either(&mut self) -> Result<Value> {
        let mut value = self.both()?;
        while self.takes("||") {
            let other = self.both()?;
            value = if is_true(&value) { value } else { other };
        }
        Ok(value)
    }

    fn both(&mut self) -> Result<Value> {
        let mut value = self.comparison()?;
        while self.takes("&&") {
            let other = self.comparison()?;
            value = if is_true(&value) { other } else { value };
        }
        Ok(value)
    }

    fn comparison(&mut self) -> Result<Value> {
        let value = self.negation()?;
        let wanted = if self.takes("==") {
            true
        } else if self.takes("!=") {
            false
        } else {
            return Ok(value);
        };
        Ok((are_equal(&value, &self.negation()?) == wanted).into())
    }

    fn negation(&mut self) -> Result<Value> {
        if self.takes("!") { Ok((!is_true(&self.negation()?)).into()) } else { self.operand() }
    }

    fn operand(&mut self) -> Result<Value> {
        match self.tokens.next().context("something is missing")? {
            Token::Text(text) => Ok(text.into()),
            Token::Sign("(") => {
                let value = self.either()?;
                ensure!(self.takes(")"), "no end of a bracket");
                Ok(value)
            }
            Token::Name(name) if self.takes("(") => {
                ensure!(self.takes(")"), "{name}(…) isn't known here");
                match name.as_str() {
                    "success" => Ok((self.scope.so_far == JobOutcome::Passed).into()),
                    "failure" => Ok((self.scope.so_far == JobOutcome::Failed).into()),
                    "always" => Ok(true.into()),
                    "cancelled" => Ok(false.into()),
                    _ => bail!("the function {name} isn't known here"),
                }
            }
            Token::Name(name) => match name.as_str() {
                "true" => Ok(true.into()),
                "false" => Ok(false.into()),
                "null" => Ok(Value::Null),
                _ => self.member(&name),
            },
            Token::Sign(sign) => bail!("{sign} out of place"),
        }
    }

    fn member(&mut self, context: &str) -> Result<Value> {
        let mut value = self.scope.contexts.get(context).with_context(|| format!("no context {context}"))?.clone();
        loop {
            let name = if self.takes(".") {
                self.tokens.next()
            } else if self.takes("[") {
                let name = self.tokens.next();
                ensure!(self.takes("]"), "no end of a bracket");
                name
            } else {
                return Ok(value);
            };
            let Some(Token::Name(name) | Token::Text(name)) = name else { bail!("no name after {context}") };
            let members = value.as_object();
            let found = members.and_then(|all| all.iter().find(|(key, _)| key.eq_ignore_ascii_case(&name)));
            value = found.map_or(Value::Null, |(_, value)| value.clone());
        }
    }
}

fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
}

/// Texts know no upper and lower case; values of different kinds are compared as numbers.
fn are_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::String(left), Value::String(right)) => left.eq_ignore_ascii_case(right),
        _ => as_number(left).is_some_and(|number| Some(number) == as_number(right)),
    }
}

fn as_number(value: &Value) -> Option<i64> {
    match value {
        Value::Null => Some(0),
        Value::Bool(value) => Some(i64::from(*value)),
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => text.parse().ok(),
        other => other.as_i64(),
    }
}

fn as_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn scope(so_far: JobOutcome) -> Scope {
        let contexts = json!({
            "secrets": {"PORT": "2222", "EMPTY": ""}, "inputs": {"skip": true},
            "github": {"event_name": "push", "ref": "refs/heads/main"},
        });
        Scope { contexts, so_far }
    }

    #[test]
    fn expressions_have_the_values_that_github_gives_them() {
        let values = [
            ("p=${{ secrets.PORT || '22' }};", "p=2222;"),
            ("${{ secrets.Missing || '22' }}", "22"),
            ("${{secrets['PORT']}}${{ secrets.EMPTY }}", "2222"),
            ("${{ inputs.port || secrets.port || '22' }}", "2222"),
            ("${{ github.ref == 'refs/heads/main' && github.event_name != 'schedule' }}", "true"),
            ("${{ !inputs.skip }} ${{ inputs.host != '' }}", "false false"),
            ("$PLAIN {{.State}} ${BRACED}", "$PLAIN {{.State}} ${BRACED}"),
        ];
        for (text, filled) in values {
            assert_eq!(scope(JobOutcome::Passed).fill(text).expect(text), filled);
        }
        for text in ["${{ secrets.A", "${{ nowhere.a }}", "${{ hashFiles('a') }}", "${{ 'a' 'b' }}"] {
            scope(JobOutcome::Passed).fill(text).expect_err(text);
        }
    }

    #[test]
    fn a_step_or_job_runs_after_failures_only_where_it_asks_for_them() {
        use JobOutcome::{Failed, Passed, Skipped};
        let cases = [
            (None, [true, false, false]),
            (Some("always()"), [true, true, true]),
            (Some("failure()"), [false, true, false]),
            (Some("${{ success() || inputs.skip }}"), [true, true, true]),
            (Some("${{ success() && inputs.skip }}"), [true, false, false]),
            (Some("github.event_name == 'push'"), [true, false, false]),
        ];
        for (condition, expected) in cases {
            let runs = [Passed, Failed, Skipped].map(|so_far| scope(so_far).runs(condition).expect("a condition"));
            assert_eq!(runs, expected, "{condition:?}");
        }
    }
}
