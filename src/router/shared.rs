//! Shared Subscriptions (section 4.8.2).

use parking_lot::Mutex;

use super::Route;
use super::matches::terms;
use crate::message::Publication;
use crate::session::{Outgoing, Placement, Terms, WakeUps};
use crate::topic::TopicFilter;

/// The members of one Shared Subscription, who share its messages.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Mutex<Members>,
}

#[derive(Debug, Default)]
struct Members {
    routes: Vec<Route>,
    /// Whose turn it is.
    next: usize,
}

impl Group {
    /// Whether the member is new, and does not replace its earlier subscription.
    pub(super) fn join(&self, route: Route) -> bool {
        let mut members = self.members.lock();
        match members
            .routes
            .iter_mut()
            .find(|member| member.outbox.key == route.outbox.key)
        {
            Some(member) => {
                *member = route;
                false
            }
            None => {
                members.routes.push(route);
                true
            }
        }
    }

    pub(super) fn leave(&self, key: u64) -> bool {
        let mut members = self.members.lock();
        let Some(index) = members.routes.iter().position(|member| member.outbox.key == key) else {
            return false;
        };
        members.routes.remove(index);
        if index < members.next {
            members.next -= 1;
        }
        true
    }

    /// Members behind the session `after`, in the order of their keys.
    pub(super) fn some_routes(&self, after: u64, limit: usize) -> Vec<Route> {
        let members = self.members.lock();
        let behind = members.routes.iter().filter(|member| member.outbox.key > after);
        let mut routes: Vec<_> = behind.cloned().collect();
        drop(members);
        routes.sort_unstable_by_key(|route| route.outbox.key);
        routes.truncate(limit);
        routes
    }

    /// Whether these are the members of this Shared Subscription.
    pub(crate) fn is_of(&self, share: &TopicFilter) -> bool {
        let members = self.members.lock();
        let extras = members.routes.first().and_then(|member| member.extras.as_ref());
        extras.is_some_and(|extras| extras.share.as_ref() == Some(share))
    }

    /// How this member gets the message, if it is one.
    pub(crate) fn terms_for(&self, key: u64, publication: &Publication<'_>) -> Option<Terms> {
        let members = self.members.lock();
        let member = members.routes.iter().find(|member| member.outbox.key == key)?;
        Some(terms(member, publication))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.lock().routes.is_empty()
    }

    /// Gives the message to one member in turn: a connected one with room if there is any, else one whose session can
    /// keep it. Whether a member took it.
    pub(crate) fn deliver(&self, outgoing: &mut Outgoing<'_>, wake_ups: &mut WakeUps) -> bool {
        let publication = outgoing.publication();
        self.choose(publication, |route, terms, placement| {
            route.outbox.offer(outgoing, terms, placement, wake_ups)
        })
    }

    /// The same, with another way to offer it to a member: whether that has taken it.
    pub(crate) fn choose(
        &self,
        publication: &Publication<'_>,
        mut offer: impl FnMut(&Route, Terms, Placement) -> bool,
    ) -> bool {
        let mut members = self.members.lock();
        let mut choose = |placement| members.choose(publication, |route, terms| offer(route, terms, placement));
        choose(Placement::IfOnline) || choose(Placement::IfRoom)
    }
}

impl Members {
    fn choose(&mut self, publication: &Publication<'_>, mut offer: impl FnMut(&Route, Terms) -> bool) -> bool {
        let count = self.routes.len();
        for turn in (0..count).map(|step| (self.next + step) % count) {
            let member = &self.routes[turn];
            if offer(member, terms(member, publication)) {
                self.next = (turn + 1) % count;
                return true;
            }
        }
        false
    }
}
