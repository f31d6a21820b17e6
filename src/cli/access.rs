//! Options that say who may do what.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::authentication::AuthenticationOptions;
use super::values::{seconds, switch};
use crate::{AccessSettings, ClientIdRule, DeniedPublish, WideSubscriptions};

const HEADING: &str = "Who may do what";

#[derive(Debug, Args)]
pub(super) struct AccessOptions {
    /// Users and passwords, as `broker passwd` or mosquitto_passwd write them. Reloaded at SIGHUP
    #[arg(long, env = "BROKER_PASSWORD_FILE", value_name = "FILE", help_heading = HEADING)]
    password_file: Option<PathBuf>,
    /// What users may publish and subscribe to, in the format of Mosquitto or in TOML. Reloaded at SIGHUP
    #[arg(long, env = "BROKER_ACL_FILE", value_name = "FILE", help_heading = HEADING)]
    acl_file: Option<PathBuf>,
    /// Whether clients may connect without a user name: on or off [default: on; off if anything lets users in]
    #[arg(long, env = "BROKER_ANONYMOUS", value_name = "on|off", value_parser = switch, help_heading = HEADING)]
    anonymous: Option<bool>,
    /// What becomes of a subscription to more than the client may read [default: filter, deny for rules in TOML]
    #[arg(long, env = "BROKER_ACL_SUBSCRIBE", value_name = "POLICY", help_heading = HEADING)]
    acl_subscribe: Option<Wide>,
    /// What becomes of a publication that is not allowed, if its MQTT 3 client can't be told
    #[arg(
        long,
        env = "BROKER_DENIED_PUBLISH",
        value_name = "POLICY",
        default_value = "acknowledge",
        help_heading = HEADING
    )]
    denied_publish: Denied,
    /// What client identifiers begin with; %u stands for the user name [default: anything]
    #[arg(long, env = "BROKER_CLIENT_ID_PREFIX", value_name = "PREFIX", help_heading = HEADING)]
    client_id_prefix: Option<Box<str>>,
    /// A client's identifier must be its user name
    #[arg(
        long,
        env = "BROKER_CLIENT_ID_IS_USERNAME",
        value_name = "on|off",
        value_parser = switch,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_value = "off",
        default_missing_value = "on",
        help_heading = HEADING
    )]
    client_id_is_username: bool,
    /// Time for which a right password is remembered, as a keyed hash; 0 checks it each time
    #[arg(
        long,
        env = "BROKER_PASSWORD_CACHE",
        value_name = "SECONDS",
        default_value = "60",
        value_parser = seconds,
        help_heading = HEADING
    )]
    password_cache: Duration,
    #[command(flatten)]
    authentication: AuthenticationOptions,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Wide {
    /// It is granted, and each message is checked
    Filter,
    /// It is refused
    Deny,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Denied {
    /// It is acknowledged and discarded
    Acknowledge,
    /// The connection is closed
    Close,
}

impl AccessOptions {
    /// `certificate_names` says whether there are clients whose names are in their certificates.
    pub(super) fn settings(&self, certificate_names: bool) -> AccessSettings {
        let mut client_ids = ClientIdRule::default();
        client_ids.prefix.clone_from(&self.client_id_prefix);
        client_ids.is_username = self.client_id_is_username;
        AccessSettings {
            password_file: self.password_file.clone(),
            jwt: self.authentication.jwt(),
            http: self.authentication.http(),
            acl_file: self.acl_file.clone(),
            anonymous: self.anonymous(),
            certificate_names,
            wide_subscriptions: self.acl_subscribe.map(|wide| match wide {
                Wide::Filter => WideSubscriptions::Filter,
                Wide::Deny => WideSubscriptions::Deny,
            }),
            denied_publish: match self.denied_publish {
                Denied::Acknowledge => DeniedPublish::Acknowledge,
                Denied::Close => DeniedPublish::Close,
            },
            client_ids,
            password_cache: self.password_cache,
        }
    }

    pub(super) fn anonymous(&self) -> bool {
        let lets_users_in = self.password_file.is_some() || self.authentication.is_any();
        self.anonymous.unwrap_or(!lets_users_in)
    }
}
