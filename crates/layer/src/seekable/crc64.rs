//! CRC-64 with the polynomial of ISO 3309, by which tar-split knows a file's content.

const POLYNOMIAL: u64 = 0xd800_0000_0000_0000;

/// `TABLES[n][b]` is the remainder of the byte `b` with `n` bytes of zeros behind it.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            let carry = remainder & 1;
            remainder >>= 1;
            if carry == 1 {
                remainder ^= POLYNOMIAL;
            }
            bit += 1;
        }
        tables[0][byte] = remainder;
        byte += 1;
    }
    let mut zeros = 1;
    while zeros < 8 {
        let mut byte = 0;
        while byte < 256 {
            let shorter = tables[zeros - 1][byte];
            tables[zeros][byte] = tables[0][(shorter & 0xff) as usize] ^ (shorter >> 8);
            byte += 1;
        }
        zeros += 1;
    }
    tables
}

/// The sum of the bytes so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crc64(u64);

impl Crc64 {
    pub(super) fn new() -> Self {
        Self(!0)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        let mut state = self.0;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            let mixed = (state ^ u64::from_le_bytes(*word)).to_le_bytes();
            state = 0;
            for (byte, table) in mixed.iter().zip(TABLES.iter().rev()) {
                state ^= table[usize::from(*byte)];
            }
        }
        for byte in rest {
            let index = usize::from(state.to_le_bytes()[0] ^ byte);
            state = TABLES[0][index] ^ (state >> 8);
        }
        self.0 = state;
    }

    /// As tar-split writes it.
    pub(super) fn finish(self) -> [u8; 8] {
        (!self.0).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit by bit, as the polynomial is defined.
    fn slow(bytes: &[u8]) -> [u8; 8] {
        let mut state = !0_u64;
        for byte in bytes {
            state ^= u64::from(*byte);
            for _ in 0..8 {
                state = if state & 1 == 1 { state >> 1 ^ POLYNOMIAL } else { state >> 1 };
            }
        }
        (!state).to_be_bytes()
    }

    #[test]
    fn the_sums_are_those_of_the_catalogue() {
        // CRC-64/GO-ISO in the catalogue of parametrised CRC algorithms.
        let mut sum = Crc64::new();
        sum.update(b"123456789");
        assert_eq!(sum.finish(), 0xb909_56c7_75a4_1001_u64.to_be_bytes());
    }

    #[test]
    fn however_the_bytes_come_the_sum_is_the_same() {
        let bytes: Vec<u8> =
            (0..1000_u32).map(|index| (index * 7 % 251).to_le_bytes()[0]).collect();
        for length in [0, 1, 7, 8, 9, 63, 64, 65, 1000] {
            for piece in [1, 3, 8, 13, 1000] {
                let mut sum = Crc64::new();
                bytes[..length].chunks(piece).for_each(|piece| sum.update(piece));
                assert_eq!(sum.finish(), slow(&bytes[..length]), "{length} bytes by {piece}");
            }
        }
    }
}
