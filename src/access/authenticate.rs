//! Who lets a client in. They are asked in this order, and the first that knows the client decides:
//!
//! 1. its certificate, if certificates name users,
//! 2. SCRAM, if its CONNECT has an Authentication Method,
//! 3. the keys for tokens, if what it sends is one,
//! 4. the password file, if the user is in it,
//! 5. the HTTP endpoint.
//!
//! Whom nobody knows is refused, unless nobody is configured.

use std::sync::Arc;
use std::time::Duration;

use super::scram::{self, ClientFirst, Exchange, ScramError};
use super::{Access, Origin, Rules};
use crate::identity::{ClientInfo, Proof, party};
use crate::reason::ReasonCode;

impl Access {
    /// Finds out whether the client is who it says, and may have its Client Identifier. What is found of it is put down:
    /// its name, how that is proven, its rights. Returns for how long this holds.
    pub(crate) async fn authenticate(
        &self,
        client: &mut ClientInfo,
        password: Option<&[u8]>,
    ) -> Result<Option<Duration>, ReasonCode> {
        let rules = self.rules();
        let holds_for = self.identify(&rules, client, password).await?;
        check_client_id(&rules, client)?;
        Ok(holds_for)
    }

    async fn identify(
        &self,
        rules: &Rules,
        client: &mut ClientInfo,
        password: Option<&[u8]>,
    ) -> Result<Option<Duration>, ReasonCode> {
        if client.peer.username.is_some() {
            client.proof = Proof::Certificate;
            return Ok(None);
        }
        #[cfg(feature = "jwt")]
        if let Some(jwt) = &rules.jwt
            && let Some(token) = token_of(jwt, client, password)
        {
            return self.check_token(jwt, client, &token).map(Some);
        }
        let Some(username) = &client.username else {
            return match rules.settings.anonymous {
                true => Ok(None),
                false => Err(ReasonCode::NotAuthorized),
            };
        };
        // Where somebody else may know the user, nothing is hashed for those that the file does not know.
        let passwords = rules.passwords.as_ref();
        if let Some(passwords) = passwords.filter(|known| known.file.contains(username) || !rules.ask_elsewhere()) {
            let password = password.unwrap_or_default();
            let verifier = &self.0.verifier;
            let passwords = Arc::clone(passwords);
            verifier.verify(passwords, username, password, origin(client)).await?;
            client.proof = Proof::Password;
            return Ok(None);
        }
        #[cfg(feature = "http-auth")]
        if let Some(http) = &rules.http {
            return self.ask_endpoint(http, client, password).await;
        }
        match rules.check_names() {
            true => Err(self.0.verifier.failed(origin(client))),
            false => Ok(None),
        }
    }

    #[cfg(feature = "jwt")]
    fn check_token(&self, jwt: &super::Jwt, client: &mut ClientInfo, token: &[u8]) -> Result<Duration, ReasonCode> {
        let verifier = &self.0.verifier;
        verifier.may_try(origin(client))?;
        let refuse = |client: &ClientInfo, reason| {
            tracing::debug!(client = &*client.client_id, reason, "token refused");
            verifier.failed(origin(client))
        };
        let token = jwt.verify(token).map_err(|reason| refuse(client, reason))?;
        let claimed = client
            .username
            .as_deref()
            .filter(|_| jwt.from == super::JwtFrom::Password);
        if claimed.is_some_and(|name| !name.is_empty() && name != &*token.username) {
            return Err(refuse(client, "it is another user's"));
        }
        client.username = Some(token.username.clone());
        if let Some(rules) = token.rules() {
            let rights = super::rules::rights(rules, &super::who(client));
            let rights = rights.map_err(|reason| refuse(client, reason))?;
            client.rights = Some(Arc::new(rights));
        }
        client.proof = Proof::Token(token.key);
        Ok(token.remaining)
    }

    #[cfg(feature = "http-auth")]
    async fn ask_endpoint(
        &self,
        http: &super::HttpAuth,
        client: &mut ClientInfo,
        password: Option<&[u8]>,
    ) -> Result<Option<Duration>, ReasonCode> {
        use super::http::{Answer, NoAnswer, Question};
        let question = Question::new(client, password);
        let allowed = match http.remembers(&question, client) {
            Some(allowed) => allowed,
            None => {
                self.0.verifier.may_try(origin(client))?;
                match http.ask(&question, client).await {
                    Ok(Answer::Allow(allowed)) => allowed,
                    Ok(Answer::Deny | Answer::Ignore) => return Err(self.0.verifier.failed(origin(client))),
                    Err(NoAnswer::Busy) => return Err(ReasonCode::ServerBusy),
                    Err(NoAnswer::Down) => return Err(ReasonCode::ServerUnavailable),
                }
            }
        };
        client.rights = allowed.rights;
        client.proof = Proof::Endpoint;
        Ok(allowed
            .until
            .map(|until| until.saturating_duration_since(tokio::time::Instant::now())))
    }

