//! Header handling on header fields of any names and values: no panic, and nothing of one hop stays.

#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, TRANSFER_ENCODING, UPGRADE},
};
use libfuzzer_sys::fuzz_target;
use tollgate::{
    exchange::{fields, host::Host},
    frame::client::{self, Trust},
};

fuzz_target!(|bytes: &[u8]| {
    let mut headers = parse(bytes);

    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let trust = Trust {
        networks: vec![peer.into()],
        ..Trust::default()
    };
    let _ = client::behind_proxy(peer, "http", &headers, &trust);
    for value in headers.values() {
        let _ = value.to_str().map(Host::parse);
    }

    fields::remove_hop_by_hop(&mut headers, true);
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        assert!(!headers.contains_key(&name), "{name} was forwarded");
    }
    fields::clean_trailers(&mut headers);
    fields::remove_hop_by_hop(&mut headers, true);
});

/// Lines of `name:value`; lines that are no header field are left out.
fn parse(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(100) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(&line[colon + 1..]);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}
