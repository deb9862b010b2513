//! Whatever arrives, what goes on has one meaning: requests, answers, HTTP/1.1 and HTTP/2, byte by
//! byte. What is refused is told with its reason, and its connection is never trusted again.

mod answers;
mod bodies;
mod fields;
mod heads;
mod http2;
mod odd_names;
mod targets;
