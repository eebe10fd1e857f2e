//! Templates: plain text with placeholders such as `{title}`. A line is left out when all of its placeholders are empty;
//! `{{` and `}}` stand for braces.

/// What a placeholder stands for.
macro_rules! fields {
    ($($variant:ident $name:literal)*) => {
        /// A fact of a result.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum FactName {
            $(#[doc = concat!("`{", $name, "}`")] $variant,)*
        }

        impl FactName {
            const NAMES: &[(&str, Self)] = &[$(($name, Self::$variant),)*];
        }
    };
}

fields! {
    Title "title"
    What "what"
    Serving "serving"
    Next "next"
    Link "link"
    Project "project"
    Outcome "outcome"
    Action "action"
    Commit "commit"
    Server "server"
    Url "url"
    Code "code"
    Class "class"
    Stage "stage"
    Deployment "deployment"
    Took "took"
}

/// The text that is used without one of the file's own.
const DEFAULT: &str = "{title}\n{what}\n{serving}\n{next}\n{link}\nDeployment {deployment}, {took}";

/// A checked template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TextTemplate(Vec<Vec<TemplatePiece>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum TemplatePiece {
    Text(String),
    Fact(FactName),
}

impl Default for TextTemplate {
    fn default() -> Self {
        Self(DEFAULT.lines().filter_map(|line| parse_line(line).ok()).collect())
    }
}

impl TextTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, and what it may hold.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("a template must not be empty; leave it out for the default".to_owned());
        }
        Ok(Self(text.trim_end().lines().map(parse_line).collect::<Result<_, _>>()?))
    }

    /// Whether it can be a link: one line, of facts that have no spaces.
    pub(crate) fn fits_link(&self) -> bool {
        use FactName::{Commit, Deployment, Project, Server};
        let fits = |piece: &TemplatePiece| match piece {
            TemplatePiece::Text(_) => true,
            TemplatePiece::Fact(name) => [Commit, Deployment, Project, Server].contains(name),
        };
        self.0.len() == 1 && self.0.iter().flatten().all(fits)
    }

    /// The lines, with the facts that `fact` gives.
    pub(crate) fn fill(&self, fact: impl Fn(FactName) -> String) -> Vec<String> {
        self.0.iter().filter_map(|line| fill_line(line, &fact)).collect()
    }
}

fn fill_line(line: &[TemplatePiece], fact: &impl Fn(FactName) -> String) -> Option<String> {
    let (mut text, mut facts, mut empty) = (String::new(), 0, 0);
    for piece in line {
        match piece {
            TemplatePiece::Text(piece) => text.push_str(piece),
            TemplatePiece::Fact(name) => {
                let value = fact(*name);
                facts += 1;
                empty += usize::from(value.is_empty());
                text.push_str(&value);
            }
        }
    }
    (facts == 0 || empty < facts).then_some(text)
}

fn parse_line(line: &str) -> Result<Vec<TemplatePiece>, String> {
    let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), line);
    while let Some(at) = rest.find(['{', '}']) {
        text.push_str(&rest[..at]);
        let brace = &rest[at..=at];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            text.push_str(brace);
            rest = after;
            continue;
        }
        let Some((name, after)) = rest.split_once('}').filter(|_| brace == "{") else {
            return Err("a single brace begins or ends a placeholder; write {{ or }} for a brace".to_owned());
        };
        let known = FactName::NAMES.iter().find(|(known, _)| *known == name).map(|(_, fact)| *fact);
        let names = || FactName::NAMES.iter().map(|(name, _)| format!("{{{name}}}")).collect::<Vec<_>>().join(", ");
        let fact = known.ok_or_else(|| format!("there is no placeholder {{{name}}}; there are {}", names()))?;
        pieces.push(TemplatePiece::Text(std::mem::take(&mut text)));
        pieces.push(TemplatePiece::Fact(fact));
        rest = after;
    }
    text.push_str(rest);
    pieces.push(TemplatePiece::Text(text));
    Ok(pieces)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn facts_are_filled_in_and_lines_without_any_are_left_out() {
        let template =
            TextTemplate::parse("{project}: {{{code}}}\nkept\n{url}{next}\n\n{stage} at {server}\n").unwrap();
        let filled = template.fill(|fact| match fact {
            FactName::Project => "shop".to_owned(),
            FactName::Server => "vps-1".to_owned(),
            _ => String::new(),
        });
        assert_eq!(filled, ["shop: {}", "kept", "", " at vps-1"]);
    }

    #[test]
    fn what_is_no_template_is_refused_with_what_it_may_hold() {
        assert!(TextTemplate::parse("{nobody}").unwrap_err().contains("{title}"));
        for braces in ["{title", "title}", "a } b", "{"] {
            assert!(TextTemplate::parse(braces).unwrap_err().contains("{{"), "{braces}");
        }
        assert!(TextTemplate::parse(" \n").is_err());
    }
}
