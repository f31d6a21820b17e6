//! The content of messages: a label, and a filling that follows from it, so that a garbled one is seen.

use crate::event::Name;

/// The payload of the message with this label.
pub fn of(label: &str) -> Vec<u8> {
    let seed = label
        .bytes()
        .fold(7_u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(u32::from(byte)));
    // Some are large, for parts of the store that have a place of their own for these.
    let length = if seed.is_multiple_of(97) { 3000 } else { seed % 120 };
    let filling = (0..length).map(|at| b'a' + (seed.wrapping_add(at) % 26) as u8);
    label.bytes().chain([b'|']).chain(filling).collect()
}

/// The label in a payload; if the rest is not as it was sent, one that nobody has given.
pub fn label(payload: &[u8]) -> Name {
    let end = payload.iter().position(|byte| *byte == b'|').unwrap_or(payload.len());
    let label = String::from_utf8_lossy(&payload[..end]).replace(char::is_whitespace, "_");
    if payload.is_empty() || of(&label) == payload {
        label.into()
    } else {
        format!("garbled-{label}").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_label() {
        for name in ["p1-7", "will-c-1", "x"] {
            assert_eq!(&*label(&of(name)), name);
        }
        assert_eq!(&*label(b""), "");
    }

    #[test]
    fn a_garbled_payload_has_another() {
        let mut payload = of("p1-7");
        payload.push(b'!');
        assert_eq!(&*label(&payload), "garbled-p1-7");
        assert_eq!(&*label(b"p1 7"), "garbled-p1_7");
    }
}
