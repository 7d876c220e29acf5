//! Durations as Go writes them, such as `1m30s` or `1.5h`.

use std::time::Duration;

/// Nanoseconds of each unit; the longer of two names that begin alike is never a problem, as a unit ends at a digit.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// Go counts nanoseconds in 64 bits, one of which is the sign.
const LONGEST: u64 = i64::MAX as u64;

/// A duration as Go writes one, such as `336h` or `1m30s`; `None` where Go reads none, or one that is negative.
pub fn duration(text: &str) -> Option<Duration> {
    parse(text)
        .ok()
        .filter(|(duration, negative)| !negative || duration.is_zero())
        .map(|(duration, _)| duration)
}

/// A duration and whether it is negative; where Go does not read one, what Go says about it.
pub(crate) fn parse(text: &str) -> Result<(Duration, bool), String> {
    let refuse = |reason: &str| format!("time: {reason} duration {text:?}");
    let invalid = || refuse("invalid");
    let (negative, unsigned) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (text.starts_with('-'), rest),
        None => (false, text),
    };
    if unsigned == "0" {
        return Ok((Duration::ZERO, negative));
    }
    if unsigned.is_empty() {
        return Err(invalid());
    }
    let mut rest = unsigned;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, behind) = digits(rest);
        let (fraction, behind) = behind.strip_prefix('.').map_or(("", behind), digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = behind.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(behind.len());
        let (name, behind) = behind.split_at(end);
        if name.is_empty() {
            return Err(refuse("missing unit in"));
        }
        let unit = UNITS.into_iter().find(|&(known, _)| known == name);
        let (_, unit) = unit.ok_or_else(|| refuse(&format!("unknown unit {name:?} in")))?;
        let whole = if whole.is_empty() { Some(0) } else { whole.parse::<u64>().ok() };
        total = whole
            .and_then(|whole| whole.checked_mul(unit))
            .and_then(|part| part.checked_add(fraction_of(unit, fraction)))
            .and_then(|part| total.checked_add(part))
            .filter(|&total| total <= LONGEST)
            .ok_or_else(invalid)?;
        rest = behind;
    }
    Ok((Duration::from_nanos(total), negative))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `unit` times `0.digits`, rounded down; digits that count for less than a nanosecond of an hour are not looked at.
fn fraction_of(unit: u64, digits: &str) -> u64 {
    let (value, scale) = digits.bytes().take(15).fold((0u128, 1u128), |(value, scale), digit| {
        (value * 10 + u128::from(digit - b'0'), scale * 10)
    });
    u64::try_from(value * u128::from(unit) / scale).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u64, bool)>) {
        let actual = parse(text).ok().map(|(duration, negative)| {
            (u64::try_from(duration.as_nanos()).expect("Go's durations have 64 bits"), negative)
        });
        assert_eq!(actual, expected, "reading {text:?}");
    }

    #[test]
    fn durations_are_sums_of_numbers_with_units() {
        check("0", Some((0, false)));
        check("5s", Some((5_000_000_000, false)));
        check("+5s", Some((5_000_000_000, false)));
        check("1h2m3.5s", Some((3_723_500_000_000, false)));
        check("1.5h", Some((5_400_000_000_000, false)));
        check(".5ms", Some((500_000, false)));
        check("1.s", Some((1_000_000_000, false)));
        check("50ns10us10µs10μs", Some((30_050, false)));
        check("1s1s", Some((2_000_000_000, false)));
        check("-5s", Some((5_000_000_000, true)));
        check("0.33333333333333333333h", Some((1_199_999_999_999, false)));
        check("2562047h47m16.854775807s", Some((i64::MAX as u64, false)));
    }

    #[test]
    fn anything_else_is_refused_in_the_words_of_go() {
        let refused = |text: &str| parse(text).expect_err(text);
        for text in
            ["", "-", "s", ".s", "--5s", "2562047h47m16.854775808s", "99999999999999999999s"]
        {
            assert_eq!(refused(text), format!("time: invalid duration {text:?}"));
        }
        assert_eq!(refused("5"), "time: missing unit in duration \"5\"");
        assert_eq!(refused("1m5"), "time: missing unit in duration \"1m5\"");
        assert_eq!(refused("5d"), "time: unknown unit \"d\" in duration \"5d\"");
        assert_eq!(refused("5S"), "time: unknown unit \"S\" in duration \"5S\"");
        assert_eq!(refused("5 s"), "time: unknown unit \" s\" in duration \"5 s\"");
        assert_eq!(refused("1_0s"), "time: unknown unit \"_\" in duration \"1_0s\"");
    }
}
