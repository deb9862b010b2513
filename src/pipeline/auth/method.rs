//! One configured way to authenticate, as the middleware sees it.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};

use super::credential;
use crate::{
    config::CredentialPlace,
    exchange::{BoxFuture, Context, KeyState, Principal, Reason, Request, Response},
};

/// One configured way to authenticate: an issuer's tokens, a file of keys.
///
/// Shared by all routes that ask for it and kept over reloads that do not change it.
pub trait Method: Any + Send + Sync {
    /// The full name, `jwt.customers`: a metric label and the beginning of principals' names.
    fn name(&self) -> &Arc<str>;

    /// Where in the request a credential stands that could be this method's, whether or not it is
    /// valid; the first place when there are several. `None` without one, and always for a method
    /// that takes none (another service decides).
    ///
    /// It must be cheap: with several methods on a route it is asked for each of them.
    fn presented(&self, request: &Request) -> Option<&CredentialPlace> {
        credential::occupied(request, self.places(), &[])
    }

    /// Where a credential stands that could be a guess at one of this method's, elsewhere than at the
    /// used places.
    fn guessed(&self, used: &[&CredentialPlace], request: &Request) -> Option<&CredentialPlace> {
        let guess = |place: &&CredentialPlace| {
            let elsewhere = !used.contains(place) && credential::is_at(request, place);
            elsewhere && self.reads(place, request)
        };
        self.guessed_places().iter().find(guess)
    }

    /// Whether the method would take what stands at one of these places for its own: an Authorization of
    /// another scheme is not. Where it says no, [`check`](Self::check) must grant nothing from there.
    fn reads(&self, _: &CredentialPlace, _: &Request) -> bool {
        true
    }

    /// Where guesses at this method's credentials can stand: at its own places, but for a method that
    /// asks another service.
    fn guessed_places(&self) -> &[CredentialPlace] {
        self.places()
    }

    /// Judges the request. A credential that is remembered should be granted without an allocation.
    fn check(&self, request: &Request, context: &Arc<Context>) -> Verdict {
        self.check_beside(&[], request, context)
    }

    /// Judges what stands elsewhere than at the places that another method's good credential has used:
    /// what is there is that one's. A method that has one place is asked only while it is unused.
    fn check_beside(
        &self,
        used: &[&CredentialPlace],
        request: &Request,
        context: &Arc<Context>,
    ) -> Verdict;

    /// The `WWW-Authenticate` of a 401 or 400: with the reason when it was this method that refused
    /// (RFC 6750 3.1: no error code when there was no credential). `None` when it has no scheme.
    fn challenge(&self, refused: Option<Reason>) -> Option<HeaderValue>;

    /// Takes this method's credential out of the request, and nothing else: of a Cookie field only
    /// its cookie, of the query only its parameter.
    fn strip(&self, request: &mut Request);

    /// Whether the upstream gets the credential where the route does not say.
    fn forwards_credentials(&self) -> bool;

    /// The places where the method looks for its credential; none for a method that takes none.
    fn places(&self) -> &[CredentialPlace];

    /// Places of credentials of which its principals do not say all: another service reads them. What of it
    /// goes on to the upstream may be another caller there.
    fn unread(&self) -> &[CredentialPlace] {
        &[]
    }

    /// The one of these places at which nothing makes another caller of whom it has named, beside what it has
    /// named.
    fn settled(&self) -> Option<&CredentialPlace> {
        None
    }

    /// Places at which it judges whatever stands there, without knowing whose it is: what it has let
    /// pass is no bad credential of another method. Only a method that asks another service has some,
    /// and only where its yes can be about nothing else in the request.
    fn judged(&self, _: &Request) -> &[CredentialPlace] {
        &[]
    }

    /// Grants what is known to be good already, without work: asked instead of
    /// [`check_beside`](Self::check_beside) for clients whose address has presented too much that was
    /// made up. A method whose credentials could be guessed must remember nothing here, or this would be
    /// the way to guess them.
    fn recall(&self, _: &[&CredentialPlace], _: &Request, _: &Arc<Context>) -> Option<Arc<Grant>> {
        None
    }

    /// The API keys of the method, as an operator may see them.
    fn keys(&self) -> Vec<KeyState> {
        Vec::new()
    }
}

/// What a [`Method`] says about a request.
pub enum Verdict {
    /// There is no credential of this method.
    Absent,
    /// The caller is who it claims to be.
    Granted(Arc<Grant>),
    /// There is a credential, and it is not accepted; or it can't be told now (503).
    Refused(Refusal),
    /// It takes time: a hash, a question to another service. It must not resolve to `Pending` again.
    Pending(BoxFuture<Verdict>),
    /// Another service has answered instead: 401 or 403, passed on as it is.
    Answer(Reason, Box<Response>),
}

/// A caller that was let in. Made once per credential where credentials are remembered.
#[derive(Debug)]
pub struct Grant {
    /// Who calls.
    pub principal: Arc<Principal>,
    /// What the upstream is told about the caller. Each name must be among
    /// [`Auth::identity_headers`](crate::config::Auth::identity_headers), or clients could send it
    /// themselves where there is no value.
    pub headers: Box<[(HeaderName, HeaderValue)]>,
}

/// Why a credential was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason; its status is that of the answer.
    pub reason: Reason,
    /// When it makes sense to try again, for 429 and 503.
    pub retry_after: Option<Duration>,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            retry_after: None,
        }
    }
}

impl Verdict {
    /// A refusal without more to say.
    #[must_use]
    pub fn refused(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Granted(grant) => f.debug_tuple("Granted").field(grant).finish(),
            Self::Refused(refusal) => f.debug_tuple("Refused").field(refusal).finish(),
            Self::Pending(_) => f.write_str("Pending"),
            Self::Answer(reason, _) => f.debug_tuple("Answer").field(reason).finish(),
        }
    }
}
