//! Which producer may ask for what, as pure code. A producer calls itself by its events' `source`, which nobody proves,
//! and by RabbitMQ's user where it sets that property, which the broker proves.

use slipway_protocol::{Action, ErrorCode, Failure};

/// A pattern in which `*` stands for any text, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

/// A pattern that can't be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pattern must be 1 to 200 printable characters")]
pub struct InvalidPattern;

impl Pattern {
    /// Checks a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] for one that is empty, too long or can't be printed.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidPattern> {
        let text = text.into();
        let fits = !text.is_empty() && text.len() <= 200 && !text.chars().any(char::is_control);
        if fits { Ok(Self(text)) } else { Err(InvalidPattern) }
    }

    /// The pattern as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it matches everything, also what isn't known.
    fn matches_all(&self) -> bool {
        self.0.bytes().all(|b| b == b'*')
    }

    /// Whether it matches what is known; what isn't, if it matches everything.
    fn covers(&self, known: Option<&str>) -> bool {
        self.matches_all() || known.is_some_and(|known| self.matches(known))
    }

    /// Whether it matches the whole of `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = text.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl std::str::FromStr for Pattern {
    type Err = InvalidPattern;
    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        Self::new(text)
    }
}

/// What one source may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceScope {
    /// Which `source`.
    pub source: Pattern,
    /// RabbitMQ's user that it must have proven to be; anybody when absent.
    pub user: Option<String>,
    /// Which projects, by slug.
    pub projects: Pattern,
    /// Which repositories, as `owner/name`.
    pub repositories: Pattern,
    /// Which servers, by handle.
    pub servers: Pattern,
    /// What; everything when there is none.
    pub actions: Vec<Action>,
}

/// What is asked for. What isn't known is matched only by a pattern that matches everything.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// CloudEvents `source`.
    pub source: &'a str,
    /// RabbitMQ's user.
    pub user: Option<&'a str>,
    /// What is to be done.
    pub action: Action,
    /// The project's slug.
    pub project: Option<&'a str>,
    /// The repository.
    pub repository: Option<&'a str>,
    /// The server's handle.
    pub server: Option<&'a str>,
}

impl Asking<'_> {
    /// The failure of what isn't allowed.
    #[must_use]
    pub fn refusal(&self) -> Failure {
        let unknown = "something unknown";
        let (project, server) = (self.project.unwrap_or(unknown), self.server.unwrap_or(unknown));
        let user =
            self.user.map_or("without a user of RabbitMQ".to_owned(), |user| format!("as RabbitMQ's user {user}"));
        let message = format!(
            "no rule lets the source {} ({user}) {} {project} of {} on {server}",
            self.source,
            self.action,
            self.repository.unwrap_or(unknown)
        );
        Failure::new(ErrorCode::SourceNotAllowed, None, message)
    }
}

impl SourceScope {
    /// Whether it allows this source to do this to something, whatever it may be.
    #[must_use]
    pub fn allows_somewhere(&self, asking: &Asking<'_>) -> bool {
        self.source.matches(asking.source)
            && self.user.as_deref().is_none_or(|user| asking.user == Some(user))
            && (self.actions.is_empty() || self.actions.contains(&asking.action))
    }

    /// Whether it allows what is asked for, whatever that turns out to be about of which nothing is known yet.
    #[must_use]
    pub fn may_allow(&self, asking: &Asking<'_>) -> bool {
        let of = |pattern: &Pattern, known: Option<&str>| known.is_none_or(|known| pattern.matches(known));
        let repositories = Pattern(self.repositories.0.to_ascii_lowercase());
        let repository = asking.repository.map(str::to_ascii_lowercase);
        self.allows_somewhere(asking)
            && of(&self.projects, asking.project)
            && of(&repositories, repository.as_deref())
            && of(&self.servers, asking.server)
    }

    /// Whether it allows what is asked for.
    #[must_use]
    pub fn allows(&self, asking: &Asking<'_>) -> bool {
        self.allows_on_some_server(asking) && self.servers.covers(asking.server)
    }

    /// Whether it allows what is asked for on some server, whichever.
    fn allows_on_some_server(&self, asking: &Asking<'_>) -> bool {
        // GitHub doesn't tell capitals from small letters.
        let repositories = Pattern(self.repositories.0.to_ascii_lowercase());
        let repository = asking.repository.map(str::to_ascii_lowercase);
        self.allows_somewhere(asking)
            && self.projects.covers(asking.project)
            && repositories.covers(repository.as_deref())
    }
}

/// Whether what is asked for is allowed: by any of `scopes`, or because there is none.
#[must_use]
pub fn is_allowed<'s>(scopes: impl IntoIterator<Item = &'s SourceScope>, asking: &Asking<'_>) -> bool {
    let mut scopes = scopes.into_iter().peekable();
    scopes.peek().is_none() || scopes.any(|scope| scope.allows(asking))
}

