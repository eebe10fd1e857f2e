//! Rate limits: the hourly primary one, and the secondary one on requests that create content.
//!
//! Deliberately not here: the secondary limits on concurrency and CPU time, which GitHub doesn't let a client measure.
//! Source: "Rate limits for the REST API" in GitHub's documentation.

use std::collections::{HashMap, VecDeque};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::error::ApiError;

const WINDOW_SECS: i64 = 3600;
const PRIMARY_DOCS: &str =
    "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-primary-rate-limits";
const SECONDARY_DOCS: &str =
    "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits";

/// How much GitHub allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests an hour of one installation or user: 5000.
    pub hourly: u64,
    /// Requests an hour of one address without credentials: 60.
    pub hourly_anonymous: u64,
    /// Writing requests a minute of one caller, the app's own apart: 80.
    pub writes_per_minute: usize,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { hourly: 5000, hourly_anonymous: 60, writes_per_minute: 80 }
    }
}

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Bucket {
    App(u64),
    Installation(u64),
    User(u64),
    Address(std::net::IpAddr),
}

impl Bucket {
    fn describe(&self) -> String {
        match self {
            Self::App(id) => format!("app ID {id}"),
            Self::Installation(id) => format!("installation ID {id}"),
            Self::User(id) => format!("user ID {id}"),
            Self::Address(addr) => format!(
                "{addr}. (But here's the good news: Authenticated requests get a higher rate limit. Check out the \
                 documentation for more details.)"
            ),
        }
    }
}

#[derive(Debug, Default)]
struct Count {
    used: u64,
    reset: i64,
    writes: VecDeque<i64>,
}

/// What the headers say after a request was counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    limit: u64,
    used: u64,
    reset: i64,
}

impl Usage {
    pub(super) fn write_to(self, headers: &mut HeaderMap) {
        let mut put = |name, value: u64| {
            headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
        };
        put("x-ratelimit-limit", self.limit);
        put("x-ratelimit-remaining", self.limit.saturating_sub(self.used));
        put("x-ratelimit-used", self.used);
        put("x-ratelimit-reset", self.reset.unsigned_abs());
        headers.insert("x-ratelimit-resource", HeaderValue::from_static("core"));
    }
}

/// The counts of every caller.
#[derive(Debug, Default)]
pub(super) struct Counters(HashMap<Bucket, Count>);

impl Counters {
    /// Counts one request. The usage is for the headers, whatever the verdict.
    pub(super) fn count(
        &mut self,
        limits: RateLimits,
        bucket: &Bucket,
        method: &Method,
        now: i64,
    ) -> (Usage, Result<(), ApiError>) {
        let limit = if matches!(bucket, Bucket::Address(_)) { limits.hourly_anonymous } else { limits.hourly };
        let count = self.0.entry(bucket.clone()).or_default();
        if now >= count.reset {
            count.used = 0;
            count.reset = now + WINDOW_SECS;
        }
        let verdict = if count.used >= limit {
            let message = format!("API rate limit exceeded for {}.", bucket.describe());
            Err(ApiError { docs: Some(PRIMARY_DOCS), ..ApiError::new(StatusCode::FORBIDDEN, message) })
        } else {
            count.used += 1;
            match bucket {
                // Handing a token out creates no content.
                Bucket::App(_) => Ok(()),
                _ => count.write(limits, method, now),
            }
        };
        (Usage { limit, used: count.used, reset: count.reset }, verdict)
    }

    /// Takes back the last count of a request: an answer that says "as before" is free.
    pub(super) fn take_back(&mut self, limits: RateLimits, bucket: &Bucket) -> Usage {
        let limit = if matches!(bucket, Bucket::Address(_)) { limits.hourly_anonymous } else { limits.hourly };
        let count = self.0.entry(bucket.clone()).or_default();
        count.used = count.used.saturating_sub(1);
        Usage { limit, used: count.used, reset: count.reset }
    }

    /// Takes up all that is left in the present window, or begins a window with nothing left.
    pub(super) fn exhaust(&mut self, limits: RateLimits, bucket: Bucket, now: i64) {
        let count = self.0.entry(bucket).or_default();
        count.used = limits.hourly;
        count.reset = count.reset.max(now + 60);
    }
}

impl Count {
    fn write(&mut self, limits: RateLimits, method: &Method, now: i64) -> Result<(), ApiError> {
        if method.is_safe() {
            return Ok(());
        }
        self.writes.retain(|at| *at > now - 60);
        if let (Some(oldest), true) = (self.writes.front(), self.writes.len() >= limits.writes_per_minute) {
            let wait = u64::try_from(oldest + 60 - now).unwrap_or(0).max(1);
            return Err(secondary(StatusCode::FORBIDDEN, Some(wait)));
        }
        self.writes.push_back(now);
        Ok(())
    }
}

/// GitHub's refusal by a secondary limit.
pub(super) fn secondary(status: StatusCode, retry_after: Option<u64>) -> ApiError {
    let message = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
    let headers = retry_after.map(|seconds| (header::RETRY_AFTER, seconds.to_string())).into_iter().collect();
    ApiError { docs: Some(SECONDARY_DOCS), headers, ..ApiError::new(status, message) }
}
