//! When and how long to wait before something is tried again.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

use crate::request::ShownUrl;

/// How often and how patiently a failed request is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// How often it is tried in all; at least once.
    pub attempts: u32,
    /// About how long the first wait is. Every further one is twice as long.
    pub first_wait: Duration,
    /// The longest wait, also where a server asks for more.
    pub longest_wait: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_mins(1),
        }
    }
}

impl Retries {
    /// How long to wait after failed attempt number `attempt` (from 1).
    ///
    /// A server's wish (`Retry-After`) is honoured up to the longest wait. `jitter` is a random
    /// number: many builders that failed together must not come back together, so the wait is
    /// spread over half of its length, downwards for our own waits, upwards for the server's.
    pub(crate) fn wait(&self, attempt: u32, wish: Option<Duration>, jitter: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let own = self.first_wait.saturating_mul(doubled).min(self.longest_wait);
        let spread = |whole: Duration| whole.mul_f64(f64::from(jitter) / f64::from(u32::MAX) / 2.0);
        match wish {
            Some(wish) => {
                let wish = wish.min(self.longest_wait);
                wish.saturating_add(spread(own))
            }
            None => own.saturating_sub(spread(own)),
        }
    }
}

/// What [`Options::on_retry`](crate::Options) is told before a wait.
#[derive(Clone, Debug)]
pub struct Retrying {
    /// What is tried again.
    pub url: ShownUrl,
    /// Why, as a phrase.
    pub reason: String,
    /// The number of the attempt that failed, from 1.
    pub attempt: u32,
    /// How long the wait is.
    pub wait: Duration,
}

/// Is told before every wait.
pub type OnRetry = Arc<dyn Fn(&Retrying) + Send + Sync>;

/// Whether a response with `status` says "not now" rather than "no".
pub fn is_transient_status(status: StatusCode) -> bool {
    // 499 and those from 520 on come from proxies in front of registries.
    matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502 | 503 | 504 | 520..=524)
}

/// What a response's `Retry-After` asks for: seconds, or a date, which is compared with the
/// response's own `Date`, so that no clock of ours is involved.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = http_date(text)?;
    let now = http_date(headers.get(DATE)?.to_str().ok()?.trim())?;
    Some(Duration::from_secs(then.saturating_sub(now)))
}

/// Seconds since an arbitrary day for the one date format that HTTP still writes:
/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as u64;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let in_range = (1..=31).contains(&day)
        && (1970..=9999).contains(&year)
        && hour < 24
        && minute < 60
        && second <= 60;
    if words.next() != Some("GMT") || !in_range {
        return None;
    }
    // Years that begin in March put the leap day last; 153 days are five such months.
    let (year, month) = if month < 2 { (year - 1, month + 10) } else { (year, month - 2) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn retries() -> Retries {
        Retries {
            attempts: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(10),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_are_spread_downwards() {
        for (attempt, least, most) in [
            (1, 500, 1000),
            (2, 1000, 2000),
            (3, 2000, 4000),
            (5, 5000, 10_000),
            (99, 5000, 10_000),
        ] {
            assert_eq!(retries().wait(attempt, None, 0), Duration::from_millis(most));
            assert_eq!(retries().wait(attempt, None, u32::MAX), Duration::from_millis(least));
        }
    }

    #[test]
    fn a_servers_wish_is_a_lower_bound_but_not_without_limit() {
        let wish = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(retries().wait(1, wish(7), 0), Duration::from_secs(7));
        assert_eq!(retries().wait(1, wish(7), u32::MAX), Duration::from_millis(7500));
        assert_eq!(retries().wait(1, wish(86_400), 0), Duration::from_secs(10));
    }

    #[track_caller]
    fn check(value: &str, expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(value).expect("a header value"));
        headers.insert(DATE, HeaderValue::from_static("Tue, 28 Feb 2023 23:59:50 GMT"));
        assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{value:?}");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_relative_to_the_response() {
        check("120", Some(120));
        check(" 0 ", Some(0));
        check("Wed, 01 Mar 2023 00:00:20 GMT", Some(30));
        check("Fri, 01 Mar 2024 00:00:00 GMT", Some(366 * 86_400 + 10));
        check("Tue, 28 Feb 2023 23:00:00 GMT", Some(0));
    }

    #[test]
    fn nonsense_in_retry_after_is_no_wish() {
        for value in ["", "-1", "soon", "Wed, 99 Mar 2023 00:00:20 GMT", "Wed, 01 Mar 0 1:2:3 GMT"]
        {
            check(value, None);
        }
        check("Wed, 01 Mar 2023 00:00:20 CET", None);
        check("Wed, 01 Mar 99999999999999999 00:00:20 GMT", None);
    }
}
