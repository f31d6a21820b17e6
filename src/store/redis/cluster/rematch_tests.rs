//! Who gets a message because of what was added while it was under way.

use super::{Additions, Extra};
use crate::message::Publication;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::Uid;
use crate::store::cluster::{Entry, Publishing, RouteKind, inbox_of};
use crate::store::op::SubscriptionRecord;
use crate::store::redis::testing::publication;

const OWN: u64 = 1;

fn subscribe<'a>(uid: Uid, filter: &'a str, qos: QoS) -> Entry<'a> {
    Entry::Subscribe {
        uid,
        client_id: "c",
        subscription: SubscriptionRecord {
            filter,
            options: SubscriptionOptions {
                qos,
                no_local: uid == 9,
                retain_as_published: true,
                retain_handling: RetainHandling::SendAlways,
            },
            identifier: uid as u32 % 2,
            replays: false,
        },
    }
}

fn route(node: u64, filter: &str, kind: RouteKind) -> Entry<'_> {
    Entry::Route { node, filter, kind }
}

fn additions(entries: &[Entry<'_>]) -> Additions {
    let mut additions = Additions::default();
    entries.iter().for_each(|entry| additions.apply(entry, OWN));
    additions
}

fn message() -> Publication<'static> {
    Publication {
        retain: true,
        qos: QoS::ExactlyOnce,
        ..publication("a/b", b"m")
    }
}

/// Who is added to these, as `uid qos share`.
fn added(entries: &[Entry<'_>], recipients: &[(Uid, Option<&str>)]) -> Vec<String> {
    let publishing = Publishing {
        origin: 9,
        ..Publishing::default()
    };
    added_as(&publishing, entries, recipients)
}

fn added_as(publishing: &Publishing<'_>, entries: &[Entry<'_>], recipients: &[(Uid, Option<&str>)]) -> Vec<String> {
    let has = |uid: Uid, share: Option<&str>| match share {
        Some(_) => recipients.iter().any(|(_, other)| *other == share),
        None => recipients.contains(&(uid, None)),
    };
    let extras = additions(entries).recipients(&message(), publishing, has);
    let text = |extra: &Extra| {
        format!(
            "{} {} {}",
            extra.uid,
            extra.qos as u8,
            extra.share.as_deref().unwrap_or("-")
        )
    };
    extras.iter().map(text).collect()
}

#[test]
fn sessions_and_nodes_are_added_in_the_order_of_the_log() {
    let entries = [
        subscribe(7, "a/+", QoS::AtLeastOnce),
        subscribe(8, "b", QoS::AtLeastOnce),
        route(2, "#", RouteKind::All),
        route(OWN, "#", RouteKind::All),
        route(3, "#", RouteKind::OnlyQos0),
        subscribe(6, "#", QoS::AtMostOnce),
        subscribe(5, "#", QoS::ExactlyOnce),
        // The publisher does not want its own.
        subscribe(9, "#", QoS::ExactlyOnce),
    ];
    let node = inbox_of(2);
    assert_eq!(
        added(&entries, &[]),
        ["7 1 -".to_owned(), format!("{node} 2 -"), "5 2 -".to_owned()]
    );
    assert_eq!(added(&entries, &[(7, None), (node, None)]), ["5 2 -"]);
}

#[test]
fn what_has_gone_again_is_not_added() {
    let entries = [
        subscribe(7, "a/b", QoS::AtLeastOnce),
        subscribe(8, "a/b", QoS::AtLeastOnce),
        subscribe(8, "#", QoS::AtLeastOnce),
        Entry::Unsubscribe { uid: 7, filter: "a/b" },
        Entry::End { uid: 8 },
        route(2, "#", RouteKind::All),
        route(3, "#", RouteKind::All),
        route(4, "#", RouteKind::All),
        Entry::Unroute { node: 2, filter: "#" },
        Entry::Dead(3),
        route(4, "#", RouteKind::OnlyQos0),
    ];
    assert!(additions(&entries).is_empty());
    assert!(!additions(&entries[..3]).is_empty());
}

#[test]
fn a_session_gets_one_copy_at_its_best_terms() {
    let entries = [
        subscribe(7, "a/#", QoS::AtLeastOnce),
        subscribe(7, "a/b", QoS::ExactlyOnce),
        // It takes the place of the first.
        subscribe(7, "a/#", QoS::AtLeastOnce),
    ];
    let extras = additions(&entries).recipients(&message(), &Publishing::default(), |_, _| false);
    assert_eq!(extras.len(), 1);
    assert!(extras[0].is_of(7) && !extras[0].is_of(8));
    let terms = extras[0].recipient().terms;
    assert_eq!((terms.qos, terms.retain), (QoS::ExactlyOnce, true));
    assert_eq!(terms.subscription_ids().collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_shared_subscription_gets_a_message_once() {
    const SHARE: &str = "$share/g/a/+";
    let entries = [subscribe(8, SHARE, QoS::AtLeastOnce), route(2, SHARE, RouteKind::All)];
    assert_eq!(added(&entries, &[]), [format!("8 1 {SHARE}")]);
    assert_eq!(added(&entries[1..], &[]), [format!("{} 2 {SHARE}", inbox_of(2))]);
    // Anybody who has it for the share; also a session of which nothing is kept.
    assert_eq!(added(&entries, &[(5, Some(SHARE))]), [""; 0]);
    assert_eq!(added(&entries, &[(0, Some(SHARE))]), [""; 0]);
    // That it has the message for another subscription is something else.
    assert_eq!(
        added(&entries, &[(8, None), (5, Some("$share/h/a/+"))]),
        [format!("8 1 {SHARE}")]
    );
    let both = [subscribe(8, "a/b", QoS::AtLeastOnce)];
    assert_eq!(added(&both, &[(8, Some(SHARE))]), ["8 1 -"]);
}

#[test]
fn what_is_for_one_shared_subscription_is_for_nobody_else() {
    const SHARE: &str = "$share/g/a/+";
    let entries = [
        subscribe(7, "a/b", QoS::AtLeastOnce),
        subscribe(8, "$share/h/a/+", QoS::AtLeastOnce),
        subscribe(6, SHARE, QoS::AtLeastOnce),
    ];
    let publishing = Publishing {
        only: Some(SHARE),
        ..Publishing::default()
    };
    assert_eq!(added_as(&publishing, &entries, &[]), [format!("6 1 {SHARE}")]);
    assert_eq!(added_as(&publishing, &entries, &[(9, Some(SHARE))]), [""; 0]);
}
