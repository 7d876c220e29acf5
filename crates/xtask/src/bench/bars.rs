//! What has to hold.

use std::fmt;

use super::request::Request;
use super::rounds::Series;

/// One bar, and whether it is met.
#[derive(Debug, serde::Serialize)]
pub(super) struct Verdict {
    pub(super) text: String,
    pub(super) is_met: bool,
}

impl Verdict {
    pub(super) fn new(text: impl Into<String>, is_met: bool) -> Self {
        Self { text: text.into(), is_met }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<7} {}", if self.is_met { "ok" } else { "MISSED" }, self.text)
    }
}

pub(super) fn judge(_series: &[Series], _request: &Request) -> Vec<Verdict> {
    Vec::new()
}