/// Whether what is asked for is allowed on some server, which is still to be chosen.
#[must_use]
pub fn is_allowed_on_some_server<'s>(scopes: impl IntoIterator<Item = &'s SourceScope>, asking: &Asking<'_>) -> bool {
    let mut scopes = scopes.into_iter().peekable();
    scopes.peek().is_none() || scopes.any(|scope| scope.allows_on_some_server(asking))
}

/// Whether somebody who isn't `user` has a source for himself: there are rules for it, and each names another user.
#[must_use]
pub fn is_impostor<'s>(scopes: impl IntoIterator<Item = &'s SourceScope>, source: &str, user: Option<&str>) -> bool {
    let of_source = scopes.into_iter().filter(|scope| scope.source.matches(source));
    let mut users = of_source.map(|scope| scope.user.as_deref()).peekable();
    users.peek().is_some() && users.all(|needed| needed.is_some() && needed != user)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn a_star_stands_for_anything_and_all_else_for_itself() {
        for (text, yes, no) in [
            ("shop", &["shop"][..], &["", "shops", "Shop", "a-shop"][..]),
            ("shop-*", &["shop-", "shop-a-b"], &["shop", "a-shop-b"]),
            ("*-shop", &["-shop", "a-shop-shop"], &["shop", "a-shops"]),
            ("a*b*c", &["abc", "a-b-b-c", "aXbYc"], &["acb", "ab", "abcd"]),
            ("*", &["", "anything"], &[]),
            ("a*a", &["aa", "aba"], &["a"]),
            ("a.c", &["a.c"], &["abc"]),
        ] {
            assert!(yes.iter().all(|t| pattern(text).matches(t)), "{text}");
            assert!(!no.iter().any(|t| pattern(text).matches(t)), "{text}");
        }
        assert!(Pattern::new("").is_err() && Pattern::new("a\nb").is_err() && Pattern::new("x".repeat(201)).is_err());
    }

    fn scope() -> SourceScope {
        SourceScope {
            source: pattern("/orchestrator"),
            user: None,
            projects: pattern("shop-*"),
            repositories: pattern("acme/*"),
            servers: pattern("vps-1"),
            actions: vec![Action::Deploy, Action::Stop],
        }
    }

    const ASKING: Asking<'_> = Asking {
        source: "/orchestrator",
        user: None,
        action: Action::Deploy,
        project: Some("shop-1"),
        repository: Some("Acme/Shop"),
        server: Some("vps-1"),
    };

    #[test]
    fn everything_is_allowed_until_there_is_a_rule_and_then_only_what_one_allows() {
        let (scope, asking) = (scope(), ASKING);
        assert!(is_allowed([], &asking) && is_allowed([&scope], &asking));
        let refused = [
            Asking { source: "/orchestrator/2", ..asking },
            Asking { action: Action::Undeploy, ..asking },
            Asking { project: Some("bakery"), ..asking },
            Asking { repository: Some("evil/shop"), ..asking },
            Asking { server: Some("vps-2"), ..asking },
            Asking { project: None, ..asking },
            Asking { repository: None, ..asking },
            Asking { server: None, ..asking },
        ];
        let wide = SourceScope { source: pattern("/operators"), actions: Vec::new(), ..scope.clone() };
        for asking in refused {
            assert!(!is_allowed([&scope, &wide], &asking), "{asking:?}");
        }
        let any = SourceScope { projects: pattern("*"), repositories: pattern("*"), servers: pattern("*"), ..scope };
        assert!(is_allowed([&any], &Asking { project: None, repository: None, server: None, ..asking }));
    }

    #[test]
    fn a_server_that_is_still_to_be_chosen_isnt_asked_about() {
        let asking = Asking { server: None, ..ASKING };
        assert!(is_allowed_on_some_server([&scope()], &asking) && !is_allowed([&scope()], &asking));
        assert!(!is_allowed_on_some_server([&scope()], &Asking { project: Some("bakery"), ..asking }));
        assert!(is_allowed_on_some_server([], &asking));
    }

    #[test]
    fn a_rule_with_a_user_holds_for_that_user_alone() {
        let scope = SourceScope { user: Some("orchestrator".to_owned()), ..scope() };
        for (user, allowed) in [(Some("orchestrator"), true), (Some("evil"), false), (None, false)] {
            assert_eq!(is_allowed([&scope], &Asking { user, ..ASKING }), allowed, "{user:?}");
            assert_eq!(is_impostor([&scope], ASKING.source, user), !allowed, "{user:?}");
            let open = SourceScope { user: None, ..scope.clone() };
            assert!(!is_impostor([&scope, &open], ASKING.source, user) && !is_impostor([], ASKING.source, user));
            assert!(!is_impostor([&scope], "/another", user));
        }
    }
}
