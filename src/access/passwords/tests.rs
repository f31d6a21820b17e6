use super::*;

/// Made by `mosquitto_passwd` 2.0.11 for the passwords "secret" and "hunter2".
const MOSQUITTO: &str = "\
ann:$7$101$p/X5+yjkkTmadox4$Fnh601nE85A0dj14IAPmQOs2CSnEWM/TCncfyZxzlf3hEJirmE+nmM1bwL4CH6DXcc2HnFTiyFLVntXBUVmdSw==
bob:$7$101$dl0yjDu/Hpd5JXii$To0HVQCK8lYUr01P06pqJZ9g0O2yTr1c4NkZCHhV7t1rOqAIeW/Pli5ojslU+5KSqeEFIaCtn6S55uUeOzpxnA==
";

#[test]
fn files_of_mosquitto_are_read_as_they_are() {
    let file = PasswordFile::parse(MOSQUITTO).expect("valid");
    assert!(file.verify("ann", b"secret") && file.verify("bob", b"hunter2"));
    assert!(!file.verify("ann", b"hunter2") && !file.verify("ann", b"") && !file.verify("carl", b"secret"));
    assert!(file.contains("ann") && !file.contains("Ann"));
}

#[test]
fn what_is_written_can_be_read() {
    let hash = Hash::new("pässword".as_bytes()).expect("hashed");
    let file = PasswordFile::parse(&format!("# users\n\nann:{hash}\n{MOSQUITTO}").replace("\nann:$7", "\ncarl:$7"))
        .expect("valid");
    assert!(file.verify("ann", "pässword".as_bytes()) && !file.verify("ann", b"password"));
    for line in MOSQUITTO.lines() {
        let text = line.split_once(':').expect("a colon").1;
        assert_eq!(Hash::parse(text).expect("valid").to_string(), text);
    }
    assert_ne!(
        Hash::new(b"a").expect("hashed").to_string(),
        Hash::new(b"a").expect("hashed").to_string()
    );
}

#[test]
fn a_verifier_for_scram_tells_passwords_apart() {
    let hash = Hash::new_scram(b"secret").expect("made");
    let file = PasswordFile::parse(&format!("{MOSQUITTO}carl:{hash}")).expect("valid");
    assert!(file.verify("carl", b"secret") && !file.verify("carl", b"Secret"));
    let can = |user: &str| file.scram(user).map(|(verifier, _)| verifier.is_some());
    assert_eq!(
        [can("carl"), can("ann"), can("nobody")],
        [Some(true), Some(false), Some(false)]
    );
    let none = PasswordFile::parse(MOSQUITTO).expect("valid");
    assert!(none.scram("ann").is_none());
}

#[test]
fn what_makes_no_sense_is_refused_with_its_line() {
    let truncated = &MOSQUITTO.lines().next().expect("a line")[..40];
    let short = format!("ann:$6${}${}", BASE64.encode(b"salt"), BASE64.encode(b"hash"));
    for text in [
        "ann",
        "ann:secret",
        ":$6$a$b",
        "ann:",
        "ann:$1$a$b",
        "ann:$scram-sha-256$i=1$c2FsdHNhbHQ$a$b",
        "ann:$argon2id$v=19$m=19456",
        "ann:$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        "ann:$argon2id$v=19$m=4000000,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
        &MOSQUITTO.replace("$101$", "$0$"),
        &MOSQUITTO.replace("$101$", "$4000000000$"),
        truncated,
        &short,
    ] {
        let error = PasswordFile::parse(text).expect_err(text);
        assert!(error.starts_with("line 1: "), "{text}: {error}");
    }
    let twice = MOSQUITTO.replace("bob", "ann");
    assert!(PasswordFile::parse(&twice).expect_err("twice").starts_with("line 2: "));
}

/// PBKDF2 with SHA-256, as from aedes-cli: "hunter2" with the salt "pepper" and 10,000 iterations.
#[test]
fn pbkdf2_with_sha256_is_checked() {
    let salt = BASE64_NOPAD.encode(b"pepper");
    let mut hash = [0; 32];
    let iterations = NonZeroU32::new(10_000).expect("not 0");
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, b"pepper", b"hunter2", &mut hash);
    let line = |iterations: &str, hash: &[u8]| {
        let hash = BASE64_NOPAD.encode(hash);
        format!("ann:$pbkdf2-sha256${iterations}${salt}${hash}")
    };
    let right = line("i=10000", &hash);
    let file = PasswordFile::parse(&right).expect("valid");
    assert!(file.verify("ann", b"hunter2") && !file.verify("ann", b"hunter") && !file.verify("ann", b""));
    let text = right.split_once(':').expect("a colon").1;
    assert_eq!(Hash::parse(text).expect("valid").to_string(), text);
    for text in [
        line("10000", &hash),
        line("i=0", &hash),
        line("i=4000000000", &hash),
        line("i=10000000000", &hash),
        line("i=10000", &hash[..31]),
        line("i=10000", &[hash, hash].concat()),
        line("i=10000", &[]),
        format!("{right}="),
    ] {
        let error = PasswordFile::parse(&text).expect_err(&text);
        assert!(error.starts_with("line 1: "), "{text}: {error}");
    }
}
