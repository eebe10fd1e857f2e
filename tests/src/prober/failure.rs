//! Why a question has got no answer, as the one who asks sees it.

use std::io;
use std::time::Duration;

/// How long an answer may take: as long as people's programs wait at least. What takes long without being missed is seen
/// in the gaps.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
pub enum ProbeFailure {
    /// Nobody takes the connection.
    #[error("no connection: {0}")]
    NoConnection(io::ErrorKind),
    /// The connection broke before the answer was whole.
    #[error("broken: {0}")]
    Broken(io::ErrorKind),
    /// No answer in twenty seconds.
    #[error("no answer in time")]
    TooLate,
    /// Another status than 200, or than 101 for a WebSocket.
    #[error("status {0}")]
    Status(u16),
    /// An answer that isn't a sample's.
    #[error("an answer of somebody else")]
    Foreign,
    /// The other side says that it closes the WebSocket, with this code.
    #[error("closed with code {0}")]
    Closed(u16),
}

impl From<io::Error> for ProbeFailure {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.kind())
    }
}

/// The outcome of what may take [`PATIENCE`].
pub(super) async fn in_time<T>(asking: impl Future<Output = Result<T, ProbeFailure>>) -> Result<T, ProbeFailure> {
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or(Err(ProbeFailure::TooLate))
}
