//! What a refusal tells of a credential: whether the method that has refused it knows it.
//!
//! What one method knows is no guess at another's, so whoever can make a method say that it knows something
//! can guess at that place for ever. A reason is said to tell of knowledge only where nobody gets it without a
//! credential that was good once, or where it counts as a guess itself.

use crate::exchange::Reason;

/// What a method that has refused a credential knows of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// It has read the credential, and that is one of its own: it has expired, say. One whose keys are away has
    /// read a token at least, which is nothing to guess.
    Known,
    /// It may know the credential and has not said so: it can't tell now, has not looked, or another service
    /// forbids the request, or sends it to a login page. That one may do with whatever it is sent.
    Untold,
    /// It does not know the credential, which may be another method's.
    Foreign,
    /// Of several credentials it has read none.
    Unread,
}

impl Knowledge {
    pub(super) fn of(refused: Reason) -> Self {
        match refused {
            Reason::ApiKeyMalformed | Reason::ApiKeyUnknown | Reason::ExternalUnauthorized => {
                Self::Foreign
            }
            reason if is_of_another_issuer(reason) => Self::Foreign,
            Reason::AuthTooManyFailures
            | Reason::AuthUnavailable
            | Reason::AuthBusy
            | Reason::ExternalForbidden
            | Reason::ExternalRedirected
            | Reason::ExternalUnavailable => Self::Untold,
            Reason::AuthAmbiguous => Self::Unread,
            _ => Self::Known,
        }
    }
}

/// Whether an issuer says this of a token that is another's. Whatever needs no signature to be said is among
/// these: anybody can write a token that asks for an extension, or a long one.
pub(super) fn is_of_another_issuer(refused: Reason) -> bool {
    matches!(
        refused,
        Reason::JwtTooLarge
            | Reason::JwtCritical
            | Reason::JwtMalformed
            | Reason::JwtWrongType
            | Reason::JwtWrongAlgorithm
            | Reason::JwtUnknownKey
            | Reason::JwtBadSignature
            | Reason::JwtWrongIssuer
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_that_was_good_once_is_known() {
        for reason in [
            Reason::ApiKeyExpired,
            Reason::ApiKeyRevoked,
            Reason::JwtExpired,
            Reason::JwtWrongAudience,
        ] {
            assert_eq!(Knowledge::of(reason), Knowledge::Known, "{reason:?}");
        }
    }

    #[test]
    fn what_anybody_can_make_a_method_say_tells_of_no_knowledge() {
        for reason in [
            Reason::AuthAmbiguous,
            Reason::AuthBusy,
            Reason::AuthTooManyFailures,
            Reason::ApiKeyMalformed,
            Reason::ApiKeyUnknown,
            Reason::JwtCritical,
            Reason::JwtTooLarge,
            Reason::JwtMalformed,
            Reason::ExternalUnauthorized,
            Reason::ExternalForbidden,
            Reason::ExternalRedirected,
        ] {
            assert_ne!(Knowledge::of(reason), Knowledge::Known, "{reason:?}");
        }
    }
}
