use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair,
};
use data_encoding::BASE64;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn settings() -> JwtSettings {
    JwtSettings::new(JwtKeys::File("x".into()))
}

fn set_settings() -> JwtSettings {
    JwtSettings::new(JwtKeys::Set("x".into()))
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": now() + 60})
}

fn sign(algorithm: Algorithm, claims: &Value, key: &EncodingKey) -> String {
    encode(&Header::new(algorithm), claims, key).expect("signed")
}

fn hmac(claims: &Value) -> String {
    sign(
        Algorithm::HS256,
        claims,
        &EncodingKey::from_secret(SECRET).expect("long enough"),
    )
}

fn pem(der: &[u8]) -> String {
    format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64.encode(der)
    )
}

/// Private key, public key in PEM, and as JWK.
fn rsa(size: KeySize) -> (EncodingKey, String, Value) {
    let pair = RsaKeyPair::generate(size).expect("made");
    let public = pair.public_key();
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(public).expect("encoded");
    let private = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).expect("encoded");
    let components = aws_lc_rs::signature::RsaPublicKeyComponents::<Vec<u8>>::from(public);
    let jwk =
        json!({"kty": "RSA", "n": BASE64URL_NOPAD.encode(&components.n), "e": BASE64URL_NOPAD.encode(&components.e)});
    // What signs takes PKCS #1, which PKCS #8 has within.
    (
        EncodingKey::from_rsa_der(&private.as_ref()[26..]),
        pem(der.as_ref()),
        jwk,
    )
}

