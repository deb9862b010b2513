//! The normal form of a request's target is normal, and no longer hides anything.

#![no_main]

use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;
use tollgate::exchange::target::normalise;

fuzz_target!(|bytes: &[u8]| {
    let Ok(target) = PathAndQuery::try_from(bytes) else {
        return;
    };
    let Ok(found) = normalise(&target) else {
        return;
    };
    let normal = found.changed.unwrap_or_else(|| target.clone());
    let again = normalise(&normal).expect("a normal form has a single meaning");
    assert_eq!(again.changed, None, "{normal} is not its own normal form");
    // One that came may have gone with a `..` behind it; none may appear.
    assert!(found.encoded_slash || !again.encoded_slash);
    assert_eq!(normal.query(), target.query());

    let path = normal.path();
    assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\'));
    assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
});
