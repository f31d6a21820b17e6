//! Options for tokens and for an HTTP endpoint, in the place of a password file or beside it.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::seconds;
use crate::{HttpAuthSettings, JwtAlgorithm, JwtFrom, JwtKeys, JwtSettings};

const TOKENS: &str = "Tokens (JWT)";
const ENDPOINT: &str = "Asking an HTTP endpoint";

#[derive(Debug, Args)]
pub(super) struct AuthenticationOptions {
    /// Key that verifies tokens: a secret of 32 bytes or more, or public keys in PEM. Reloaded at SIGHUP
    #[arg(long, env = "BROKER_JWT_KEY_FILE", value_name = "FILE", group = "jwt_keys", help_heading = TOKENS)]
    jwt_key_file: Option<PathBuf>,
    /// Keys that verify tokens, as a JSON Web Key Set. Reloaded at SIGHUP
    #[arg(long, env = "BROKER_JWT_JWKS_FILE", value_name = "FILE", group = "jwt_keys", help_heading = TOKENS)]
    jwt_jwks_file: Option<PathBuf>,
    /// Algorithms that tokens may be signed with, with commas between [default: all that fit the keys]
    #[arg(
        long,
        env = "BROKER_JWT_ALGORITHMS",
        value_name = "NAMES",
        requires = "jwt_keys",
        help_heading = TOKENS
    )]
    jwt_algorithms: Option<Algorithms>,
    /// What the iss of tokens must be [default: anything]
    #[arg(long, env = "BROKER_JWT_ISSUER", value_name = "NAME", requires = "jwt_keys", help_heading = TOKENS)]
    jwt_issuer: Option<String>,
    /// What the aud of tokens must be or contain [default: tokens have none]
    #[arg(long, env = "BROKER_JWT_AUDIENCE", value_name = "NAME", requires = "jwt_keys", help_heading = TOKENS)]
    jwt_audience: Option<String>,
    /// Where clients put their token [default: password]
    #[arg(long, env = "BROKER_JWT_FROM", value_name = "FIELD", requires = "jwt_keys", help_heading = TOKENS)]
    jwt_from: Option<From>,
    /// Claim of a token that is the user name [default: sub]
    #[arg(long, env = "BROKER_JWT_USERNAME_CLAIM", value_name = "CLAIM", requires = "jwt_keys", help_heading = TOKENS)]
    jwt_username_claim: Option<String>,
    /// How far the clocks of the broker and of the issuer may be apart [default: 30]
    #[arg(
        long,
        env = "BROKER_JWT_LEEWAY",
        value_name = "SECONDS",
        value_parser = seconds,
        requires = "jwt_keys",
        help_heading = TOKENS
    )]
    jwt_leeway: Option<Duration>,
    /// Endpoint that is asked, by POST, about users who are not in the password file
    #[arg(long, env = "BROKER_AUTH_HTTP_URL", value_name = "URL", help_heading = ENDPOINT)]
    auth_http_url: Option<String>,
    /// Roots that the certificate of an https endpoint leads to, in PEM. Reloaded at SIGHUP
    #[arg(
        long,
        env = "BROKER_AUTH_HTTP_CA",
        value_name = "FILE",
        requires = "auth_http_url",
        help_heading = ENDPOINT
    )]
    auth_http_ca: Option<PathBuf>,
    /// Time for an answer [default: 5]
    #[arg(
        long,
        env = "BROKER_AUTH_HTTP_TIMEOUT",
        value_name = "SECONDS",
        value_parser = seconds,
        requires = "auth_http_url",
        help_heading = ENDPOINT
    )]
    auth_http_timeout: Option<Duration>,
    /// Time for which a permission is remembered, as a keyed hash; 0 asks each time [default: 60]
    #[arg(
        long,
        env = "BROKER_AUTH_HTTP_CACHE",
        value_name = "SECONDS",
        value_parser = seconds,
        requires = "auth_http_url",
        help_heading = ENDPOINT
    )]
    auth_http_cache: Option<Duration>,
}

/// One value, so that those of a listener take the place of the broker's and do not come beside them.
#[derive(Clone, Debug)]
struct Algorithms(Vec<JwtAlgorithm>);

impl FromStr for Algorithms {
    type Err = String;

    fn from_str(names: &str) -> Result<Algorithms, String> {
        let algorithms = names.split(',').map(|name| name.trim().parse());
        algorithms.collect::<Result<_, _>>().map(Algorithms)
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum From {
    /// In the password
    Password,
    /// In the user name
    Username,
}

impl AuthenticationOptions {
    pub(super) fn jwt(&self) -> Option<JwtSettings> {
        let keys = match (&self.jwt_key_file, &self.jwt_jwks_file) {
            (Some(file), _) => JwtKeys::File(file.clone()),
            (None, Some(set)) => JwtKeys::Set(set.clone()),
            (None, None) => return None,
        };
        let mut settings = JwtSettings::new(keys);
        if let Some(Algorithms(algorithms)) = &self.jwt_algorithms {
            settings.algorithms.clone_from(algorithms);
        }
        settings.issuer.clone_from(&self.jwt_issuer);
        settings.audience.clone_from(&self.jwt_audience);
        if let Some(From::Username) = self.jwt_from {
            settings.from = JwtFrom::UserName;
        }
        if let Some(claim) = &self.jwt_username_claim {
            settings.username_claim.clone_from(claim);
        }
        settings.leeway = self.jwt_leeway.unwrap_or(settings.leeway);
        Some(settings)
    }

    pub(super) fn http(&self) -> Option<HttpAuthSettings> {
        let mut settings = HttpAuthSettings::new(self.auth_http_url.as_deref()?);
        settings.ca.clone_from(&self.auth_http_ca);
        settings.timeout = self.auth_http_timeout.unwrap_or(settings.timeout);
        settings.cache = self.auth_http_cache.unwrap_or(settings.cache);
        Some(settings)
    }

    /// Whether any of these lets clients in.
    pub(super) fn is_any(&self) -> bool {
        self.jwt_key_file.is_some() || self.jwt_jwks_file.is_some() || self.auth_http_url.is_some()
    }
}