fn ec(p384: bool) -> (EncodingKey, String, Value) {
    let (algorithm, curve) = match p384 {
        true => (&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
        false => (&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
    };
    let pair = EcdsaKeyPair::generate(algorithm).expect("made");
    let private = pair.to_pkcs8v1().expect("encoded");
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("encoded");
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    let jwk = json!({"kty": "EC", "crv": curve, "x": BASE64URL_NOPAD.encode(x), "y": BASE64URL_NOPAD.encode(y)});
    (EncodingKey::from_ec_der(private.as_ref()), pem(der.as_ref()), jwk)
}

fn ed() -> (EncodingKey, String, Value) {
    let pair = Ed25519KeyPair::generate().expect("made");
    let private = pair.to_pkcs8v1().expect("encoded");
    let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(pair.public_key()).expect("encoded");
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": BASE64URL_NOPAD.encode(pair.public_key().as_ref())});
    (EncodingKey::from_ed_der(private.as_ref()), pem(der.as_ref()), jwk)
}

fn set(keys: &[&Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

#[test]
fn a_secret_verifies_what_it_has_signed() {
    let jwt = Jwt::parse(&settings(), &[SECRET, b"\n"].concat()).expect("valid");
    let token = jwt.verify(hmac(&claims()).as_bytes()).expect("valid");
    assert_eq!((&*token.username, token.rules()), ("ann", None));
    assert!(jwt.is_secret() && jwt.has_key(token.key) && !jwt.has_key(token.key ^ 1));
    // Expiry, and the leeway.
    assert!((80..=90).contains(&token.remaining.as_secs()), "{:?}", token.remaining);
    for (algorithm, length) in [(Algorithm::HS384, 48), (Algorithm::HS512, 64)] {
        let key = EncodingKey::from_secret(&SECRET[..length]).expect("long enough");
        let fitting = Jwt::parse(&settings(), &SECRET[..length]).expect("valid");
        fitting
            .verify(sign(algorithm, &claims(), &key).as_bytes())
            .expect("valid");
        let shorter = Jwt::parse(&settings(), &SECRET[..length - 1]).expect("valid");
        let key = EncodingKey::from_secret(&SECRET[..length - 1]).expect("long enough");
        shorter
            .verify(sign(algorithm, &claims(), &key).as_bytes())
            .expect_err("too short for it");
    }
}

#[test]
fn public_keys_of_all_kinds() {
    let (p256, p384, ed) = (ec(false), ec(true), ed());
    let rsa = rsa(KeySize::Rsa2048);
    let all = [
        (
            &rsa,
            &[Algorithm::RS256, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384][..],
        ),
        (&p256, &[Algorithm::ES256]),
        (&p384, &[Algorithm::ES384]),
        (&ed, &[Algorithm::EdDSA]),
    ];
    let pems = all.map(|((_, pem, _), _)| pem.as_str()).concat();
    let jwks = set(&all.map(|((_, _, jwk), _)| jwk));
    let every = Jwt::parse(&settings(), pems.as_bytes()).expect("valid");
    let in_set = Jwt::parse(&set_settings(), &jwks).expect("valid");
    for ((private, pem, jwk), algorithms) in all {
        let from_pem = Jwt::parse(&settings(), pem.as_bytes()).expect("valid");
        let from_set = Jwt::parse(&set_settings(), &set(&[jwk])).expect("valid");
        for algorithm in algorithms {
            let token = sign(*algorithm, &claims(), private);
            for jwt in [&every, &in_set, &from_pem, &from_set] {
                jwt.verify(token.as_bytes()).expect("valid");
                assert!(!jwt.is_secret());
            }
        }
    }
}

/// A public key is no secret, whatever a token says.
#[test]
fn a_public_key_is_never_a_secret() {
    let (private, pem, jwk) = rsa(KeySize::Rsa2048);
    let jwt = Jwt::parse(&settings(), pem.as_bytes()).expect("valid");
    for secret in [pem.as_bytes(), pem.trim_end().as_bytes()] {
        let forged = sign(
            Algorithm::HS256,
            &claims(),
            &EncodingKey::from_secret(secret).expect("long enough"),
        );
        jwt.verify(forged.as_bytes()).expect_err("forged");
    }
    // Not even if somebody asks for it.
    let mut confused = settings();
    confused.algorithms = vec!["HS256".parse().expect("known")];
    Jwt::parse(&confused, pem.as_bytes()).expect_err("nothing fits");
    let mut narrow = set_settings();
    narrow.algorithms = vec!["RS512".parse().expect("known")];
    let jwt = Jwt::parse(&narrow, &set(&[&jwk])).expect("valid");
    jwt.verify(sign(Algorithm::RS512, &claims(), &private).as_bytes())
        .expect("valid");
    jwt.verify(sign(Algorithm::RS256, &claims(), &private).as_bytes())
        .expect_err("not allowed");
}

#[test]
fn the_set_is_searched_by_kid() {
    let (first, second) = (ec(false), ec(false));
    let named = |jwk: &Value, name: &str| {
        let mut jwk = jwk.clone();
        jwk["kid"] = name.into();
        jwk
    };
    let (one, two) = (named(&first.2, "one"), named(&second.2, "two"));
    let other = json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "three"});
    let mut unusable = ed().2;
    unusable["use"] = "enc".into();
    let jwt = Jwt::parse(&set_settings(), &set(&[&one, &two, &other, &unusable])).expect("valid");
    let sign = |kid: Option<&str>, key| {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = kid.map(str::to_owned);
        encode(&header, &claims(), key).expect("signed").into_bytes()
    };
    jwt.verify(&sign(Some("one"), &first.0)).expect("valid");
    jwt.verify(&sign(Some("two"), &second.0)).expect("valid");
    jwt.verify(&sign(None, &second.0)).expect("valid");
    assert_eq!(
        jwt.verify(&sign(Some("one"), &second.0)).err(),
        Some("its signature is wrong")
    );
    assert_eq!(
        jwt.verify(&sign(Some("three"), &first.0)).err(),
        Some("no key fits its kid and alg")
    );
    assert_eq!(
        jwt.verify(&sign(None, &ec(false).0)).err(),
        Some("its signature is wrong")
    );
}

#[test]
fn claims_are_checked() {
    let mut strict = settings();
    (strict.issuer, strict.audience) = (Some("issuer".to_owned()), Some("broker".to_owned()));
    strict.username_claim = "name".to_owned();
    let jwt = Jwt::parse(&strict, SECRET).expect("valid");
    let good = json!({"name": "ann", "exp": now() + 60, "iss": "issuer", "aud": ["x", "broker"], "nbf": now() + 20, "iat": now() + 20});
    let reason = |claims: &Value| jwt.verify(hmac(claims).as_bytes()).err();
    assert_eq!(reason(&good), None);
    let missing = "it lacks exp, or iss or aud where these are asked for";
    for (name, value, expected) in [
        ("exp", Value::Null, missing),
        ("exp", "tomorrow".into(), missing),
        ("exp", (now() - 40).into(), "it has expired"),
        ("exp", (-1).into(), missing),
        ("nbf", (now() + 60).into(), "it is not valid yet"),
        ("nbf", "x".into(), "it is damaged"),
        ("iat", (now() + 60).into(), "it was issued in the future"),
        ("iat", "x".into(), "a time is not a number"),
        ("iss", "other".into(), "its iss is another"),
        ("iss", Value::Null, missing),
        ("aud", "other".into(), "its aud is another"),
        ("aud", json!([]), "its aud is another"),
        ("name", Value::Null, "it names no user"),
        ("name", 7.into(), "it names no user"),
        ("name", "".into(), "it names no user"),
        ("name", "a\0b".into(), "it names no user"),
    ] {
        let mut bad = good.clone();
        bad[name] = value.clone();
        assert_eq!(reason(&bad), Some(expected), "{name} {value}");
    }
    // Who has no name of its own is not meant by an aud.
    let open = Jwt::parse(&settings(), SECRET).expect("valid");
    let mut meant = claims();
    meant["aud"] = "other".into();
    assert_eq!(open.verify(hmac(&meant).as_bytes()).err(), Some("its aud is another"));
    let mut endless = claims();
    endless["exp"] = json!(1e300);
    let _ = open.verify(hmac(&endless).as_bytes());
    endless["exp"] = json!(9_999_999_999_999_999_u64);
    open.verify(hmac(&endless).as_bytes()).expect("valid");
}

#[test]
fn damaged_tokens() {
    let jwt = Jwt::parse(&settings(), SECRET).expect("valid");
    let token = hmac(&claims());
    let part = |json: &Value| BASE64URL_NOPAD.encode(json.to_string().as_bytes());
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims()));
    let critical = format!(
        "{}.{}.AA",
        part(&json!({"alg": "HS256", "crit": ["exp2"], "exp2": 1})),
        part(&claims())
    );
    let list = sign(
        Algorithm::HS256,
        &json!([1]),
        &EncodingKey::from_secret(SECRET).expect("long enough"),
    );
    let giant = hmac(&json!({"sub": "ann", "exp": now() + 60, "x": "x".repeat(9000)}));
    for bad in [
        &unsigned,
        &critical,
        &list,
        &giant,
        &token[..token.len() - 3],
        &token.replace('.', ".."),
        "..",
        "",
    ] {
        jwt.verify(bad.as_bytes()).expect_err(bad);
    }
    for meant in [&unsigned, &critical, &list, &giant, &token] {
        assert!(is_token(meant.as_bytes()), "{meant}");
    }
    let giant_header = format!("{}.e30.AA", part(&json!({"alg": "HS256", "x": "x".repeat(9000)})));
    assert!(is_token(giant_header.as_bytes()));
    jwt.verify(giant_header.as_bytes()).expect_err("giant");
    for other in [
        "",
        "secret",
        "a.b.c",
        "e30",
        "e30.e30",
        "e30.e30.e30.e30",
        "W10.e30.AA",
        "pass.word.\u{e4}",
    ] {
        assert!(!is_token(other.as_bytes()), "{other}");
    }
}

