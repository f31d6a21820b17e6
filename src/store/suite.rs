//! The tests of the contract of a [`Store`], which run against each backend: every sentence of it is at least one of them.
//!
//! A backend implements [`Subject`], and calls `store_suite!(ItsSubject)` in a module of tests. What is to be seen is
//! looked at three times in most of them: at once, when the store has been closed and opened, and when it has been killed.

mod changes;
pub(crate) mod durability;
mod memory;
pub(crate) mod model;
pub(crate) mod places;
pub(crate) mod queues;
pub(crate) mod replays;
pub(crate) mod retained;
pub(crate) mod sessions;
mod shaken;
pub(crate) mod space;
mod state;
pub(crate) mod strangers;
pub(crate) mod wills;

use std::sync::Arc;

pub(crate) use changes::{Changes, changes, publication, record};
pub(crate) use memory::Memory;
pub(crate) use shaken::Shaken;
pub(crate) use state::{State, Text, live, replayed};

use super::{Batch, Store, StoreError};

/// Makes a test of each sentence for this [`Subject`].
macro_rules! store_suite {
    ($subject:ty) => {
        $crate::store::suite::each_test! { $subject;
            durability: all_changes_of_a_batch_are_kept, a_batch_that_cannot_be_read_changes_nothing,
                what_was_committed_is_there_afterwards, each_batch_survives, changes_have_effect_in_their_order,
                batches_have_effect_in_their_order, a_batch_has_effect_once, a_batch_has_effect_once_after_opening,
                numbers_go_on_after_opening, an_empty_batch_has_its_number, nothing_is_there_at_first,
                reading_changes_nothing;
            strangers: changes_of_a_stranger_have_no_effect, who_has_ended_is_a_stranger,
                a_message_reaches_those_who_are_there, wills_and_retained_messages_need_no_session;
            sessions: a_session_has_its_record, a_record_is_replaced_alone, an_end_removes_all_but_the_will,
                a_client_begins_anew_under_another_number, subscriptions_have_their_options,
                a_subscription_is_replaced, a_subscription_ends_alone, received_identifiers_are_a_set,
                there_may_be_many_sessions;
            queues: a_queue_is_in_the_order_of_its_places, places_are_read_as_they_were_put, each_place_has_its_state,
                lanes_are_apart, what_is_durable_is_read_at_once, pages_end_after_so_many_messages,
                pages_end_after_so_many_bytes,
                a_page_begins_where_it_is_told, a_message_larger_than_a_page_is_read,
                released_places_are_no_bytes_of_a_page, a_message_may_have_many_recipients,
                a_message_may_be_large, topics_may_be_long, an_extent_follows_the_queue,
                the_place_behind_an_extent_follows_what_is_known;
            places: a_place_that_is_there_is_not_replaced, what_is_below_the_floor_is_finished,
                a_floor_is_above_what_comes_later, a_floor_does_not_sink, a_floor_is_of_the_live_lane,
                what_is_finished_is_gone, finishing_nothing_is_nothing, a_release_makes_its_place,
                a_release_below_the_floor_makes_no_place;
            replays: a_replay_moves_its_cursor, a_replay_ends, what_does_not_replay_has_no_cursor,
                a_subscription_made_anew_replays_anew, a_replayed_message_needs_no_subscription;
            retained: a_topic_has_the_last_message, a_topic_is_cleared, topics_are_any_text,
                retained_messages_are_kept_as_they_were, there_may_be_many_retained_messages;
            wills: a_will_is_kept_as_it_was, a_will_is_replaced, a_will_ends, a_will_outlives_its_session,
                a_will_may_be_large;
            space: space_of_messages_is_used_again, space_of_sessions_is_used_again,
                space_of_retained_messages_and_wills_is_used_again, what_is_open_is_not_opened_again,
                what_was_damaged_is_an_error;
            model: agrees_with_the_model;
        }
    };
}

macro_rules! each_test {
    ($subject:ty; $($module:ident: $($name:ident),+;)+) => {
        $($(
            #[test]
            fn $name() {
                $crate::store::suite::$module::$name::<$subject>();
            }
        )+)+
    };
}

pub(crate) use {each_test, store_suite};

/// A place for a store of some kind, with which the suite works.
pub(crate) trait Subject: Sized {
    /// A new place with nothing in it. What it takes is given back when it is dropped.
    fn new() -> Self;

    /// Opens the store that is there.
    fn open(&self) -> Result<Arc<dyn Store>, StoreError>;

    /// Ends the store as if the process had been killed: without [`Store::close`]. What a store does when it is dropped
    /// must be left out, if it is anything that a killed process would not do.
    fn kill(&self, store: Arc<dyn Store>) {
        drop(store);
    }

    /// Bytes that the store takes; called while it is closed.
    fn size(&self) -> u64;

    /// Whether a second [`Subject::open`] must fail; not where there is nothing outside the process.
    const IS_EXCLUSIVE: bool = true;

    /// Changes some of the bytes that are kept, chosen by the seed; called while the store is closed. `false` if there is
    /// nothing outside the process that could be damaged.
    fn damage(&self, seed: u64) -> bool;
}

/// A subject whose store is open, and the number of its last batch.
pub(crate) struct Bench<S: Subject> {
    pub(crate) subject: S,
    store: Option<Arc<dyn Store>>,
    number: u64,
}

impl<S: Subject> Bench<S> {
    pub(crate) fn new() -> Bench<S> {
        let subject = S::new();
        let store = subject.open().expect("a new store opens");
        Bench {
            subject,
            store: Some(store),
            number: 0,
        }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &**self.store.as_ref().expect("open")
    }

    /// The number of the last batch.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Commits the next batch.
    pub(crate) fn commit(&mut self, changes: &Changes) {
        self.number += 1;
        self.commit_again(changes);
    }

    /// Commits with the number of the last batch.
    pub(crate) fn commit_again(&mut self, changes: &Changes) {
        let committed = self.attempt(self.number, changes.bytes());
        committed.unwrap_or_else(|error| panic!("batch {} is not committed: {error}", self.number));
    }

    pub(crate) fn attempt(&self, number: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.store().commit(&Batch { number, bytes })
    }

    /// Closes the store.
    pub(crate) fn close(&mut self) {
        let store = self.store.take().expect("open");
        store.close().expect("the store closes");
    }

    /// Opens the store, which has been closed or killed.
    pub(crate) fn open(&mut self) {
        assert!(self.store.is_none(), "open already");
        self.store = Some(self.subject.open().expect("the store opens"));
        assert_eq!(self.store().last_batch(), Ok(self.number), "after opening");
    }

    pub(crate) fn reopen(&mut self) {
        self.close();
        self.open();
    }

    pub(crate) fn kill(&mut self) {
        let store = self.store.take().expect("open");
        self.subject.kill(store);
        self.open();
    }

    /// All that can be read.
    pub(crate) fn state(&self) -> State {
        State::read(self.store()).expect("the store is readable")
    }

    /// Looks at what can be read: at once, when the store has been closed and opened, and when it has been killed.
    pub(crate) fn always(&mut self, check: impl Fn(&State)) {
        let state = self.state();
        check(&state);
        self.reopen();
        check(&self.state());
        self.kill();
        check(&self.state());
    }
}
