//! What a client's address hashes to, remembered with its connection.

use std::{net::IpAddr, sync::OnceLock};

/// One hash of one address, under one secret: the first that was asked for. Of most connections it is the
/// only one. Behind a proxy an address may be another with each request, and a second limit has a secret
/// of its own, as has one that a reload has changed: those are hashed each time.
#[derive(Debug, Default)]
pub struct AddressHash(OnceLock<Known>);

#[derive(Debug)]
struct Known {
    hasher: u64,
    address: IpAddr,
    hash: u128,
}

impl AddressHash {
    /// The hash of an address; `make` makes one that is not known. `hasher` tells one secret from all
    /// others.
    pub fn get_or_make(&self, hasher: u64, address: IpAddr, make: impl FnOnce() -> u128) -> u128 {
        let known = self.0.get();
        if let Some(known) = known.filter(|it| it.hasher == hasher && it.address == address) {
            return known.hash;
        }
        let hash = make();
        if known.is_none() {
            let _ = self.0.set(Known {
                hasher,
                address,
                hash,
            });
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hash_is_remembered_and_another_never_taken_for_it() {
        let remembered = AddressHash::default();
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        let known = |hasher, address, made| remembered.get_or_make(hasher, address, || made);
        assert_eq!(known(1, one, 11), 11);
        assert_eq!(known(1, one, 0), 11, "made once");
        assert_eq!(known(1, other, 12), 12);
        assert_eq!(known(2, one, 21), 21);
        assert_eq!(known(1, one, 0), 11, "the first stays");
    }
}
