//! The subscribers of one filter. Most filters have one: it takes no memory of its own.

use super::Route;

/// Sorted by [`Outbox::key`](crate::session::Outbox::key). Invariant: `Many` has at least two.
#[derive(Debug, Default)]
pub(super) enum Routes {
    #[default]
    None,
    One(Route),
    Many(Box<Vec<Route>>),
}

impl Routes {
    pub(super) fn as_slice(&self) -> &[Route] {
        match self {
            Routes::None => &[],
            Routes::One(route) => std::slice::from_ref(route),
            Routes::Many(routes) => routes,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Routes::None)
    }

    /// Whether the route is new, and not a replacement.
    pub(super) fn insert(&mut self, route: Route) -> bool {
        let position = self.position(route.outbox.key);
        match (std::mem::take(self), position) {
            (Routes::None, _) | (Routes::One(_), Ok(_)) => *self = Routes::One(route),
            (Routes::One(other), Err(index)) => {
                let routes = if index == 0 {
                    vec![route, other]
                } else {
                    vec![other, route]
                };
                *self = Routes::Many(Box::new(routes));
            }
            (Routes::Many(mut routes), position) => {
                match position {
                    Ok(index) => routes[index] = route,
                    Err(index) => routes.insert(index, route),
                }
                *self = Routes::Many(routes);
            }
        }
        position.is_err()
    }

    /// Whether there was a route with this key.
    pub(super) fn remove(&mut self, key: u64) -> bool {
        let Ok(index) = self.position(key) else {
            return false;
        };
        if let Routes::Many(mut routes) = std::mem::take(self) {
            routes.remove(index);
            if routes.capacity() > 4 * routes.len() {
                routes.shrink_to(2 * routes.len());
            }
            *self = if routes.len() == 1 {
                routes.pop().map_or(Routes::None, Routes::One)
            } else {
                Routes::Many(routes)
            };
        }
        true
    }

    fn position(&self, key: u64) -> Result<usize, usize> {
        self.as_slice().binary_search_by_key(&key, |route| route.outbox.key)
    }
}

// A filter's entry is this and the pointer to its Shared Subscriptions.
const _: () = assert!(size_of::<Routes>() == 24);
