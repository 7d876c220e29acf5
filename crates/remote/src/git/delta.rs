//! Objects that are written as a difference to another one.

use super::pack::Damage;

/// The size that a delta says its result has.
pub(crate) fn result_size(delta: &[u8]) -> Result<u64, Damage> {
    let mut input = Input(delta);
    input.size()?;
    input.size()
}

/// Makes the object that `delta` describes from `base`. Nothing larger than `limit` is made.
pub(crate) fn apply(base: &[u8], delta: &[u8], limit: u64) -> Result<Vec<u8>, Damage> {
    let mut input = Input(delta);
    if input.size()? != base.len() as u64 {
        return Err(Damage::Delta);
    }
    let size = input.size()?;
    if size > limit {
        return Err(Damage::TooLarge { size, limit });
    }
    let size = usize::try_from(size).map_err(|_| Damage::Delta)?;
    // Not reserved at once: the size is only a claim until that many bytes came.
    let mut result = Vec::with_capacity(size.min(1 << 20));
    while let Some(code) = input.next() {
        let piece = if code & 0x80 != 0 {
            let offset = input.sparse(code, 4)?;
            let length = match input.sparse(code >> 4, 3)? {
                0 => 0x10000,
                length => length,
            };
            offset.checked_add(length).and_then(|end| base.get(offset..end))
        } else {
            // Code 0 is reserved, and takes nothing here: an endless delta of nothing is refused.
            input.take(usize::from(code)).filter(|piece| !piece.is_empty())
        };
        let piece = piece.ok_or(Damage::Delta)?;
        if piece.len() > size - result.len() {
            return Err(Damage::Delta);
        }
        result.extend_from_slice(piece);
    }
    if result.len() == size { Ok(result) } else { Err(Damage::Delta) }
}

struct Input<'d>(&'d [u8]);

impl<'d> Input<'d> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, count: usize) -> Option<&'d [u8]> {
        let (piece, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(piece)
    }

    /// Seven bits a byte, least first.
    fn size(&mut self) -> Result<u64, Damage> {
        let mut size = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.next().ok_or(Damage::Delta)?;
            size |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(size);
            }
        }
        Err(Damage::Delta)
    }

    /// A number of which only the bytes that `present` has bits for were written.
    fn sparse(&mut self, present: u8, bytes: u32) -> Result<usize, Damage> {
        let mut number = 0;
        for index in 0..bytes {
            if present & (1 << index) != 0 {
                let byte = self.next().ok_or(Damage::Delta)?;
                number |= usize::from(byte) << (8 * index);
            }
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(delta: &[u8], expected: &str) {
        let actual = match apply(b"0123456789", delta, 100) {
            Ok(result) => String::from_utf8_lossy(&result).into_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(actual, expected, "{delta:?}");
    }

    const BAD: &str = "a delta does not fit its base";

    #[test]
    fn copies_and_new_bytes_make_the_result() {
        check(&[10, 5, 0x91, 2, 3, 2, b'x', b'y'], "234xy");
        check(&[10, 10, 0x90, 10], "0123456789");
    }

    #[test]
    fn what_reaches_beyond_the_base_or_the_result_is_refused() {
        check(&[10, 5, 0x91, 8, 5], BAD);
        check(&[10, 5, 0x90, 6], BAD);
        check(&[10, 5, 0x90, 4], BAD);
        check(&[10, 1, 0x80], BAD);
        check(&[9, 1, 1, b'x'], BAD);
        check(&[10, 1, 0], BAD);
        check(&[10, 1, 2, b'x'], BAD);
        check(&[10, 0x80], BAD);
        check(&[10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], BAD);
        check(&[], BAD);
    }

    #[test]
    fn a_result_beyond_the_limit_is_not_made() {
        check(&[10, 101, 0x90, 10], "an object has 101 bytes, and no more than 100 are taken");
    }
}
