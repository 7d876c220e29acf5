//! Numbers in header fields.

/// Writes `value` in octal, zero-padded, with a NUL behind; `false` if it does not fit.
pub(crate) fn write_octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    if digits < 22 && value >> (3 * digits) != 0 {
        return false;
    }
    let mut rest = value;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (rest & 7).to_le_bytes()[0];
        rest >>= 3;
    }
    field[digits] = 0;
    true
}

/// Reads a number as GNU tar and Go do: octal with spaces and NULs around, or big-endian two's complement where the
/// first bit is set (GNU "base-256"). An empty field is 0.
pub(crate) fn read_number(field: &[u8]) -> Option<i64> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => read_base_256(field),
        _ => read_octal(field),
    }
}

fn read_octal(field: &[u8]) -> Option<i64> {
    let is_filler = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_filler(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(is_filler).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(is_filler) {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

fn read_base_256(field: &[u8]) -> Option<i64> {
    let is_negative = field[0] & 0x40 != 0;
    // The first bit is the mark; the sign takes its place.
    let first = if is_negative { field[0] } else { field[0] & 0x7f };
    let bytes = std::iter::once(first).chain(field[1..].iter().copied());
    let (start, fill) = if is_negative { (-1_i64, 0xff) } else { (0, 0) };
    let mut value = start;
    for (index, byte) in bytes.enumerate() {
        let left = field.len() - index;
        if left > 8 {
            if byte != fill {
                return None;
            }
            continue;
        }
        if left == 8 && (byte & 0x80 != 0) != is_negative {
            return None;
        }
        value = value << 8 | i64::from(byte);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(field: &[u8], expected: Option<i64>) {
        assert_eq!(read_number(field), expected, "{}", field.escape_ascii());
    }

    #[test]
    fn octal_is_read_with_any_filling() {
        check(b"0000644\0", Some(0o644));
        check(b" 644 \0\0\0", Some(0o644));
        check(b"77777777777\0", Some(0o77_777_777_777));
        check(b"777777777777", Some(0o777_777_777_777));
        check(b"\0\0\0\0\0\0\0\0", Some(0));
        check(b"", Some(0));
        check(b"00008\0", None);
        check(b"12 34\0", None);
        check(b"-1\0", None);
        check(b"0x10\0", None);
    }

    #[test]
    fn base_256_is_read_with_its_sign() {
        check(b"\x80\0\0\0\0\0\0\0\0\0\0\x05", Some(5));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf3", Some(-13));
        check(b"\x80\0\0\x01\x2a\x05\xf2\0", Some(0x0001_2a05_f200));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2));
        check(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX));
        check(b"\x80\0\0\0\x80\0\0\0\0\0\0\0", None);
        check(b"\x81\0\0\0\0\0\0\0\0\0\0\0", None);
    }

    #[test]
    fn what_is_written_is_read_and_what_does_not_fit_is_not_written() {
        let mut field = [0; 8];
        for value in [0, 1, 0o7_777_777] {
            assert!(write_octal(&mut field, value));
            check(&field, i64::try_from(value).ok());
        }
        assert!(!write_octal(&mut field, 0o10_000_000));
        let mut field = [0; 12];
        assert!(write_octal(&mut field, (8 << 30) - 1));
        assert_eq!(&field, b"77777777777\0");
        assert!(!write_octal(&mut field, 8 << 30));
    }
}
