//! A point on the monotonic clock at which waiting ends; "never" included.

use std::time::{Duration, Instant};

/// When to stop waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Waits for as long as it takes.
    pub const NEVER: Self = Self(None);

    /// Ends `timeout` from now; [`Deadline::NEVER`] when that lies beyond what the clock can name.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        Self(Instant::now().checked_add(timeout))
    }

    /// The time left, at most `slice`; `None` when the deadline has passed.
    #[must_use]
    pub fn slice(&self, slice: Duration) -> Option<Duration> {
        let Some(end) = self.0 else { return Some(slice) };
        let left = end.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(slice))
    }

    /// The time left, none when it has passed; `None` when the deadline never comes.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.0.map(|end| end.saturating_duration_since(Instant::now()))
    }

    /// The sooner one of the two.
    #[must_use]
    pub fn or_sooner(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(this), Some(that)) => Self(Some(this.min(that))),
            (this, that) => Self(this.or(that)),
        }
    }

    /// Whether the deadline has passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.0.is_some_and(|end| end <= Instant::now())
    }
}
