//! `[auth.*]`: the ways in which callers can show who they are, and the routes' `auth`.
//!
//! One file per kind: `[auth.jwt.NAME]` is in `auth/jwt.rs`. A kind is a line in [`AuthTables`], one
//! in [`AuthTables::merge`], one in [`AuthTables::names`] and one in [`Auth`].

mod api_keys;
mod basic;
mod claim;
mod external;
mod identity;
mod jwt;
mod key_set;
mod place;
mod refresh;
mod revocation;
mod rule;

pub use api_keys::{ApiKeys, KeyScheme};
pub use basic::Basic;
pub use claim::ClaimPath;
pub use external::{External, Fact};
pub use jwt::{Jwt, KeysFrom};
pub use key_set::{KeySet, VerificationKey};
pub use place::CredentialPlace;
pub use refresh::KeyRefresh;
pub use revocation::{RevocationList, RevocationSource};
pub use rule::AuthRule;

pub(super) use api_keys::{ApiKeysTable, KeysOf, OneKey};
pub(super) use basic::BasicTable;
pub(super) use external::ExternalKeys;
pub(super) use jwt::JwtKeys;
pub(super) use revocation::RevocationKeys;
pub(super) use rule::{AllKeys, Member, MemberFormat, resolve};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use http::{
    HeaderName,
    header::{AUTHORIZATION, COOKIE},
};

use super::{
    decode::{Entry, Keyed, Named, Off, OrWord, Set, table},
    diagnostic::Finding,
    document::Doubles,
    quota::TimedQuota,
    source::{Place, Sources},
};

/// A quota, or off.
type Failures = Option<(u64, Duration)>;
type Names<T> = BTreeMap<Arc<str>, Entry<T>>;

table! {
    /// `[auth]`: the ways in which callers can show who they are. Each has a name, `[auth.jwt.customers]`,
    /// by which routes ask for it: `auth = "jwt.customers"`.
    #[derive(Clone, Debug)]
    pub(super) struct AuthTables ["auth"] {
        /// `jwt`: signed tokens.
        pub(super) jwt: Names<JwtKeys> => Named<JwtKeys> = Names::new(); "none",
        /// `external`: other services that decide.
        pub(super) external: Names<ExternalKeys> => Named<ExternalKeys> = Names::new(); "none",
        /// `api_keys`: keys of partners and programs.
        pub(super) api_keys: Names<ApiKeysTable> => Named<ApiKeysTable> = Names::new(); "none",
        /// `basic`: users and passwords.
        pub(super) basic: Names<BasicTable> => Named<BasicTable> = Names::new(); "none",
        /// `failures`: how often a client address may present a credential that is made up, before
        /// further ones are refused unread. Of IPv6 the first 64 bits count.
        pub(super) failures: Option<Set<Failures>> => Keyed<OrWord<TimedQuota, Off>> = None; "`\"20/1m\"`",
    }
}

impl AuthTables {
    /// Takes in what another file says.
    pub(super) fn merge(&mut self, other: Self, doubles: &mut Doubles<'_>) {
        doubles.names("auth.jwt", &mut self.jwt, other.jwt);
        doubles.names("auth.external", &mut self.external, other.external);
        doubles.names("auth.api_keys", &mut self.api_keys, other.api_keys);
        doubles.names("auth.basic", &mut self.basic, other.basic);
        doubles.table("auth.failures", &mut self.failures, other.failures);
    }

    /// The full names of all ways to authenticate, and where they stand.
    pub(super) fn names(&self) -> Vec<(Arc<str>, Place)> {
        let kinds = [
            names("jwt", &self.jwt),
            names("api_keys", &self.api_keys),
            names("basic", &self.basic),
            names("external", &self.external),
        ];
        kinds.into_iter().flatten().collect()
    }

