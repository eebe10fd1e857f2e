//! One question: how it was asked, and what became of it.

use std::time::Duration;

use super::failure::ProbeFailure;

/// A way to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeKind {
    /// A new connection every ten milliseconds, whether the one before was answered or not.
    Fresh,
    /// One connection that's kept for one request after the other.
    Kept,
    /// One that stays open and gets an echo every fifty milliseconds; its breaks are counted apart.
    Socket,
    /// Four MiB in about a second, again and again.
    Upload,
    /// Server-sent events for a second, again and again.
    Download,
}

impl ProbeKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Fresh, Self::Kept, Self::Socket, Self::Upload, Self::Download];
}

/// Who answered: what a sample's web service says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Answerer {
    /// The commit that its image was built from.
    pub commit: String,
    /// Its container, another one at each replacement.
    pub container: String,
}

impl Answerer {
    /// Out of a page's JSON.
    pub(super) fn of_page(body: &str) -> Option<Self> {
        let page = body.lines().last()?.trim_start_matches("data: ");
        let page: serde_json::Value = serde_json::from_str(page).ok()?;
        let field = |name: &str| Some(page.get(name)?.as_str()?.to_owned());
        Some(Self { commit: field("commit")?, container: field("container").unwrap_or_default() })
    }
}

/// One question, and what became of it. Times are since the prober's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeAnswer {
    /// How it was asked.
    pub kind: ProbeKind,
    /// When it was asked.
    pub asked: Duration,
    /// When the answer was there, or it was clear that there is none.
    pub ended: Duration,
    /// Who answered.
    pub outcome: Result<Answerer, ProbeFailure>,
}

/// A WebSocket that was open, and ended though nobody on this side wanted it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketBreak {
    /// When it was opened.
    pub opened: Duration,
    /// When it broke.
    pub ended: Duration,
    /// Who answered on it.
    pub answerer: Option<Answerer>,
    /// How it ended.
    pub failure: ProbeFailure,
}
