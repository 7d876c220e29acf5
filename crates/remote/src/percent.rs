//! `%40` and its like in URLs.

/// The bytes that `text` stands for. A `%` without two digits stands for itself.
pub(crate) fn decode(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [b'%', high, low, tail @ ..] => {
                let (Some(high), Some(low)) = (digit(*high), digit(*low)) else {
                    bytes.push(b'%');
                    rest = rest.get(1..).unwrap_or_default();
                    continue;
                };
                bytes.push(high << 4 | low);
                tail
            }
            [byte, tail @ ..] => {
                bytes.push(*byte);
                tail
            }
            [] => return bytes,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_digits_after_a_percent_sign_are_a_byte() {
        for (text, expected) in [
            ("a%40b", "a@b"),
            ("%e2%82%AC", "€"),
            ("%", "%"),
            ("%4", "%4"),
            ("%+4", "%+4"),
            ("%%41", "%A"),
        ] {
            assert_eq!(String::from_utf8_lossy(&decode(text)), expected, "{text}");
        }
    }
}
