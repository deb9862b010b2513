//! Whatever arrives, what goes on has one meaning: requests, answers, HTTP/1.1 and HTTP/2, byte by
//! byte. What is refused is told with its reason, and its connection is never trusted again.

#[path = "framing/answers.rs"]
mod answers;
#[path = "framing/bodies.rs"]
mod bodies;
#[path = "framing/fields.rs"]
mod fields;
#[path = "framing/heads.rs"]
mod heads;
#[path = "framing/http2.rs"]
mod http2;
#[path = "framing/targets.rs"]
mod targets;

mod support;
