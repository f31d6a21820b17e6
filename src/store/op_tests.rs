use super::*;

fn a_publication<'a>() -> Publication<'a> {
    Publication {
        topic: "a/b",
        payload: b"payload",
        properties: &[1, 1],
        expires_at: Some(Millis::from_unix(77)),
        qos: QoS::ExactlyOnce,
        retain: true,
    }
}

fn some_terms<'a>() -> TermsRecord<'a> {
    TermsRecord {
        qos: QoS::AtLeastOnce,
        retain: true,
        subscription_ids: &[0, 0, 0, 1, 0, 0, 1, 0],
        share: Some("$share/g/a/+"),
    }
}

fn with_all_ops(check: impl Fn(Op<'_>)) {
    let uid = 7;
    let filter = "a/#";
    let mut recipients = Vec::new();
    let plain = TermsRecord {
        subscription_ids: &[],
        share: None,
        ..some_terms()
    };
    for (index, terms) in [(1, some_terms()), (2, plain)] {
        write_recipient(&mut recipients, &Recipient { uid, index, terms });
    }
    let recipients = Recipients {
        count: 2,
        bytes: &recipients,
    };
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::SendNever,
    };
    let record = |away_since| {
        Op::Session(SessionRecord {
            uid,
            client_id: "client",
            expiry_interval: u32::MAX,
            window: 20,
            away_since,
            unsent: 9,
        })
    };
    let (lane, index, packet_id) = (Lane::Replayed, 1 << 40, 65_535);
    check(record(None));
    check(record(Some(Millis::from_unix(5))));
    check(Op::SessionEnd { uid });
    check(Op::Subscribe {
        uid,
        subscription: SubscriptionRecord {
            filter,
            options,
            identifier: 3,
            replays: true,
        },
    });
    check(Op::Unsubscribe { uid, filter });
    check(Op::Message {
        message: a_publication(),
        recipients,
    });
    check(Op::Replayed {
        uid,
        index,
        before: 4,
        filter,
        terms: some_terms(),
        message: a_publication(),
    });
    check(Op::ReplayEnd { uid, filter });
    check(Op::Released { uid, lane, index });
    check(Op::Done { uid, lane, index });
    check(Op::Floor { uid, index });
    check(Op::Received { uid, packet_id });
    check(Op::ReceivedEnd { uid, packet_id });
    check(Op::Retain {
        message: a_publication(),
    });
    check(Op::RetainClear { topic: "a" });
    check(Op::Will {
        uid,
        delay_interval: 5,
        expires_in: Some(0),
        message: a_publication(),
        client: b"whose",
    });
    check(Op::WillEnd { uid });
}

#[test]
fn what_is_written_is_read() {
    with_all_ops(|op| {
        let mut bytes = Vec::new();
        op.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Op::read(&mut reader), Ok(op));
        assert!(reader.is_empty());
    });
}

#[test]
fn what_is_cut_short_is_not_read() {
    with_all_ops(|op| {
        let mut bytes = Vec::new();
        op.write(&mut bytes);
        for end in 0..bytes.len() {
            assert!(Op::read(&mut Reader::new(&bytes[..end])).is_err(), "{op:?} to {end}");
        }
    });
}

#[test]
fn recipients_are_those_that_were_written() {
    let mut bytes = Vec::new();
    let recipient = |index| Recipient {
        uid: 1,
        index,
        terms: some_terms(),
    };
    (0..3).for_each(|index| write_recipient(&mut bytes, &recipient(index)));
    let mut op = Vec::new();
    write_message(&mut op, 3, &bytes, &a_publication());
    let Ok(Op::Message { recipients, .. }) = Op::read(&mut Reader::new(&op)) else {
        panic!("no message");
    };
    assert_eq!(recipients.len(), 3);
    assert!(recipients.iter().eq((0..3).map(recipient)));
    assert_eq!(some_terms().subscription_ids().collect::<Vec<_>>(), [1, 256]);
}
