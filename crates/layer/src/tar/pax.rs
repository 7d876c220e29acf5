//! The records of an extended header.

use std::io::Write as _;

use ebiko_rootfs::Time;

/// One `key=value`.
pub(crate) type Record = (Vec<u8>, Vec<u8>);

pub(crate) const XATTR: &[u8] = b"SCHILY.xattr.";

/// Appends `length key=value\n`, where the length counts itself.
pub(crate) fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let digits = |length: usize| length.checked_ilog10().unwrap_or(0) as usize + 1;
    let mut length = rest + 1;
    while length != rest + digits(length) {
        length = rest + digits(length);
    }
    // Infallible: the target is memory.
    let _ok = write!(records, "{length}");
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Reads all records in order; `None` where one is malformed.
pub(crate) fn parse(mut bytes: &[u8]) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ')?;
        let length = usize::try_from(parse_decimal(&bytes[..space])?).ok()?;
        let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return None;
        }
        records.push((key.to_vec(), value.to_vec()));
        bytes = &bytes[length..];
    }
    Some(records)
}

/// Digits only, unlike `str::parse`, which takes a `+`.
pub(crate) fn parse_decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// Reads `-12.5`: seconds with an optional fraction, of which nine digits count.
pub(crate) fn parse_time(text: &[u8]) -> Option<Time> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let secs = i64::try_from(parse_decimal(whole)?).ok()?;
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = digits.fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
    Some(match (is_negative, nanos) {
        (false, _) => Time { secs, nanos },
        (true, 0) => Time { secs: -secs, nanos: 0 },
        // Nanoseconds count forward.
        (true, _) => Time { secs: -secs - 1, nanos: 1_000_000_000 - nanos },
    })
}

/// Writes a time as [`parse_time`] reads it, without trailing zeros.
pub(crate) fn format_time(time: Time) -> String {
    let (sign, secs, nanos) = match time {
        Time { secs, nanos: 0 } => (if secs < 0 { "-" } else { "" }, secs.unsigned_abs(), 0),
        Time { secs, nanos } if secs < 0 => ("-", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos),
        Time { secs, nanos } => ("", secs.unsigned_abs(), nanos),
    };
    let mut text = format!("{sign}{secs}.{nanos:09}");
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for (length, expected) in [(0, "5 k=\n"), (1, "6 k=v\n")] {
            let mut records = Vec::new();
            push_record(&mut records, b"k", &b"v"[..length]);
            assert_eq!(String::from_utf8(records).unwrap(), expected);
        }
        for length in [88, 93, 94, 95, 96, 97, 991, 992, 993, 9990] {
            let mut records = Vec::new();
            push_record(&mut records, b"key", &vec![b'x'; length]);
            push_record(&mut records, b"path", b"a=b\nc");
            let parsed = parse(&records).unwrap();
            assert_eq!((parsed.len(), parsed[0].1.len()), (2, length));
            assert_eq!(parsed[1], (b"path".to_vec(), b"a=b\nc".to_vec()));
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            "x",
            "5 k=",
            "4 k=\n",
            "6 k=\n",
            "5 =v\n",
            "+5 k=\n",
            "5k=\n",
            "99999999999999999999 k=\n",
            "0 k=\n",
            "-5 k=\n",
            "5 k\0\n",
            "7 k\0=v\n",
            "6 k=v\nx",
            "3 \n",
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(parse(b""), Some(Vec::new()));
    }

    #[test]
    fn times_keep_their_nanoseconds_and_sign() {
        for (text, secs, nanos) in [
            ("0", 0, 0),
            ("1600000000", 1_600_000_000, 0),
            ("1600000000.123456789", 1_600_000_000, 123_456_789),
            ("1.5", 1, 500_000_000),
            ("-1", -1, 0),
            ("-12.5", -13, 500_000_000),
            ("-0.000000001", -1, 999_999_999),
            ("0.000000001", 0, 1),
        ] {
            let time = Time { secs, nanos };
            assert_eq!(parse_time(text.as_bytes()), Some(time), "{text}");
            assert_eq!(format_time(time), text);
        }
        assert_eq!(parse_time(b"1.1234567899999"), Some(Time { secs: 1, nanos: 123_456_789 }));
        for bad in ["", "-", ".5", "1.x", "1e3", "+1", "99999999999999999999", "--1", "1.-5"] {
            assert_eq!(parse_time(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
