use super::*;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::cluster::{Homes, RouteKind};
use crate::store::op::{Op, SubscriptionRecord};

fn all() -> Vec<ClusterOp<'static>> {
    let message = Publication {
        topic: "t",
        payload: b"p",
        properties: &[],
        expires_at: None,
        qos: QoS::ExactlyOnce,
        retain: true,
    };
    let (token, mid) = (
        Token {
            incarnation: 1,
            number: 2,
        },
        Mid {
            incarnation: 3,
            number: 4,
        },
    );
    let will = Will {
        delay_interval: 5,
        expires_in: Some(6),
        message,
        client: b"who",
    };
    let open = Open {
        client_id: "c",
        token,
        clean: true,
        uid: 7,
        expiry_interval: 8,
        mid,
        will: Some(will),
    };
    let subscription = SubscriptionRecord {
        filter: "f/#",
        options: SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: false,
            retain_handling: RetainHandling::SendNever,
        },
        identifier: 11,
        replays: false,
    };
    let kind = RouteKind::OnlyQos0;
    let (node, bucket, uid, client_id, packet_id) = (12, 13, 14, "c", 15);
    let entries = [
        Entry::Join(node),
        Entry::Dead(node),
        Entry::Subscribe {
            uid,
            client_id,
            subscription,
        },
        Entry::Unsubscribe { uid, filter: "f" },
        Entry::End { uid },
        Entry::Present { uid, node },
        Entry::Away { uid },
        Entry::Route {
            node,
            filter: "f",
            kind,
        },
        Entry::Unroute { node, filter: "f" },
        Entry::Retain { message },
        Entry::RetainClear { topic: "t" },
    ];
    let release = |how| ClusterOp::Release {
        client_id,
        token,
        how,
        expiry_interval: 10,
        mid,
    };
    let once = Some(Once { mid, of: node, bucket });
    let publish = |publishing| ClusterOp::Publish {
        message,
        publishing,
        recipients: Recipients::default(),
    };
    let ops = [
        ClusterOp::Claim { client_id, token },
        ClusterOp::Open(open),
        ClusterOp::Open(Open { will: None, ..open }),
        ClusterOp::OpenEarly(open),
        release(How::Clean),
        release(How::Lost),
        release(How::Left { grace: 9 }),
        ClusterOp::Lend { client_id, token, uid },
        ClusterOp::Received {
            uid,
            packet_id,
            message,
        },
        ClusterOp::Begin { uid, packet_id, mid },
        publish(Publishing {
            origin: uid,
            once,
            only: Some("$share/g/f"),
        }),
        publish(Publishing {
            once,
            ..Publishing::default()
        }),
        publish(Publishing::default()),
        ClusterOp::FinishRest { uid, mid },
        ClusterOp::Finish { bucket, mid },
        ClusterOp::Forget { bucket, mid },
        ClusterOp::RetainOnce {
            mid,
            of: node,
            entry: Entry::Retain { message },
        },
        ClusterOp::ForgetRetained { mid },
        ClusterOp::Fence { bucket, node },
        ClusterOp::Free {
            node,
            client_id,
            mid,
            how: How::Left { grace: 9 },
            ends: true,
        },
        ClusterOp::EndSession {
            client_id,
            generation: node,
            grace: 10,
            mid,
        },
        ClusterOp::Destroy { node },
        ClusterOp::ForgetOf { bucket, node },
        ClusterOp::Sweep {
            bucket,
            first: mid,
            most: 16,
        },
        ClusterOp::Dead {
            node,
            counter: 17,
            lost: Homes::all(),
        },
        ClusterOp::Retire { node },
        ClusterOp::TakeOver { node },
        ClusterOp::Recovered { node },
        ClusterOp::Expire {
            topic: "t/e",
            at: Millis::from_unix(18),
        },
    ];
    ops.into_iter().chain(entries.into_iter().map(ClusterOp::Log)).collect()
}

#[test]
fn what_is_written_is_read() {
    let mut bytes = Vec::new();
    all().into_iter().for_each(|op| Op::Cluster(op).write(&mut bytes));
    let mut reader = Reader::new(&bytes);
    for op in all() {
        assert_eq!(Op::read(&mut reader), Ok(Op::Cluster(op)));
    }
    assert!(reader.is_empty());
}

#[test]
fn what_is_cut_off_is_an_error() {
    for op in all() {
        let mut bytes = Vec::new();
        op.write(&mut bytes);
        for end in 0..bytes.len() {
            assert!(
                ClusterOp::read(&mut Reader::new(&bytes[..end])).is_err(),
                "{op:?} to {end}"
            );
        }
    }
}