    /// Begins SCRAM with the first message of the client; returns what to answer. A name that the client has by other
    /// means, or claims, must be the one that it is about to prove.
    pub(crate) fn begin_scram(
        &self,
        client: &ClientInfo,
        method: &str,
        message: &[u8],
    ) -> Result<(Exchange, String), ReasonCode> {
        let rules = self.rules();
        let passwords = rules.passwords.as_ref().filter(|_| method == scram::METHOD);
        let passwords = passwords.ok_or(ReasonCode::BadAuthenticationMethod)?;
        self.0.verifier.may_try(origin(client))?;
        let refuse = |error| self.refuse_scram(client, error);
        let first = ClientFirst::parse(message).map_err(refuse)?;
        if client.username.as_ref().is_some_and(|name| *name != first.username) {
            return Err(refuse(ScramError("it is about another user")));
        }
        let (verifier, decoy) = passwords
            .file
            .scram(&first.username)
            .ok_or(ReasonCode::BadAuthenticationMethod)?;
        Exchange::begin(&first, verifier, decoy).map_err(refuse)
    }

    /// Checks the last message of the client; returns the last of the server.
    pub(crate) fn finish_scram(
        &self,
        client: &ClientInfo,
        exchange: Exchange,
        message: &[u8],
    ) -> Result<String, ReasonCode> {
        exchange
            .finish(message)
            .map_err(|error| self.refuse_scram(client, error))
    }

    /// Puts down who has proven itself by SCRAM; it may have its Client Identifier, or not.
    pub(crate) fn accept_scram(&self, client: &mut ClientInfo, username: Box<str>) -> Result<(), ReasonCode> {
        client.username = Some(username);
        client.proof = match client.peer.username {
            Some(_) => Proof::Certificate,
            None => Proof::Password,
        };
        check_client_id(&self.rules(), client)
    }

    fn refuse_scram(&self, client: &ClientInfo, error: ScramError) -> ReasonCode {
        tracing::debug!(client = &*client.client_id, reason = error.0, "SCRAM refused");
        self.0.verifier.failed(origin(client));
        ReasonCode::NotAuthorized
    }

    /// Whether a connected client may stay. Its password may have changed: that is for its next CONNECT. Those that a key
    /// has let in go with it.
    pub(crate) fn is_known(&self, client: &ClientInfo) -> bool {
        let rules = self.rules();
        check_client_id(&rules, client).is_ok() && rules.know(client)
    }
}

impl Rules {
    fn know(&self, client: &ClientInfo) -> bool {
        match (client.proof, &client.username) {
            (Proof::Certificate, _) => true,
            #[cfg(feature = "jwt")]
            (Proof::Token(key), _) => self.jwt.as_ref().is_some_and(|jwt| jwt.has_key(key)),
            #[cfg(feature = "http-auth")]
            (Proof::Endpoint, _) => self.http.is_some(),
            (Proof::Password, Some(username)) if self.passwords.is_some() => {
                let passwords = self.passwords.as_ref();
                passwords.is_some_and(|passwords| passwords.file.contains(username))
            }
            (_, Some(_)) => !self.check_names(),
            (_, None) => self.settings.anonymous,
        }
    }
}

fn check_client_id(rules: &Rules, client: &ClientInfo) -> Result<(), ReasonCode> {
    match rules.settings.client_ids.allow(client) {
        true => Ok(()),
        false => Err(ReasonCode::ClientIdentifierNotValid),
    }
}

/// What in the CONNECT is a token, where one is looked for.
#[cfg(feature = "jwt")]
fn token_of(jwt: &super::Jwt, client: &ClientInfo, password: Option<&[u8]>) -> Option<Box<[u8]>> {
    let text = match jwt.from {
        super::JwtFrom::Password => password?,
        super::JwtFrom::UserName => client.username.as_deref()?.as_bytes(),
    };
    super::jwt::is_token(text).then(|| text.into())
}

pub(super) fn origin(client: &ClientInfo) -> Origin {
    client.peer.address.map(|address| party(address.ip()))
}