    /// In the name of a caller a colon ends that of the method: `jwt.customers:alice`. With one more,
    /// callers of two methods could have one name, and so one limit and one cache.
    pub(super) fn check_names(&self, findings: &mut Vec<Finding>) {
        let names = self.names().into_iter();
        let ambiguous = names.filter(|(name, _)| name.contains(':'));
        findings.extend(ambiguous.map(|(name, place)| {
            let message = format!("`{name}`: a name with a colon could be taken for a caller's");
            Finding::error(place, message).help("write it with a hyphen in its place")
        }));
    }

    /// What the credentials of a way to authenticate, by its full name, can carry.
    pub(super) fn carried(&self, full_name: &str) -> Carried {
        let (kind, name) = full_name.split_once('.').unwrap_or_default();
        let carried = match kind {
            "jwt" => self.jwt.get(name).map(|entry| entry.value.carried()),
            "basic" => self.basic.get(name).map(|entry| entry.value.carried()),
            "external" => self.external.get(name).map(|entry| entry.value.carried()),
            // What the file of keys says may change at any time.
            _ => Some(Carried {
                roles: true,
                permissions: true,
                claims: false,
            }),
        };
        carried.unwrap_or_default()
    }

    /// The client's headers of which a way to authenticate, by its full name, tells a service.
    pub(super) fn told_headers(&self, full_name: &str) -> &[HeaderName] {
        let name = full_name.strip_prefix("external.");
        let entry = name.and_then(|name| self.external.get(name));
        entry
            .map(|entry| entry.value.told_headers())
            .unwrap_or_default()
    }

    /// Checks the files that the tables name and that are read again while the gateway runs; the keys
    /// that were read. Roles of keys are compared with those that are known, where any are. Where one
    /// key alone is of interest, everything else is left out.
    pub(super) fn check_files(
        &self,
        roles: Option<&BTreeSet<Arc<str>>>,
        only: Option<&OneKey>,
        sources: &mut Sources,
        findings: &mut Vec<Finding>,
    ) -> Vec<KeysOf> {
        let mut read = Vec::with_capacity(self.api_keys.len());
        for (name, entry) in &self.api_keys {
            let Some((path, place)) = entry.value.file() else {
                continue;
            };
            if only.is_some_and(|only| !only.is_in(path)) {
                continue;
            }
            let mut keys = api_keys::check_file(path, place, sources, findings);
            if let Some(only) = only {
                only.pick(&mut keys);
            }
            if let Some(roles) = roles {
                api_keys::warn_of_unknown_roles(&keys, roles, place, findings);
            }
            let method = full_name("api_keys", name);
            read.push(KeysOf {
                method,
                place,
                keys,
            });
        }
        let users = self.basic.values().filter_map(|users| users.value.file());
        for (path, place) in users.filter(|_| only.is_none()) {
            basic::check_file(path, place, findings);
        }
        read
    }

    /// The checked tables. What is wrong has been reported when they were read.
    pub(super) fn build(self) -> Auth {
        Auth {
            jwt: named("jwt", self.jwt, JwtKeys::named),
            external: named("external", self.external, ExternalKeys::named),
            api_keys: named("api_keys", self.api_keys, ApiKeysTable::named),
            basic: named("basic", self.basic, BasicTable::named),
            failures: self.failures.map_or(FAILURES, |set| set.value.flatten()),
        }
    }
}

/// What credentials can say of a caller beside the name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    /// Roles.
    pub(super) roles: bool,
    /// Permissions beside those of the roles.
    pub(super) permissions: bool,
    /// Claims.
    pub(super) claims: bool,
}

impl Carried {
    /// What at least one of two can carry.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            roles: self.roles || other.roles,
            permissions: self.permissions || other.permissions,
            claims: self.claims || other.claims,
        }
    }
}

fn names<T>(kind: &str, table: &Names<T>) -> Vec<(Arc<str>, Place)> {
    let full = |(name, entry): (&Arc<str>, &Entry<T>)| (full_name(kind, name), entry.place);
    table.iter().map(full).collect()
}

