//! The stable words for everything that the gateway itself answers or notes.

use http::StatusCode;

/// The class of a refusal, for programs that only ask what kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(&'static str);

impl Code {
    /// The class as it stands in the envelope.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

/// Declares the reasons once: variant, word, status, class and the message for people.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $status:literal, $code:literal, $message:literal;)*) => {
        /// Why the gateway refused a request, or why an exchange ended early.
        ///
        /// The word is stable: it stands in the envelope, in the access log and in the README's
        /// table, which a test compares with this list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of the README's table.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The stable dotted word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The class that the envelope names.
            #[must_use]
            pub fn code(self) -> Code {
                match self { $(Self::$variant => Code($code),)* }
            }

            /// What a person should read.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(Self::$variant => $message,)* }
            }

            /// The beginning of the envelope: class, word and message.
            #[must_use]
            pub(crate) fn envelope(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!(
                        r#"{"success":false,"error":{"code":""#, $code,
                        r#"","reason":""#, $word,
                        r#"","message":""#, $message, r#"""#,
                    ),)*
                }
            }

            /// The status of the answer; 499 and 0 stand only in the log.
            #[must_use]
            pub fn status(self) -> StatusCode {
                let status = match self { $(Self::$variant => $status,)* };
                StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    };
}

reasons! {
    /// The parser refused the bytes.
    Malformed = "http.malformed", 400, "VALIDATION_ERROR", "The request is not valid HTTP.";
    /// The head is over `limits.header_bytes`, `http2.header_list` or `limits.max_headers`.
    HeadTooLarge = "http.head_too_large", 431, "VALIDATION_ERROR", "The request's header fields are too large.";
    /// The target is over `limits.target_bytes`.
    TargetTooLong = "http.target_too_long", 414, "VALIDATION_ERROR", "The request's target is too long.";
    /// The head did not arrive within `limits.header_timeout`.
    HeaderTimeout = "http.header_timeout", 408, "TIMEOUT", "The request's header fields did not arrive in time.";
    /// The client did not take the answer within `limits.write_timeout`.
    WriteTimeout = "http.write_timeout", 408, "TIMEOUT", "The client stopped reading the answer.";
    /// The listener is at `limits.max_connections`.
    TooManyConnections = "http.too_many_connections", 503, "UNAVAILABLE", "The gateway has too many connections.";
    /// The client is at `limits.max_connections_per_client`.
    TooManyClientConnections = "http.too_many_client_connections", 429, "RATE_LIMIT_EXCEEDED", "Too many connections come from this address.";
    /// The HTTP/2 stream would be one more than `http2.total_streams`, or its head go beyond
    /// `http2.total_heads`.
    TooManyStreams = "http.too_many_streams", 503, "UNAVAILABLE", "The gateway has too many requests under way.";
    /// Host is missing, doubled or not a host.
    HostInvalid = "request.host_invalid", 400, "VALIDATION_ERROR", "The request needs exactly one valid Host.";
    /// The target has no single meaning, or not one that a gateway serves.
    TargetInvalid = "request.target_invalid", 400, "VALIDATION_ERROR", "The request's target is not valid.";
    /// Transfer-Encoding is other than `chunked`, or stands beside Content-Length.
    FramingInvalid = "request.framing_invalid", 400, "VALIDATION_ERROR", "The request's body has no single length.";
    /// A header field is not allowed where it stands.
    HeaderInvalid = "request.header_invalid", 400, "VALIDATION_ERROR", "A header field of the request is not valid.";
    /// What a trusted proxy says of its client can be read in two ways: `server.trusted_headers`.
    ForwardedAmbiguous = "request.forwarded_ambiguous", 400, "VALIDATION_ERROR", "The request's forwarding fields contradict each other.";
    /// TRACE and CONNECT are not served.
    MethodRefused = "request.method_refused", 405, "METHOD_NOT_ALLOWED", "The gateway does not serve this method.";
    /// The body broke off or is badly chunked.
    BodyInvalid = "request.body_invalid", 400, "VALIDATION_ERROR", "The request's body is not valid.";
    /// The body is over the route's `max_body`.
    BodyTooLarge = "request.body_too_large", 413, "PAYLOAD_TOO_LARGE", "The request's body is too large.";
    /// No byte of the body came for `timeouts.idle`.
    BodyTimeout = "request.body_timeout", 408, "TIMEOUT", "The request's body did not arrive in time.";
    /// The body's media type is not one of the route's `content_types`, or can't be read.
    ContentType = "request.content_type", 415, "UNSUPPORTED_MEDIA_TYPE", "The media type of the request's body is not accepted.";
    /// The request has been through this gateway before, or through too many.
    Loop = "request.loop", 508, "LOOP_DETECTED", "The request went round in a loop.";
    /// No route matches.
    RouteNotFound = "route.not_found", 404, "NOT_FOUND", "Nothing is served here.";
    /// The best route does not serve the method.
    MethodNotAllowed = "route.method_not_allowed", 405, "METHOD_NOT_ALLOWED", "This method is not served here.";
    /// A header field or query parameter of `validation` is missing or does not fit.
    Parameters = "validation.parameters", 400, "VALIDATION_ERROR", "Parameters of the request are missing or not valid.";
    /// The body does not fit the route's `body_schema`.
    Body = "validation.body", 400, "VALIDATION_ERROR", "The request's body is not what is expected here.";
    /// Bodies are held or judged as many as may be.
    ValidationBusy = "validation.busy", 503, "UNAVAILABLE", "The gateway has too many bodies to check.";
    /// A limit's quota is used up.
    LimitExceeded = "limit.exceeded", 429, "RATE_LIMIT_EXCEEDED", "Too many requests: try again later.";
    /// Redis is away, and the limit has `on_store_error = "deny"`.
    LimitStoreUnavailable = "limit.store_unavailable", 503, "UNAVAILABLE", "The request can't be counted: try again later.";
    /// The request has no key to count it by, and the limit has `on_missing_key = "refuse"`.
    LimitKeyMissing = "limit.key_missing", 400, "VALIDATION_ERROR", "The request lacks what it is counted by.";
    /// The route asks for a credential and none came.
    AuthMissing = "auth.missing", 401, "UNAUTHORIZED", "A credential is needed.";
    /// A credential stands in more than one place, or twice in one.
    AuthAmbiguous = "auth.ambiguous", 400, "VALIDATION_ERROR", "The request has more than one credential.";
    /// Whether a credential is good can't be told now.
    AuthUnavailable = "auth.unavailable", 503, "UNAVAILABLE", "Credentials can't be checked at the moment.";
    /// Too many credentials that were made up have come from the client's address.
    AuthTooManyFailures = "auth.too_many_failures", 429, "RATE_LIMIT_EXCEEDED", "Too many wrong credentials came from this address.";
    /// More passwords wait to be checked than can be.
    AuthBusy = "auth.busy", 503, "UNAVAILABLE", "Too many passwords wait to be checked.";
    /// The key has not the form of one: another prefix, length or checksum.
    ApiKeyMalformed = "auth.api_key.malformed", 401, "UNAUTHORIZED", "The key is malformed.";
    /// No key of the file has this hash.
    ApiKeyUnknown = "auth.api_key.unknown", 401, "UNAUTHORIZED", "The key is not known.";
    /// The key, or the time for which it goes on after a rotation, has expired.
    ApiKeyExpired = "auth.api_key.expired", 401, "UNAUTHORIZED", "The key has expired.";
    /// The key's `not_before` has not come.
    ApiKeyNotYetValid = "auth.api_key.not_yet_valid", 401, "UNAUTHORIZED", "The key is not valid yet.";
    /// The key has been revoked.
    ApiKeyRevoked = "auth.api_key.revoked", 401, "UNAUTHORIZED", "The key has been revoked.";
    /// The key is not for this route, or not for the client's network.
    ApiKeyNotAllowedHere = "auth.api_key.not_allowed_here", 403, "FORBIDDEN", "The key can't be used here.";
    /// The credential is not base64 of `user:password` in UTF-8.
    BasicMalformed = "auth.basic.malformed", 401, "UNAUTHORIZED", "User and password are malformed.";
    /// There is no such user, or the password is another.
    BasicWrong = "auth.basic.wrong", 401, "UNAUTHORIZED", "User or password is wrong.";
    /// The token is no JWT, or says something in a form that it must not have.
    JwtMalformed = "auth.jwt.malformed", 401, "UNAUTHORIZED", "The token is malformed.";
    /// The token is longer than `max_size`.
    JwtTooLarge = "auth.jwt.too_large", 401, "UNAUTHORIZED", "The token is too long.";
    /// The token's `typ` is not one that is accepted.
    JwtWrongType = "auth.jwt.wrong_type", 401, "UNAUTHORIZED", "The token is of the wrong type.";
    /// The token's `alg` is not one that the issuer is configured for; `none` never is.
    JwtWrongAlgorithm = "auth.jwt.wrong_algorithm", 401, "UNAUTHORIZED", "The token is signed with an algorithm that is not accepted.";
    /// The token has `crit`: it asks for an extension, and there are none.
    JwtCritical = "auth.jwt.unknown_critical", 401, "UNAUTHORIZED", "The token needs an extension that is not supported.";
    /// No key of the issuer fits the token's `kid` and `alg`.
    JwtUnknownKey = "auth.jwt.unknown_key", 401, "UNAUTHORIZED", "The token is signed with a key that is not known.";
    /// The issuer's keys could not be had, and there are no older ones.
    JwtKeysUnavailable = "auth.jwt.keys_unavailable", 503, "UNAVAILABLE", "Tokens can't be checked at the moment.";
    /// The signature is not that of the key.
    JwtBadSignature = "auth.jwt.bad_signature", 401, "UNAUTHORIZED", "The signature of the token is not valid.";
    /// `iss` is not the configured issuer.
    JwtWrongIssuer = "auth.jwt.wrong_issuer", 401, "UNAUTHORIZED", "The token is from an issuer that is not accepted.";
    /// `aud` has none of the configured audiences.
    JwtWrongAudience = "auth.jwt.wrong_audience", 401, "UNAUTHORIZED", "The token is not meant for this service.";
    /// `exp` has passed.
    JwtExpired = "auth.jwt.expired", 401, "UNAUTHORIZED", "The token has expired.";
    /// `nbf` or `iat` has not come.
    JwtNotYetValid = "auth.jwt.not_yet_valid", 401, "UNAUTHORIZED", "The token is not valid yet.";
    /// The token was issued longer ago than `max_age`.
    JwtTooOld = "auth.jwt.too_old", 401, "UNAUTHORIZED", "The token was issued too long ago.";
    /// A claim that is needed is not there.
    JwtClaimMissing = "auth.jwt.claim_missing", 401, "UNAUTHORIZED", "The token lacks a claim that is needed.";
    /// The token, or its subject, has been revoked.
    JwtRevoked = "auth.jwt.revoked", 401, "UNAUTHORIZED", "The token has been revoked.";
    /// Whether the token has been revoked can't be told now.
    JwtRevocationUnknown = "auth.jwt.revocation_unknown", 503, "UNAVAILABLE", "Tokens can't be checked at the moment.";
    /// A service of external auth answered 401; its answer is passed on.
    ExternalUnauthorized = "auth.external.unauthorized", 401, "UNAUTHORIZED", "Another service did not accept the credential.";
    /// A service of external auth answered 403; its answer is passed on.
    ExternalForbidden = "auth.external.forbidden", 403, "FORBIDDEN", "Another service did not allow the request.";
    /// A service of external auth answered with a redirect, which is passed on.
    ExternalRedirected = "auth.external.redirected", 302, "UNAUTHORIZED", "Another service wants the caller to log in.";
    /// A service of external auth gave no answer that can be used, or none in time.
    ExternalUnavailable = "auth.external.unavailable", 503, "UNAVAILABLE", "Credentials can't be checked at the moment.";
    /// The client's address is not one that the route's `ip` admits.
    IpDenied = "ip.denied", 403, "FORBIDDEN", "Access from this address is not allowed.";
    /// The page that sent the request is of an origin that the route's `origins` does not admit.
    OriginDenied = "origin.denied", 403, "FORBIDDEN", "Pages of this origin may not do this.";
    /// The route's `permissions`, `roles` or `claims` do not let the caller do this.
    RbacDenied = "rbac.denied", 403, "FORBIDDEN", "The caller may not do this.";
    /// Nobody listens at the server's address.
    ConnectRefused = "upstream.connect_refused", 502, "BAD_GATEWAY", "The service behind the gateway can't be reached.";
    /// The connection was not there within `connect_timeout`.
    ConnectTimeout = "upstream.connect_timeout", 504, "TIMEOUT", "The service behind the gateway could not be reached in time.";
    /// Connecting failed otherwise: no address, no route, no descriptor.
    ConnectFailed = "upstream.connect_failed", 502, "BAD_GATEWAY", "The service behind the gateway can't be reached.";
    /// The server closed or reset before its answer began.
    UpstreamClosed = "upstream.closed", 502, "BAD_GATEWAY", "The service behind the gateway closed without an answer.";
    /// The server's answer is not valid HTTP, or has no single length.
    UpstreamProtocol = "upstream.protocol_error", 502, "BAD_GATEWAY", "The service behind the gateway sent an answer that is not valid.";
    /// The server switched protocols unasked.
    UpstreamUpgrade = "upstream.unasked_upgrade", 502, "BAD_GATEWAY", "The service behind the gateway switched protocols unasked.";
    /// The answer's head did not come within `timeouts.response`.
    ResponseTimeout = "upstream.response_timeout", 504, "TIMEOUT", "The service behind the gateway did not answer in time.";
    /// The exchange was not over within `timeouts.total`.
    TotalTimeout = "upstream.total_timeout", 504, "TIMEOUT", "The service behind the gateway did not answer in time.";
    /// No server of the upstream is healthy.
    NoHealthyServer = "upstream.no_healthy_server", 503, "UNAVAILABLE", "No server of the service behind the gateway is healthy.";
    /// The upstream is at `max_in_flight`.
    Overloaded = "upstream.overloaded", 503, "UNAVAILABLE", "The service behind the gateway has too many requests under way.";
    /// The answer broke off after its head; only in the log.
    UpstreamCut = "upstream.body_cut", 502, "BAD_GATEWAY", "The answer broke off.";
    /// No byte of the answer came for `timeouts.idle`; only in the log.
    UpstreamIdle = "upstream.idle_timeout", 504, "TIMEOUT", "The answer stalled.";
    /// The client wants an answer out of the cache (`only-if-cached`), and there is none.
    NotCached = "cache.not_cached", 504, "TIMEOUT", "There is no stored answer to this request.";
    /// No byte came through a tunnel for `timeouts.tunnel_idle`; only in the log.
    TunnelIdle = "tunnel.idle_timeout", 408, "TIMEOUT", "Nothing passed through the tunnel for too long.";
    /// A tunnel has lasted for `timeouts.tunnel_lifetime`; only in the log.
    TunnelLifetime = "tunnel.lifetime", 408, "TIMEOUT", "The tunnel was open for as long as one may be.";
    /// The credential of a tunnel's caller has expired (`close_on_token_expiry`); only in the log.
    TunnelExpired = "tunnel.credential_expired", 401, "UNAUTHORIZED", "The credential that opened the tunnel has expired.";
    /// The client left before the end; only in the log.
    ClientGone = "client.gone", 499, "CLIENT_GONE", "The client left before the answer ended.";
    /// A bug in the gateway.
    Panic = "gateway.panic", 500, "INTERNAL_ERROR", "Something went wrong inside the gateway.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn words_are_unique_and_dotted() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        // A way to authenticate has a part of its own: `auth.jwt.expired`.
        let parts = |word: &str| {
            if word.starts_with("auth.") {
                2..=3
            } else {
                2..=2
            }
        };
        assert!(
            words
                .iter()
                .all(|word| parts(word).contains(&word.split('.').count()))
        );
    }
}
