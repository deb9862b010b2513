//! API keys: one look-up by the hash of what was presented.
//!
//! A key is hashed before anything is compared, so the time of a look-up tells of the hash at most,
//! and who could choose hashes would not need the key. A key is 256 random bits: there is nothing to
//! guess, and so nothing to slow down.
//!
//! What a key may do is made into a grant once, when the file is read; a request costs a hash, a
//! look-up and no allocation, with ten keys or with 100,000.

mod table;
mod uses;

use std::{borrow::Cow, sync::Arc};

use http::{HeaderValue, header::AUTHORIZATION};

use super::{
    challenge::bearer,
    credential::{self, Found},
    method::{Grant, Method, Verdict},
};
use crate::{
    config::{ApiKeys, CredentialPlace, KeyScheme, KeysFile},
    exchange::{Context, KeyState, Reason, Request, Watched, api_key},
    pipeline::Tools,
};
pub use table::KeyTable;

/// One `[auth.api_keys.NAME]`.
pub struct ApiKeyMethod {
    config: ApiKeys,
    keys: Watched<KeyTable>,
}

impl ApiKeyMethod {
    /// Reads the keys, and reads them again whenever their file changes.
    #[must_use]
    pub fn from_config(config: &ApiKeys, tools: &Tools) -> Self {
        let (name, file) = (Arc::clone(&config.name), config.keys_file.clone());
        let uses = uses::Uses::default();
        let keys = tools.watch(&config.name, &config.keys_file, KeysFile::LARGEST, {
            move |text| {
                let file = KeysFile::parse(&file.display().to_string(), text)
                    .map_err(|findings| findings.render(false))?;
                Ok(KeyTable::new(&name, &file, &uses))
            }
        });
        Self {
            config: config.clone(),
            keys,
        }
    }

    /// The key of a request, elsewhere than at the used places.
    fn find<'r>(
        &self,
        used: &[&CredentialPlace],
        request: &'r Request,
    ) -> Result<Option<Cow<'r, [u8]>>, Reason> {
        credential::find_only(request, &self.config.from, used, |value, place| {
            Ok(self.at(place, value))
        })
    }

    /// In Authorization a scheme stands before the key; one of another scheme is not ours.
    fn at<'r>(&self, place: &CredentialPlace, value: Cow<'r, [u8]>) -> Option<Cow<'r, [u8]>> {
        if *place != CredentialPlace::Header(AUTHORIZATION) {
            return Some(value);
        }
        let Cow::Borrowed(value) = value else {
            return None;
        };
        let scheme = self.config.scheme.as_str().as_bytes();
        let (before, after) = value.split_at_checked(scheme.len())?;
        // RFC 9110 11.4: one space or more.
        let separated = after.first() == Some(&b' ');
        let ours = before.eq_ignore_ascii_case(scheme) && (separated || after.is_empty());
        ours.then(|| Cow::Borrowed(after.trim_ascii_start()))
    }

    fn judge(&self, key: &[u8], context: &Context) -> Result<Arc<Grant>, Reason> {
        let hash = api_key::hash(key).ok_or(Reason::ApiKeyMalformed)?;
        let keys = self.keys.get();
        let keys = keys.as_ref().ok_or(Reason::AuthUnavailable)?;
        keys.admit(&hash, context)
    }
}

impl Method for ApiKeyMethod {
    fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    fn check_beside(
        &self,
        used: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Verdict {
        let key = match self.find(used, request) {
            Ok(Some(key)) => key,
            Ok(None) => return Verdict::Absent,
            Err(reason) => return Verdict::refused(reason),
        };
        match self.judge(&key, context) {
            Ok(grant) => Verdict::Granted(grant),
            Err(reason) => Verdict::refused(reason),
        }
    }

    /// There is no standard scheme for keys, but RFC 9110 15.5.2 wants a challenge: it has our own.
    fn challenge(&self, refused: Option<Reason>) -> Option<HeaderValue> {
        match self.config.scheme {
            KeyScheme::Bearer => bearer(refused),
            KeyScheme::ApiKey => Some(HeaderValue::from_static("ApiKey realm=\"tollgate\"")),
        }
    }

    fn strip(&self, request: &mut Request) {
        for place in &self.config.from {
            let ours = match credential::find(request, place) {
                Found::One(value) => self.at(place, value).is_some(),
                Found::Nothing | Found::Several => false,
            };
            if ours {
                credential::strip(request, place);
            }
        }
    }

    fn forwards_credentials(&self) -> bool {
        self.config.forward_credentials
    }

    fn places(&self) -> &[CredentialPlace] {
        &self.config.from
    }

    fn reads(&self, place: &CredentialPlace, request: &Request) -> bool {
        match credential::find(request, place) {
            Found::One(value) => self.at(place, value).is_some(),
            // Whosever they are: it refuses them.
            Found::Several => true,
            Found::Nothing => false,
        }
    }

    /// A look-up is as cheap as any refusal, and a key can't be guessed.
    fn recall(
        &self,
        used: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Option<Arc<Grant>> {
        let key = self.find(used, request).ok()??;
        self.judge(&key, context).ok()
    }

    fn keys(&self) -> Vec<KeyState> {
        let keys = self.keys.get();
        keys.as_ref().map_or_else(Vec::new, |keys| keys.states())
    }
}