/// Tables by their full names; one that is wrong is left out, and there are findings then.
fn named<K, T>(
    kind: &str,
    table: Names<K>,
    build: impl Fn(K, Arc<str>) -> Option<T>,
) -> BTreeMap<Arc<str>, T> {
    let build = |(name, entry): (Arc<str>, Entry<K>)| {
        let name = full_name(kind, &name);
        Some((Arc::clone(&name), build(entry.value, name)?))
    };
    table.into_iter().filter_map(build).collect()
}

fn full_name(kind: &str, name: &str) -> Arc<str> {
    format!("{kind}.{name}").into()
}

/// `[auth.*]`, each kind by full names such as `jwt.customers`.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    /// `[auth.jwt.*]`.
    pub jwt: BTreeMap<Arc<str>, Jwt>,
    /// `[auth.external.*]`.
    pub external: BTreeMap<Arc<str>, External>,
    /// `[auth.api_keys.*]`.
    pub api_keys: BTreeMap<Arc<str>, ApiKeys>,
    /// `[auth.basic.*]`.
    pub basic: BTreeMap<Arc<str>, Basic>,
    /// `failures`: how many credentials that are made up a client address may present in such a
    /// time.
    pub failures: Option<(u64, Duration)>,
}

impl Default for Auth {
    fn default() -> Self {
        AuthTables::default().build()
    }
}

impl Auth {
    /// The request headers that say who a caller is and come from the gateway alone: on every route
    /// they are taken out of what clients send. In order, without doubles.
    #[must_use]
    pub fn identity_headers(&self) -> Vec<HeaderName> {
        let claims = self.jwt.values().flat_map(|jwt| &jwt.forward_claims);
        let mut headers: Vec<_> = claims.map(|(name, _)| name.clone()).collect();
        let external = self.external.values();
        headers.extend(external.flat_map(|external| external.forward_headers.iter().cloned()));
        headers.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        headers.dedup();
        headers
    }

    /// The request headers in which credentials may stand. In order, without doubles.
    #[must_use]
    pub fn credential_headers(&self) -> Vec<HeaderName> {
        let places = self.credential_places().into_iter();
        let mut headers: Vec<_> = places
            .filter_map(|(place, _)| match place {
                CredentialPlace::Header(name) => Some(name),
                _ => None,
            })
            .collect();
        headers.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        headers.dedup();
        headers
    }

    /// Where credentials may stand, and whose they are.
    pub(super) fn credential_places(&self) -> Vec<(CredentialPlace, &Arc<str>)> {
        let jwt = self.jwt.values().map(|jwt| (&jwt.from, &jwt.name));
        let keys = self.api_keys.values().map(|keys| (&keys.from, &keys.name));
        let from = jwt.chain(keys);
        let mut places: Vec<_> = from
            .flat_map(|(from, name)| from.iter().map(move |place| (place.clone(), name)))
            .collect();
        for external in self.external.values() {
            let headers = external.credential_headers().cloned();
            places.extend(headers.map(|header| (CredentialPlace::Header(header), &external.name)));
        }
        places
    }

    /// Whether a rule takes a credential that a browser sends whoever asks it to: a cookie, or a
    /// password that it was told once. What a service reads in Authorization may be one.
    #[must_use]
    pub fn is_sent_by_browsers(&self, rule: &AuthRule) -> bool {
        let is_cookie = |place: &CredentialPlace| matches!(place, CredentialPlace::Cookie(_));
        let is_sent = |name: &HeaderName| [AUTHORIZATION, COOKIE].contains(name);
        rule.methods().any(|name| {
            let external = self.external.get(name);
            let jwt = self.jwt.get(name).map(|jwt| &jwt.from);
            let from = jwt.or_else(|| self.api_keys.get(name).map(|keys| &keys.from));
            from.is_some_and(|from| from.iter().any(is_cookie))
                || external.is_some_and(|external| external.request_headers.iter().any(is_sent))
                || self.basic.contains_key(name)
        })
    }
}

/// Far above what people mistype and far below what guessing needs.
const FAILURES: Failures = Some((20, Duration::from_secs(60)));
