//! What a hostile registry is asked, and what it may answer.

/// A question as it came.
pub(super) struct Asked<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub authorization: Option<&'a str>,
    /// `address:port` of this registry, and of a server that isn't its.
    pub own: &'a str,
    pub elsewhere: &'a str,
}

/// What is answered.
pub(super) enum HostileReply {
    Bytes(Vec<u8>),
    /// This, and then the same again and again.
    Endless(Vec<u8>, &'static [u8]),
    /// This, and then a byte now and then.
    Drip(Vec<u8>),
}

pub(super) type AnswerWith = fn(&Asked<'_>) -> HostileReply;
