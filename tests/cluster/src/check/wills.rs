//! Wills and what comes behind them (C4).

use super::story::{At, Connection, Publication, Session, Story};

/// What a client publishes comes behind the wills of its connections before.
pub(super) fn wills_come_first(story: &Story, found: &mut Vec<String>) {
    for conn in story.conns.values() {
        let (Some(will), Some(next)) = (conn.will, next_of(story, conn)) else {
            continue;
        };
        let id = will.message.id;
        if story.is_old(id) {
            continue;
        }
        for session in &story.sessions {
            if let Some(early) = before_will(story, session, id, (conn, next)) {
                found.push(format!(
                    "C4: client {} got the will {id} behind {:?}, which its client has published since",
                    session.cid, early.message
                ));
            }
        }
    }
}

/// When the client had its next CONNACK.
pub(super) fn next_of(story: &Story, conn: &Connection) -> Option<At> {
    let conns = story.conns.values();
    let later = conns.filter(|other| other.cid == conn.cid && other.begin > conn.begin);
    later.map(|other| other.begin).min()
}

/// A message that the session got before the will, and that the client has sent later.
fn before_will<'a>(
    story: &'a Story,
    session: &Session,
    id: u32,
    (conn, next): (&Connection, At),
) -> Option<&'a Publication> {
    let mut live = session.delivered.iter().filter(|(_, message)| !message.retain);
    let (at, _) = live.find(|(_, message)| message.id == id)?;
    let before = session.delivered.iter().filter(|(other, _)| other < at);
    let mut before = before.filter_map(|(_, message)| story.messages.get(&message.id));
    before.find(|publication| publication.cid == conn.cid && publication.sent > next)
}
