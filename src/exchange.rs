//! The vocabulary of one request and its response.
//!
//! Every room speaks in these types; this room imports no other. A [`Request`] carries one
//! [`Context`] in its extensions from the frame to the upstream and back; a refusal is always made
//! by [`Rejection`]; a route is a [`RouteService`].

mod address_hash;
pub mod api_key;
mod blocking;
mod body;
mod call;
mod clock;
mod connection;
mod context;
mod decorate;
mod failure;
pub mod fields;
mod file_watch;
mod frame_meter;
mod gather;
pub mod host;
pub mod http1;
mod id;
mod interim;
mod key_state;
mod limit_report;
mod odd_names;
mod principal;
pub mod query;
mod reason;
mod rejection;
mod route_service;
mod subrequest;
pub mod target;
mod timer;
mod tunnel;
mod upgrade;

pub use address_hash::AddressHash;
pub use blocking::{Blocking, Undone};
pub use body::{Body, BodyError, BodyFault, BoxError, EndsWithConnection};
pub use call::Asked;
pub use clock::Clock;
pub use connection::{BringsFields, Connection, Handler, InFlight, Peer, Protocol};
pub use context::{Attempt, CacheNote, Context, ContextParts, RequestHead};
pub use decorate::{Decorate, preflight_method};
pub use failure::{Retry, UpstreamError, UpstreamService};
pub use file_watch::{FileWatch, Watched, WatchedFile};
pub use frame_meter::{Far, FrameMeter};
pub use gather::{Gathered, poll_write_gathered};
pub use id::{RequestId, TraceContext};
pub use interim::Interim;
pub use key_state::KeyState;
pub use limit_report::{LimitPolicy, LimitReport, LimitSaid, PolicyWindow};
pub use odd_names::{KeptNames, OddNames};
pub use principal::Principal;
pub use reason::{Code, Reason};
pub use rejection::Rejection;
pub use route_service::{BoxFuture, Handle, RouteService};
pub use subrequest::{SharedSubrequest, Subrequest, SubrequestError, SubrequestLimits};
pub use timer::LazyTimer;
pub use tunnel::{Tunnel, TunnelEnd};
pub use upgrade::{Duplex, Upgrade, Upgraded, upgrade};

/// A request on its way through the pipeline.
pub type Request = http::Request<Body>;

/// An answer on its way back to the client.
pub type Response = http::Response<Body>;
