//! Whatever the text: no panic, and a refusal names at least one error.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tollgate::config::Config;

fuzz_target!(|text: &str| {
    // The text may name files to include or to read; a fuzzer has no business with those.
    if text.contains("${file:") || text.contains("include") {
        return;
    }
    if let Err(findings) = Config::parse("gateway.toml", text) {
        assert!(findings.has_errors());
        // Rendering slices the text at what the findings point to.
        let _ = findings.render(false);
    }
});
