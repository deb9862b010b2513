//! What both sides of HTTP/1.1 share: the client's connections (`listener`) and the servers'
//! (`upstream`).
//!
//! ```text
//! input     the socket's bytes, until they are used         bytes in
//! fields    a head's fields, sharing its bytes              RFC 9112 5
//! decode    a body's framing                                RFC 9112 6 and 7
//! outgoing  a head and a body on their way out              bytes out
//! ```

mod decode;
mod fields;
mod input;
mod outgoing;

pub use decode::{Broken, Decoded, Decoder};
pub use fields::{Places, has_blank_line, length, place, told_length};
pub use input::Input;
pub use outgoing::{Framing, GATHERED, Outgoing, OutgoingError, line, named_trailers};