#[test]
fn files_that_make_no_sense() {
    let reason = |text: &[u8]| Jwt::parse(&settings(), text).expect_err("no key");
    let (_, public, jwk) = ed();
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAA\n-----END PRIVATE KEY-----\n";
    for (text, expected) in [
        (&b""[..], "at least 32 bytes"),
        (b"short", "at least 32 bytes"),
        (private.as_bytes(), "a private key"),
        (
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "a certificate",
        ),
        (
            b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "the kinds of public keys are",
        ),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n", "the PEM is damaged"),
        (
            b"-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n",
            "the PEM is damaged",
        ),
        (&set(&[&jwk]), "--jwt-jwks-file"),
        (rsa_1024().as_bytes(), "the kinds of public keys are"),
    ] {
        assert!(
            reason(text).contains(expected),
            "{}: {}",
            String::from_utf8_lossy(text),
            reason(text)
        );
    }
    let mut der = BASE64
        .decode(public.lines().nth(1).expect("a line").as_bytes())
        .expect("valid");
    assert!(reason(&der).contains("write it in PEM"));
    // That is no line break at its end.
    *der.last_mut().expect("not empty") = b'\n';
    assert!(reason(&der).contains("write it in PEM"));
    let reason = |text: &[u8]| Jwt::parse(&set_settings(), text).expect_err("no key");
    let small = json!({"kty": "RSA", "n": BASE64URL_NOPAD.encode(&[1; 128]), "e": "AQAB"});
    let off_curve = json!({"kty": "EC", "crv": "P-256", "x": BASE64URL_NOPAD.encode(&[1; 32]), "y": BASE64URL_NOPAD.encode(&[1; 32])});
    for (text, expected) in [
        (&b""[..], "not JSON"),
        (b"{}", "not a JSON Web Key Set"),
        (b"[]", "not a JSON Web Key Set"),
        (b"{\"keys\": []}", "no key in it fits"),
        (b"{\"keys\": [1]}", "key 1: damaged"),
        (
            b"{\"keys\": [{\"kty\": \"oct\", \"k\": \"AAAA\"}]}",
            "key 1: a secret has at least 32 bytes",
        ),
        (&set(&[&small]), "key 1: the kinds of public keys are"),
        (&set(&[&off_curve]), "key 1: damaged"),
    ] {
        assert!(
            reason(text).contains(expected),
            "{}: {}",
            String::from_utf8_lossy(text),
            reason(text)
        );
    }
}

/// Made by OpenSSL: too short for anybody.
fn rsa_1024() -> &'static str {
    "-----BEGIN PUBLIC KEY-----\n\
     MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDIc6gFnWLKisBNJ3MerCLGp2G1\n\
     MBc7vB4scqJYxwx/EQiphlAfWkVomEPIm6Tvh5qr/3cHqm8v6B9dt3nBjOc6PGFQ\n\
     iNDS3LuGSBX3XZwGv3Vq0mbEPim4wQXBuzXdlEoE2iWj0tlUkEBf/9o8dWNAxtsK\n\
     FZ0aXrn1pdphc+/gwQIDAQAB\n\
     -----END PUBLIC KEY-----"
}
