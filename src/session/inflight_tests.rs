use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::message::{Message, Publication};
use crate::session::Terms;

fn delivery(qos: QoS, number: u32) -> Delivery {
    let payload = number.to_be_bytes();
    let publication = Publication {
        topic: "t",
        payload: &payload,
        properties: &[],
        expires_at: None,
        qos,
        retain: false,
    };
    let terms = Terms {
        qos,
        retain: false,
        extras: None,
    };
    Delivery::new(Arc::new(Message::new(&publication)), terms)
}

fn qos1(number: u32) -> Delivery {
    delivery(QoS::AtLeastOnce, number)
}

fn qos2(number: u32) -> Delivery {
    delivery(QoS::ExactlyOnce, number)
}

/// Packet Identifiers count up from 1, wrap behind 65,535 and skip 0 [MQTT-2.2.1-4].
#[test]
fn identifiers_count_up_and_wrap() {
    let mut inflight = Inflight::default();
    for expected in (1..=65_535).chain([1, 2]) {
        assert_eq!(inflight.push(qos1(0)), expected);
        assert!(matches!(inflight.puback(expected), Acked::Finished(_)));
    }
}

/// At most Receive Maximum messages are unacknowledged [MQTT-3.3.4-9], in any order of acknowledgements.
#[test]
fn room_follows_the_receive_maximum() {
    let mut inflight = Inflight::default();
    let (a, b) = (inflight.push(qos1(1)), inflight.push(qos2(2)));
    assert_eq!(inflight.room(2), 0);
    assert!(matches!(inflight.pubrec(b, false), Acked::Release(Some(_))));
    assert_eq!(inflight.room(2), 0, "a released message counts until PUBCOMP");
    assert!(matches!(inflight.pubcomp(b), Acked::Completed));
    assert_eq!(inflight.room(2), 1);
    assert!(matches!(inflight.puback(a), Acked::Finished(_)));
    assert_eq!(inflight.room(2), 2);
}

/// An acknowledgement that does not belong to the state of its message changes nothing.
#[test]
fn acknowledgements_must_fit_the_state() {
    let mut inflight = Inflight::default();
    let (a, b) = (inflight.push(qos1(1)), inflight.push(qos2(2)));
    assert!(matches!(inflight.pubrec(a, false), Acked::WrongState));
    assert!(matches!(inflight.pubrec(a, true), Acked::WrongState));
    assert!(matches!(inflight.pubcomp(a), Acked::WrongState));
    assert!(matches!(inflight.puback(b), Acked::WrongState));
    assert!(matches!(inflight.pubcomp(b), Acked::WrongState));
    assert!(matches!(inflight.puback(77), Acked::Unknown));
    assert!(matches!(inflight.puback(0), Acked::Unknown));
    assert_eq!(inflight.unsettled(), 2);
}

/// A PUBREC with an error ends the delivery [MQTT-4.4.0-2].
#[test]
fn a_refused_message_is_finished() {
    let mut inflight = Inflight::default();
    let a = inflight.push(qos2(1));
    assert!(matches!(inflight.pubrec(a, true), Acked::Finished(_)));
    assert_eq!(inflight.unsettled(), 0);
}

