//! Which Client Identifiers a client may have: whoever has another's takes over its session.

use crate::identity::ClientInfo;

/// What a Client Identifier must be. Without any of this it may be anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientIdRule {
    /// What it begins with; `%u` stands for the User Name. A client without one has no identifier that fits.
    pub prefix: Option<Box<str>>,
    /// It is the User Name.
    pub is_username: bool,
}

impl ClientIdRule {
    pub(super) fn allow(&self, client: &ClientInfo) -> bool {
        let username = client.username.as_deref();
        let is_name = || username == Some(&*client.client_id);
        (!self.is_username || is_name()) && self.prefix.as_deref().is_none_or(|prefix| begins(client, prefix))
    }
}

fn begins(client: &ClientInfo, prefix: &str) -> bool {
    let identifier = &*client.client_id;
    let Some((before, after)) = prefix.split_once("%u") else {
        return identifier.starts_with(prefix);
    };
    let Some(username) = client.username.as_deref() else {
        return false;
    };
    let rest = identifier.strip_prefix(before);
    let rest = rest.and_then(|rest| rest.strip_prefix(username));
    rest.is_some_and(|rest| rest.starts_with(after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Peer, Proof};
    use crate::packet::Version;

    fn client(client_id: &str, username: Option<&str>) -> ClientInfo {
        ClientInfo {
            client_id: client_id.into(),
            username: username.map(Box::from),
            version: Version::V5,
            peer: Peer::default(),
            connected_at: crate::time::Millis::from_unix(0),
            keep_alive: 0,
            session_expiry: 0,
            proof: Proof::Nothing,
            rights: None,
        }
    }

    #[test]
    fn a_prefix_may_have_the_user_name_in_it() {
        let rule = |prefix: &str| ClientIdRule {
            prefix: Some(prefix.into()),
            ..ClientIdRule::default()
        };
        assert!(rule("dev-").allow(&client("dev-1", None)));
        assert!(!rule("dev-").allow(&client("de", None)));
        assert!(rule("%u-").allow(&client("ann-1", Some("ann"))));
        assert!(rule("x/%u/").allow(&client("x/ann/1", Some("ann"))));
        for (client_id, username) in [
            ("bob-1", Some("ann")),
            ("ann", Some("ann")),
            ("%u-1", None),
            ("-1", None),
        ] {
            assert!(!rule("%u-").allow(&client(client_id, username)), "{client_id}");
        }
    }

    #[test]
    fn an_identifier_may_have_to_be_the_user_name() {
        let rule = ClientIdRule {
            is_username: true,
            ..ClientIdRule::default()
        };
        assert!(rule.allow(&client("ann", Some("ann"))));
        assert!(!rule.allow(&client("ann1", Some("ann"))) && !rule.allow(&client("ann", None)));
        assert!(ClientIdRule::default().allow(&client("anything", None)));
    }
}
