//! The data representations of section 1.5, written and read byte by byte.

/// A Variable Byte Integer in its shortest form (section 1.5.5).
pub fn varint(mut value: u32) -> Vec<u8> {
    assert!(value <= 268_435_455, "not a Variable Byte Integer: {value}");
    let mut out = Vec::new();
    loop {
        let byte = u8::try_from(value % 128).expect("below 128");
        value /= 128;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// A length-prefixed string (section 1.5.4).
pub fn string(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

/// Length-prefixed bytes (section 1.5.6); with ill-formed UTF-8 in them also a malformed string.
pub fn binary(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("at most 65,535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}

/// A whole packet: fixed header byte, Remaining Length, body.
pub fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let length = varint(u32::try_from(body.len()).expect("a body has at most 268,435,455 bytes"));
    [&[first_byte], length.as_slice(), body].concat()
}

/// The first complete packet of `bytes`: its first byte, its body and its whole length. `None` when it is incomplete.
pub fn split(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (&first, mut rest) = bytes.split_first()?;
    let before = rest.len();
    let length = usize::try_from(read_varint(&mut rest)?).expect("usize has 32 bits");
    let header = 1 + before - rest.len();
    Some((first, rest.get(..length)?, header + length))
}

/// Takes a Variable Byte Integer; `None` when it is incomplete. Panics when it is not in the shortest form, which
/// binds the broker as well [MQTT-1.5.5-1].
fn read_varint(rest: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for index in 0..4 {
        let (&byte, tail) = rest.split_first()?;
        *rest = tail;
        value |= u32::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            assert!(
                index == 0 || byte != 0,
                "a Variable Byte Integer that is longer than necessary"
            );
            return Some(value);
        }
    }
    panic!("a Variable Byte Integer of more than four bytes");
}

/// Reads the body of a packet; every read panics when the broker has sent too little or something ill-formed.
pub struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .expect("a field that runs over the end of its packet");
        self.rest = tail;
        head
    }

    pub fn u8(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().expect("two bytes"))
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes(4).try_into().expect("four bytes"))
    }

    pub fn varint(&mut self) -> u32 {
        read_varint(&mut self.rest).expect("a Variable Byte Integer that runs over the end of its packet")
    }

    pub fn binary(&mut self) -> Vec<u8> {
        let length = usize::from(self.u16());
        self.bytes(length).to_vec()
    }

    /// A string, which must be well-formed UTF-8 without U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2].
    pub fn string(&mut self) -> String {
        let text = String::from_utf8(self.binary()).expect("a string from the broker is well-formed UTF-8");
        assert!(!text.contains('\0'), "a string from the broker contains U+0000");
        text
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
}