/// After a reconnect everything unacknowledged is sent again in the first order, within the new Receive Maximum, and
/// before anything new [MQTT-4.4.0-1], [MQTT-4.6.0-1].
#[test]
fn resending_keeps_the_order_and_the_quota() {
    let mut inflight = Inflight::default();
    let identifiers: Vec<_> = (0..4).map(|number| inflight.push(qos2(number))).collect();
    assert!(matches!(inflight.pubrec(identifiers[1], false), Acked::Release(_)));
    inflight.restart();
    assert!(matches!(inflight.next_resend(2), Some(Resend::Publish(1, _))));
    assert!(matches!(inflight.next_resend(2), Some(Resend::Pubrel(2))));
    assert!(inflight.next_resend(2).is_none());
    assert_eq!(inflight.room(10), 0, "new messages wait for the old ones");
    assert!(matches!(inflight.pubcomp(2), Acked::Completed));
    assert!(matches!(inflight.next_resend(2), Some(Resend::Publish(3, _))));
    assert!(matches!(inflight.pubrec(1, true), Acked::Finished(_)));
    assert!(matches!(inflight.next_resend(2), Some(Resend::Publish(4, _))));
    assert!(!inflight.is_resending());
    assert_eq!(inflight.room(3), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Push { exactly_once: bool },
    Puback(usize),
    Pubrec(usize, bool),
    Pubcomp(usize),
    Reconnect(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => any::<bool>().prop_map(|exactly_once| Step::Push { exactly_once }),
        3 => any::<usize>().prop_map(Step::Puback),
        3 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(which, refused)| Step::Pubrec(which, refused)),
        3 => any::<usize>().prop_map(Step::Pubcomp),
        1 => (1..8usize).prop_map(Step::Reconnect),
    ];
    prop::collection::vec(step, 0..300)
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Model {
    Puback,
    Pubrec,
    Pubcomp,
}

fn pick(model: &BTreeMap<u16, Model>, which: usize) -> u16 {
    // Sometimes an identifier that is not in flight.
    let known: Vec<_> = model.keys().copied().chain([60_000]).collect();
    known[which % known.len()]
}

proptest! {
    /// Through any history: never more in flight than Receive Maximum, never an identifier that is in use, and what
    /// is unacknowledged is what a plain map says.
    #[test]
    fn inflight_agrees_with_a_plain_map(steps in steps(), first_maximum in 1..8usize) {
        let mut inflight = Inflight::default();
        let mut model: BTreeMap<u16, Model> = BTreeMap::new();
        let mut maximum = first_maximum;
        let mut number = 0;
        for step in steps {
            match step {
                Step::Push { exactly_once } if inflight.room(maximum) > 0 => {
                    number += 1;
                    let identifier = inflight.push(if exactly_once { qos2(number) } else { qos1(number) });
                    let state = if exactly_once { Model::Pubrec } else { Model::Puback };
                    prop_assert!(identifier != 0);
                    prop_assert!(model.insert(identifier, state).is_none(), "identifier {identifier} is in use");
                    prop_assert!(model.len() <= maximum);
                }
                Step::Push { .. } => {}
                Step::Puback(which) => {
                    let identifier = pick(&model, which);
                    let accepted = matches!(inflight.puback(identifier), Acked::Finished(_));
                    prop_assert_eq!(accepted, model.get(&identifier) == Some(&Model::Puback));
                    if accepted { model.remove(&identifier); }
                }
                Step::Pubrec(which, refused) => {
                    let identifier = pick(&model, which);
                    let acked = inflight.pubrec(identifier, refused);
                    match model.get(&identifier) {
                        Some(Model::Pubrec) if refused => {
                            prop_assert!(matches!(acked, Acked::Finished(_)));
                            model.remove(&identifier);
                        }
                        Some(Model::Pubrec) => {
                            prop_assert!(matches!(acked, Acked::Release(Some(_))));
                            model.insert(identifier, Model::Pubcomp);
                        }
                        Some(Model::Pubcomp) => prop_assert!(matches!(acked, Acked::Release(None))),
                        Some(Model::Puback) => prop_assert!(matches!(acked, Acked::WrongState)),
                        None => prop_assert!(matches!(acked, Acked::Unknown)),
                    }
                }
                Step::Pubcomp(which) => {
                    let identifier = pick(&model, which);
                    let accepted = matches!(inflight.pubcomp(identifier), Acked::Completed);
                    prop_assert_eq!(accepted, model.get(&identifier) == Some(&Model::Pubcomp));
                    if accepted { model.remove(&identifier); }
                }
                Step::Reconnect(new_maximum) => {
                    maximum = new_maximum.max(model.len());
                    inflight.restart();
                    let mut resent = Vec::new();
                    while let Some(resend) = inflight.next_resend(maximum) {
                        resent.push(match resend {
                            Resend::Publish(identifier, _) => identifier,
                            Resend::Pubrel(identifier) => identifier,
                        });
                    }
                    prop_assert_eq!(resent, model.keys().copied().collect::<Vec<_>>());
                    prop_assert!(!inflight.is_resending());
                }
            }
            prop_assert_eq!(inflight.unsettled(), model.len());
        }
    }
}
