//! The data representations of section 1.5: integers, UTF-8 strings, binary data, string pairs.
//!
//! Reading borrows and never allocates; nothing is believed about a length before the bytes are there.

/// The largest value of a Variable Byte Integer, and so the largest Remaining Length.
pub(crate) const MAX_VARINT: u32 = 268_435_455;

/// Bytes that are not what section 1.5 says, with the fault in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Reads one field after the other from a slice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    #[inline]
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed("field is cut short"))?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(Malformed("field is cut short"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// Binary Data (section 1.5.6).
    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// A UTF-8 Encoded String with its length.
    #[inline]
    pub(crate) fn string(&mut self) -> Result<&'a str, Malformed> {
        text(self.binary()?)
    }

    /// A Variable Byte Integer (section 1.5.5).
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, Malformed> {
        match varint(self.rest)? {
            Some((value, length)) => {
                self.rest = &self.rest[length..];
                Ok(value)
            }
            None => Err(Malformed("field is cut short")),
        }
    }
}

/// The characters of a UTF-8 Encoded String (section 1.5.4): well-formed [MQTT-1.5.4-1] [MQTT3-1.5.3-1], without U+0000
/// [MQTT-1.5.4-2] [MQTT3-1.5.3-2]; a byte order mark is a character like any other [MQTT-1.5.4-3] [MQTT3-1.5.3-3].
#[inline]
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.contains(&0) {
        return Err(Malformed("string contains U+0000"));
    }
    std::str::from_utf8(bytes).map_err(|_| Malformed("string is not well-formed UTF-8"))
}

/// The Variable Byte Integer at the start of these bytes and how many bytes it has, or `None` if they end before it.
#[inline]
pub(crate) fn varint(bytes: &[u8]) -> Result<Option<(u32, usize)>, Malformed> {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte < 0x80 {
            // Only the encoding of 0 may end in a zero byte [MQTT-1.5.5-1].
            if byte == 0 && index > 0 {
                return Err(Malformed("Variable Byte Integer is longer than necessary"));
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 {
        Err(Malformed("Variable Byte Integer has more than four bytes"))
    } else {
        Ok(None)
    }
}

/// How many bytes a Variable Byte Integer of this value has.
#[inline]
pub(crate) const fn varint_len(value: u32) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Appends a Variable Byte Integer; the value must not be above [`MAX_VARINT`].
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    debug_assert!(value <= MAX_VARINT, "no Variable Byte Integer holds {value}");
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends Binary Data or, given its bytes, a UTF-8 Encoded String. The caller has checked that the length fits.
#[inline]
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX), "a field of {} bytes", bytes.len());
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_at_their_edges() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (MAX_VARINT, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes);
            assert_eq!(varint_len(value), bytes.len());
            assert_eq!(varint(bytes), Ok(Some((value, bytes.len()))));
            assert_eq!(varint(&[bytes, &[0xFF; 9]].concat()), Ok(Some((value, bytes.len()))));
            assert_eq!(varint(&bytes[..bytes.len() - 1]), Ok(None));
        }
    }

    #[test]
    fn variable_byte_integers_are_minimal_and_not_too_long() {
        for bytes in [
            &[0x80, 0x00][..],
            &[0xFF, 0x00],
            &[0x80, 0x80, 0x00],
            &[0xFF, 0xFF, 0xFF, 0x00],
        ] {
            assert_eq!(
                varint(bytes),
                Err(Malformed("Variable Byte Integer is longer than necessary"))
            );
        }
        for bytes in [&[0x80; 4][..], &[0xFF; 4], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
            assert_eq!(
                varint(bytes),
                Err(Malformed("Variable Byte Integer has more than four bytes"))
            );
        }
    }

    #[test]
    fn a_failed_read_consumes_nothing() {
        let mut reader = Reader::new(&[0, 3, b'a']);
        assert!(reader.string().is_err());
        assert!(reader.u32().is_err());
        assert_eq!(Reader::new(&[1]).u16(), Err(Malformed("field is cut short")));
        assert_eq!(Reader::new(&[]).u8(), Err(Malformed("field is cut short")));
    }
}
