use proptest::prelude::*;

use super::*;

const MASK: [u8; 4] = [1, 2, 3, 250];

/// A frame as a client sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        size @ 0..=125 => bytes.push(0x80 | size as u8),
        size @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(size as u16).to_be_bytes());
        }
        size => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(size as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ MASK[index % 4]));
    bytes
}

/// The payload, when the bytes arrive in pieces of these sizes.
fn decode(bytes: &[u8], sizes: &[usize]) -> Result<(Vec<u8>, Decoder), FrameError> {
    let (mut decoder, mut payload, mut rest) = (Decoder::default(), Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        let (now, later) = rest.split_at((*size).min(rest.len()));
        let mut now = now.to_vec();
        let size = decoder.decode(&mut now)?;
        payload.extend_from_slice(&now[..size]);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    Ok((payload, decoder))
}

fn code(bytes: &[u8]) -> Option<u16> {
    decode(bytes, &[1]).err().map(|error| error.code)
}

proptest! {
    /// Whatever the frames and the pieces in which they arrive, what comes out is the stream [MQTT-6.0.0-2]
    /// [MQTT3-6.0.0-2].
    #[test]
    fn frames_and_pieces_do_not_matter(
        messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), any::<bool>()), 1..20),
        sizes in prop::collection::vec(1_usize..400, 1..10),
    ) {
        let (mut bytes, mut expected, mut fragmented, mut pings) = (Vec::new(), Vec::new(), false, false);
        for (payload, last, ping) in &messages {
            let opcode = if fragmented { CONTINUATION } else { BINARY };
            bytes.extend(frame(opcode | if *last { 0x80 } else { 0 }, payload));
            expected.extend_from_slice(payload);
            fragmented = !*last;
            if *ping {
                bytes.extend(frame(0x80 | PING, &payload[..payload.len().min(125)]));
                pings = true;
            }
        }
        let (payload, mut decoder) = decode(&bytes, &sizes).expect("valid");
        prop_assert_eq!(payload, expected);
        prop_assert_eq!(decoder.take_ping().is_some(), pings);
        prop_assert!(!decoder.is_closed());
    }

    /// No input is too strange.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 1..200), sizes in prop::collection::vec(1_usize..50, 1..5)) {
        let _ = decode(&bytes, &sizes);
    }
}

#[test]
fn large_frames_have_long_lengths() {
    for size in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
        let payload: Vec<u8> = (0..size).map(|index| index as u8).collect();
        let (decoded, _) = decode(&frame(0x80 | BINARY, &payload), &[4096]).expect("valid");
        assert_eq!(decoded, payload);
        let mut header = Header::binary(size);
        let length = header.unsent().len();
        assert_eq!(length, [2, 4, 10][usize::from(size > 125) + usize::from(size > 65_535)]);
        assert_eq!(header.sent(1), 0);
        assert_eq!((header.unsent().len(), header.sent(length + 6)), (length - 1, 7));
    }
}

#[test]
fn what_is_refused() {
    assert_eq!(code(&frame(0x80 | TEXT, b"text")), Some(1003));
    assert_eq!(code(&frame(0xC0 | BINARY, b"")), Some(1002), "reserved bit");
    assert_eq!(code(&[0x80 | BINARY, 1, 0]), Some(1002), "without mask");
    assert_eq!(code(&frame(0x80, b"")), Some(1002), "continues nothing");
    assert_eq!(
        code(&[frame(BINARY, b"a"), frame(BINARY, b"b")].concat()),
        Some(1002),
        "begins within"
    );
    assert_eq!(code(&frame(PING, b"")), Some(1002), "fragmented control frame");
    assert_eq!(code(&frame(0x80 | PING, &[0; 126])), Some(1002), "large control frame");
    assert_eq!(code(&frame(0x83, b"")), Some(1002), "unknown");
    assert_eq!(code(&frame(0x8B, b"")), Some(1002), "unknown control frame");
    let mut huge = vec![0x82, 0xFF];
    huge.extend_from_slice(&u64::MAX.to_be_bytes());
    huge.extend_from_slice(&MASK);
    assert_eq!(code(&huge), Some(1009));
}

#[test]
fn nothing_follows_a_close_frame() {
    let bytes = [frame(0x82, b"a"), frame(0x88, &[3, 232]), frame(0x82, b"b")].concat();
    let (payload, decoder) = decode(&bytes, &[1000]).expect("valid");
    assert!(decoder.is_closed());
    assert_eq!(payload, b"a");
}

#[test]
fn the_last_ping_is_answered() {
    let bytes = [frame(0x89, b"one"), frame(0x8A, b"pong"), frame(0x89, b"two")].concat();
    let (_, mut decoder) = decode(&bytes, &[2]).expect("valid");
    let ping = decoder.take_ping().expect("a ping");
    assert_eq!(pong(&ping), [&[0x8A, 3], &b"two"[..]].concat());
    assert!(decoder.take_ping().is_none());
    assert_eq!(close(NORMAL), [0x88, 2, 3, 232]);
}

/// An idle connection owns one.
#[test]
fn a_decoder_is_small() {
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
}
