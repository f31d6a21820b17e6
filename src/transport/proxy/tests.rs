use proptest::prelude::*;

use super::*;

/// What is read, and what is left.
fn parse(bytes: &[u8]) -> Result<(Proxied, Vec<u8>), Refused> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut input = bytes;
    let proxied = runtime.block_on(read(&mut input))?;
    Ok((proxied, input.to_vec()))
}

fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(rest.len()).expect("short").to_be_bytes());
    bytes.extend_from_slice(rest);
    bytes
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let size = u16::try_from(value.len()).expect("short").to_be_bytes();
    [&[kind], &size[..], value].concat()
}

const V4: [u8; 12] = [192, 0, 2, 1, 192, 0, 2, 2, 0x12, 0x34, 0x07, 0x5B];

fn address(bytes: &[u8]) -> Option<String> {
    let (proxied, left) = parse(&[bytes, b"\x10rest"].concat()).expect("valid");
    assert_eq!(left, b"\x10rest", "what follows is the client's");
    proxied.address.map(|address| address.to_string())
}

#[test]
fn version_1() {
    let tcp4 = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 1883\r\n";
    assert_eq!(address(tcp4).as_deref(), Some("192.0.2.1:56324"));
    let tcp6 = b"PROXY TCP6 2001:db8::1 ::1 56324 1883\r\n";
    assert_eq!(address(tcp6).as_deref(), Some("[2001:db8::1]:56324"));
    assert_eq!(address(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(address(b"PROXY UNKNOWN ffff:f ffff:f 65535 65535\r\n"), None);
}

#[test]
fn version_2_addresses() {
    assert_eq!(address(&version_2(0x21, 0x11, &V4)).as_deref(), Some("192.0.2.1:4660"));
    let mut v6 = [0; 36];
    v6[15] = 1;
    v6[33] = 7;
    assert_eq!(address(&version_2(0x21, 0x21, &v6)).as_deref(), Some("[::1]:7"));
    assert_eq!(address(&version_2(0x20, 0x11, &V4)), None, "the proxy's own");
    assert_eq!(address(&version_2(0x21, 0x00, &[])), None, "unspecified");
    assert_eq!(address(&version_2(0x21, 0x31, &[0; 216])), None, "a Unix socket");
}

/// A name counts only if the proxy says that it has verified the certificate.
#[test]
fn the_name_in_a_certificate() {
    let name = |client: u8, verify: u32| {
        let ssl = [
            &[client],
            &verify.to_be_bytes()[..],
            &tlv(0x21, b"TLSv1.3"),
            &tlv(SUBTYPE_CN, b"ann"),
        ]
        .concat();
        let rest = [&V4[..], &tlv(4, b""), &tlv(TYPE_SSL, &ssl)].concat();
        parse(&version_2(0x21, 0x11, &rest)).expect("valid").0.common_name
    };
    assert_eq!(name(0x07, 0).as_deref(), Some("ann"));
    assert_eq!(name(0x07, 1), None, "not verified");
    assert_eq!(name(0x01, 0), None, "TLS without a certificate");
}

#[test]
fn what_is_refused() {
    for bytes in [
        &b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0"[..],
        b"PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 1883\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 1883",
        b"PROXY",
        &[b"PROXY UNKNOWN ", &[b'a'; 200][..]].concat(),
        &SIGNATURE,
        &version_2(0x21, 0x11, &V4[..11]),
        &version_2(0x22, 0x11, &V4),
        &version_2(0x11, 0x11, &V4),
        &version_2(0x21, 0x41, &V4),
        &version_2(0x21, 0x11, &V4)[..20],
        &version_2(0x21, 0x11, &[&V4[..], &[TYPE_SSL, 0, 9, 1]].concat()),
        &version_2(0x21, 0x11, &[&V4[..], &tlv(TYPE_SSL, &[1, 0])].concat()),
        &version_2(0x21, 0x11, &[0; 5000]),
    ] {
        assert!(parse(bytes).is_err(), "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(family in any::<u8>(), rest in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&version_2(0x21, family, &rest));
    }
}

#[test]
fn networks() {
    let trusted: TrustedProxies = "10.0.0.0/8, 192.0.2.7, 2001:db8::/32, ::1".parse().expect("valid");
    let contains = |text: &str| trusted.contains(text.parse().expect("an address"));
    for inside in ["10.255.0.1", "192.0.2.7", "2001:db8:1::1", "::1", "::ffff:10.1.1.1"] {
        assert!(contains(inside), "{inside}");
    }
    for outside in ["11.0.0.1", "192.0.2.8", "2001:db9::1", "::2", "::ffff:11.1.1.1"] {
        assert!(!contains(outside), "{outside}");
    }
    let everybody: TrustedProxies = "0.0.0.0/0,::/0".parse().expect("valid");
    assert!(everybody.contains(IpAddr::from([1, 2, 3, 4])) && everybody.contains(IpAddr::from([1; 16])));
    for wrong in ["", "10.0.0.0/33", "::/129", "localhost", "10.0.0.0/", "10.0.0.0/8,"] {
        assert!(wrong.parse::<TrustedProxies>().is_err(), "{wrong:?}");
    }
    assert!(!TrustedProxies::default().contains(IpAddr::from([127, 0, 0, 1])));
}
