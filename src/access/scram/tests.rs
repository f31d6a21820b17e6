use proptest::prelude::*;

use super::*;

/// The exchange of RFC 7677, section 3: user "user", password "pencil".
const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const RANDOM: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const FINAL: &[u8] = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

fn pencil() -> ScramVerifier {
    let salt = BASE64.decode(b"W22ZaJ0SNY7soEsUEjb6gQ==").expect("valid");
    ScramVerifier::derive(b"pencil", &salt, NonZeroU32::new(4096).expect("not zero"))
}

fn begin(first: &[u8], is_known: bool) -> (Exchange, String) {
    let (first, verifier) = (ClientFirst::parse(first).expect("valid"), pencil());
    Exchange::begin_with(&first, is_known.then_some(&verifier), &verifier, RANDOM)
}

#[test]
fn the_example_of_rfc_7677() {
    let (exchange, answer) = begin(FIRST, true);
    assert_eq!(
        answer,
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    assert_eq!(exchange.username(), "user");
    let signature = exchange.finish(FINAL).expect("right");
    assert_eq!(signature, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

/// The right proof of a user who does not exist helps nobody.
#[test]
fn what_is_wrong_is_refused() {
    assert_eq!(
        begin(FIRST, false).0.finish(FINAL),
        Err(ScramError("the proof is wrong"))
    );
    let text = String::from_utf8(FINAL.to_vec()).expect("UTF-8");
    for (damaged, reason) in [
        (text.replace("p=dH", "p=dG"), "the proof is wrong"),
        (text.replace("p=dH", "p=d"), "the proof is damaged"),
        (text.replace("p=", "q="), "there is no proof"),
        (text.replace("r=r", "r=s"), "the nonce is another"),
        (
            text.replace("biws", "eSws"),
            "the header of the first message is not repeated",
        ),
        (
            text.replace("c=biws,", ""),
            "the header of the first message is not repeated",
        ),
        (String::new(), "there is no proof"),
        ("x".repeat(5000), "the message is too long"),
    ] {
        assert_eq!(
            begin(FIRST, true).0.finish(damaged.as_bytes()),
            Err(ScramError(reason)),
            "{damaged}"
        );
    }
}

#[test]
fn first_messages() {
    let name = |message: &str| ClientFirst::parse(message.as_bytes()).map(|first| first.username);
    assert_eq!(name("n,,n=user,r=x"), Ok("user".into()));
    assert_eq!(name("y,,n=a=2Cb=3Dc,r=x,ext=1"), Ok("a,b=c".into()));
    assert_eq!(name("n,a=user,n=user,r=x"), Ok("user".into()));
    // The same name in another form.
    assert_eq!(name("n,,n=\u{2168},r=x"), Ok("IX".into()));
    for (message, reason) in [
        ("p=tls-unique,,n=user,r=x", "there is no channel binding"),
        ("n,a=other,n=user,r=x", "a user may act as itself only"),
        ("n,,n=,r=x", "the user name is empty"),
        ("n,,n=a=b,r=x", "the user name has a lone ="),
        ("n,,n=a=,r=x", "the user name has a lone ="),
        ("n,,n=user,r=", "the nonce is empty or not printable"),
        ("n,,n=user,r=a b", "the nonce is empty or not printable"),
        ("n,,m=ext,n=user,r=x", "a first message of SCRAM without name and nonce"),
        ("n,,r=x,n=user", "a first message of SCRAM without name and nonce"),
        ("x,,n=user,r=x", "not the first message of SCRAM"),
        ("n,b=user,n=user,r=x", "not the first message of SCRAM"),
        ("n", "not the first message of SCRAM"),
        ("", "not the first message of SCRAM"),
    ] {
        assert_eq!(name(message), Err(ScramError(reason)), "{message}");
    }
    assert_eq!(
        ClientFirst::parse(b"n,,n=\xFF,r=x"),
        Err(ScramError("the message is not UTF-8"))
    );
}

#[test]
fn users_that_do_not_exist_look_like_others() {
    let first = |name: &str| begin(format!("n,,n={name},r=x").as_bytes(), false).1;
    assert_eq!(first("carl"), first("carl"));
    let salt = |answer: &str| answer.split(",s=").nth(1).map(str::to_owned);
    assert_ne!(salt(&first("carl")), salt(&first("dora")));
    assert_eq!(first("carl").len(), begin(b"n,,n=user,r=x", true).1.len());
}

#[test]
fn verifiers_are_written_and_read() {
    let verifier = ScramVerifier::new("p\u{e4}ssword".as_bytes()).expect("made");
    let text = verifier.to_string();
    assert!(text.starts_with("$scram-sha-256$i=20000$"), "{text}");
    let read = ScramVerifier::parse(&text).expect("valid");
    assert_eq!(read.to_string(), text);
    // Composed and decomposed.
    assert!(read.verify("p\u{e4}ssword".as_bytes()) && read.verify("pa\u{308}ssword".as_bytes()));
    assert!(!read.verify(b"password") && !read.verify(b"") && !read.verify(b"\xFF"));
    assert!(ScramVerifier::new(b"\x07").is_err() && ScramVerifier::new(b"\xFF").is_err());
    for damaged in [
        text.replace("i=20000", "i=4095"),
        text.replace("i=20000", "i=4000000000"),
        text.replace("i=20000", "20000"),
        text.replace("sha-256", "sha-1"),
        text[..text.len() - 1].to_owned(),
        text.clone() + "$",
        "$scram-sha-256$i=20000$$$".to_owned(),
    ] {
        assert!(ScramVerifier::parse(&damaged).is_err(), "{damaged}");
    }
    assert!(!format!("{verifier:?}").contains(&BASE64.encode(&verifier.stored_key)));
}

fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let part = prop::sample::select(vec![
        "n,,", "n=", "r=", "c=biws", ",p=", "=2C", "=", ",", "\u{e4}", "x", "AAAA", "a=",
    ]);
    let text = prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat().into_bytes());
    prop_oneof![text, prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    /// Nothing that a client says panics, and nothing but the proof is one.
    #[test]
    fn nothing_but_the_proof_is_one(first in hostile(), last in hostile()) {
        let _ = ClientFirst::parse(&first);
        prop_assert!(begin(FIRST, true).0.finish(&last).is_err());
    }
}
