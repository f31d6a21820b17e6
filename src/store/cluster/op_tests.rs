use super::*;
use crate::packet::{QoS, RetainHandling, SubscriptionOptions};
use crate::store::cluster::RouteKind;
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
    let departure = Departure {
        has_will: true,
        grace: 9,
        expiry_interval: 10,
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
        Entry::Route {
            node,
            filter: "f",
            kind,
        },
        Entry::Unroute { node, filter: "f" },
        Entry::Retain { message },
        Entry::RetainClear { topic: "t" },
    ];
    let ops = [
        ClusterOp::Claim { client_id, token },
        ClusterOp::Open(open),
        ClusterOp::Open(Open { will: None, ..open }),
        ClusterOp::Release {
            client_id,
            token,
            departure,
            mid,
        },
        ClusterOp::Received {
            uid,
            packet_id,
            message,
        },
        ClusterOp::Begin { uid, packet_id, mid },
        ClusterOp::Publish {
            message,
            origin: uid,
            once: Some(Once { mid, of: node, bucket }),
            recipients: Recipients::default(),
        },
        ClusterOp::Publish {
            message,
            origin: 0,
            once: None,
            recipients: Recipients::default(),
        },
        ClusterOp::Finish { bucket, mid },
        ClusterOp::Forget { bucket, mid },
        ClusterOp::Fence { bucket, node },
        ClusterOp::Free { node, client_id, mid },
        ClusterOp::Destroy { node },
        ClusterOp::ForgetOf { bucket, node },
        ClusterOp::Sweep {
            bucket,
            first: mid,
            most: 16,
        },
        ClusterOp::Dead { node, counter: 17 },
        ClusterOp::TakeOver { node },
        ClusterOp::Recovered { node },
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
