//! `[auth.jwt.NAME.refresh]`: how an issuer's keys are kept fresh.

use std::time::Duration;

use crate::config::{
    decode::{Reader, TableNode, Time, table},
    diagnostic::Finding,
};

table! {
    /// `[auth.jwt.NAME.refresh]`: how the keys of a `jwks_url`, or of an `issuer` alone, are kept
    /// fresh.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KeyRefresh ["auth.jwt.NAME.refresh", check check_refresh] {
        /// `interval`: how long keys are fresh when the issuer does not say (`max-age`). They are
        /// fetched again shortly before.
        pub interval: Duration => Time = Duration::from_secs(600),
        /// `min_interval`: the shortest time that counts, whatever the issuer says.
        pub min_interval: Duration => Time = Duration::from_secs(60),
        /// `max_interval`: the longest time that counts, whatever the issuer says.
        pub max_interval: Duration => Time = Duration::from_secs(3600),
        /// `max_stale`: how long keys serve after they were last fetched, when they can't be
        /// fetched again; then requests get 503.
        pub max_stale: Duration => Time = Duration::from_secs(86_400),
        /// `cooldown`: between two fetches that tokens with an unknown key ask for.
        pub cooldown: Duration => Time = Duration::from_secs(10),
        /// `timeout`: how long each request for keys may take.
        pub timeout: Duration => Time = Duration::from_secs(5),
        /// `wait`: how long a request waits for keys that are being fetched.
        pub wait: Duration => Time = Duration::from_secs(2),
    }
}

fn check_refresh(refresh: &KeyRefresh, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if refresh.min_interval > refresh.max_interval {
        let place = table.value_place("min_interval", reader);
        let message = "`min_interval` is longer than `max_interval`";
        reader.report(Finding::error(place, message).help("swap them, or set both"));
    }
    if refresh.max_stale < refresh.max_interval {
        let place = table.value_place("max_stale", reader);
        let message = "`max_stale` is shorter than `max_interval`: keys would be too old before they are fetched again";
        let help = "make `max_stale` longer, or `max_interval` shorter";
        reader.report(Finding::error(place, message).help(help));
    }
}
