//! Moments in time, as image configs write them.

use std::fmt;
use std::str::FromStr;

/// A moment with nanoseconds, printed as RFC 3339 in UTC.
///
/// ```
/// # use ebiko_oci::Timestamp;
/// let epoch = Timestamp::from_seconds(0)?;
/// assert_eq!(epoch.to_string(), "1970-01-01T00:00:00Z");
/// # Ok::<(), ebiko_oci::TimestampError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

/// A number or text is not a moment between the years -9999 and 9999.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message names every field")]
#[error("`{text}` is not a point in time")]
pub struct TimestampError {
    pub text: String,
}

impl Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub fn from_seconds(seconds: i64) -> Result<Self, TimestampError> {
        Self::new(seconds, 0)
    }

    /// Seconds and nanoseconds (0..=999,999,999) since 1970-01-01T00:00:00Z.
    pub fn new(seconds: i64, nanoseconds: u32) -> Result<Self, TimestampError> {
        i32::try_from(nanoseconds)
            .ok()
            .and_then(|nanoseconds| jiff::Timestamp::new(seconds, nanoseconds).ok())
            .map(Self)
            .ok_or_else(|| TimestampError { text: format!("{seconds}.{nanoseconds:09}") })
    }

    /// The moment this much later; the last moment there is if that would be later still.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        Self(self.0.checked_add(duration).unwrap_or(jiff::Timestamp::MAX))
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        self.0.as_second()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;

    fn from_str(text: &str) -> Result<Self, TimestampError> {
        text.parse().map(Self).map_err(|_| TimestampError { text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_are_printed_without_trailing_zeros() {
        let half = Timestamp::new(1_600_000_000, 500_000_000).unwrap();
        assert_eq!(half.to_string(), "2020-09-13T12:26:40.5Z");
        assert_eq!("2020-09-13T14:26:40.5+02:00".parse::<Timestamp>().unwrap(), half);
    }

    #[test]
    fn the_far_future_is_refused() {
        assert!(Timestamp::from_seconds(i64::MAX).is_err());
        assert!(Timestamp::new(0, 1_000_000_000).is_err());
    }
}
