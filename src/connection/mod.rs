//! The task of one connection: read a batch, handle its packets in order, write once.

mod buffers;
mod dialogue;
mod handshake;
mod link;
mod place;
mod task;
mod throttle;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::broker::Core;
use crate::identity::Peer;
use crate::session::DirectWrite;
use link::Link;
pub(crate) use place::Place;

/// Serves one connection from its first byte to its last. If its socket is a plain one, `direct` lets publishers write
/// to it.
///
/// The future is most of what an idle connection takes. It captures what it needs and moves none of it, since that would
/// take the room twice; whatever is needed only for a while is boxed.
pub(crate) fn serve<S>(
    io: S,
    direct: Option<Arc<dyn DirectWrite>>,
    peer: Peer,
    place: Place,
) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let Place {
        held: place,
        number,
        since,
    } = place;
    let mut link = Link::new(io, &place.core);
    let newcomer = Box::new(Newcomer {
        peer,
        direct,
        number,
        since,
    });
    async move {
        if let Some(client) = Box::pin(handshake::shake_hands(&mut link, *newcomer, &place)).await {
            task::run(&mut link, client).await;
        }
        let lingering = Lingering::begin(&place.core);
        drop(place);
        Box::pin(link.linger()).await;
        drop(lingering);
    }
}

/// Who has connected, before that is a client.
struct Newcomer {
    peer: Peer,
    /// For publishers that write in the client's place.
    direct: Option<Arc<dyn DirectWrite>>,
    number: usize,
    since: Instant,
}

/// A connection that is served no more, and whose socket takes a file all the same.
struct Lingering(Arc<Core>);

impl Lingering {
    fn begin(core: &Arc<Core>) -> Lingering {
        core.lingering.fetch_add(1, Ordering::AcqRel);
        Lingering(Arc::clone(core))
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        self.0.lingering.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::policy::Policy;

    /// What an idle connection takes is this future, its client and its session; buffers are lent only. With a socket the
    /// future is smaller by some bytes than with this pipe.
    #[test]
    fn an_idle_connection_is_small() {
        let core = Arc::new(Core::new(Policy::default(), None, None));
        let (io, _other_end) = tokio::io::duplex(64);
        let size = size_of_val(&serve(io, None, Peer::default(), Place::enter(&core)));
        println!("future of a connection: {size} bytes");
        assert!(size <= 512, "{size} bytes");
    }
}
