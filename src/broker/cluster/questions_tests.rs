use super::*;
use crate::identity::{ClientInfo, Peer, Proof};
use crate::packet::Version;

fn questions() -> [Question; 5] {
    let query = ClientQuery {
        client_id: Some("a*".into()),
        prefix: Some(String::new()),
        username: Some("ann".into()),
        address: "::1".parse().ok(),
        connected: Some(true),
    };
    [
        Question::Client("c".into()),
        Question::Clients {
            query,
            cursor: Some("3:b".into()),
            limit: 7,
        },
        Question::Clients {
            query: ClientQuery::default(),
            cursor: None,
            limit: 1,
        },
        Question::Kick {
            client_id: "x".repeat(70_000).into(),
            connection: u64::MAX,
            ends_session: true,
        },
        Question::Subscriptions {
            client_id: "c".into(),
            skip: 5,
            limit: 6,
        },
    ]
}

#[test]
fn questions_are_read_as_they_were() {
    for question in questions() {
        let bytes = question.write();
        assert_eq!(Question::read(&bytes), Ok(question.clone()));
        for end in (0..bytes.len()).take(50) {
            assert!(Question::read(&bytes[..end]).is_err(), "{question:?} to {end}");
        }
    }
}

fn states() -> [ClientState; 2] {
    let info = ClientInfo {
        client_id: "c".into(),
        username: Some("ann".into()),
        version: Version::V5,
        peer: Peer::default(),
        connected_at: Millis::from_unix(9),
        keep_alive: 8,
        session_expiry: 7,
        proof: Proof::Nothing,
        rights: None,
    };
    let state = |info, expires_at| ClientState {
        client_id: "c".into(),
        connected: expires_at == Some(Millis::from_unix(3)),
        info,
        node: None,
        subscriptions: 1,
        queued_messages: 2,
        queued_bytes: 3,
        inflight_messages: 4,
        expires_at,
    };
    [
        state(Some(Arc::new(info)), None),
        state(None, Some(Millis::from_unix(3))),
    ]
}

#[test]
fn answers_are_read_as_they_were() {
    for state in states() {
        let mut bytes = Vec::new();
        write_state(&mut bytes, Some(&state));
        let read = read_state(&bytes).expect("readable").expect("there");
        assert_eq!(format!("{read:?}"), format!("{state:?}"));
    }
    assert!(matches!(read_state(&[0]), Ok(None)));
    let page = ClientPage {
        clients: states().to_vec(),
        next: Some("9:c".into()),
    };
    let mut bytes = Vec::new();
    write_page(&mut bytes, Some(&page));
    assert_eq!(
        format!("{:?}", read_page(&bytes).expect("readable")),
        format!("{:?}", Some(&page))
    );
    let mut bytes_of_none = Vec::new();
    write_page(&mut bytes_of_none, None);
    assert!(read_page(&bytes_of_none).expect("readable").is_none());
    let page = SubscriptionPage {
        subscriptions: vec![SubscriptionState {
            filter: TopicFilter::parse("$share/g/a/+").expect("valid"),
            options: SubscriptionOptions {
                qos: QoS::AtLeastOnce,
                no_local: false,
                retain_as_published: true,
                retain_handling: RetainHandling::SendNever,
            },
            identifier: Some(5),
        }],
        next: Some(1),
    };
    let mut bytes = Vec::new();
    write_subscriptions(&mut bytes, Some(&page));
    let read = read_subscriptions(&bytes).expect("readable").expect("there");
    assert_eq!(format!("{read:?}"), format!("{page:?}"));
}
