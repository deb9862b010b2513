//! The users of a file, ready to be asked.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use argon2::{Argon2, PasswordVerifier, password_hash};
use foldhash::quality::RandomState;

use crate::{
    config::{Htpasswd, PasswordHash},
    exchange::Principal,
    pipeline::auth::method::Grant,
};

/// Users by their names.
pub(super) struct Users {
    by_name: HashMap<Box<str>, User>,
    /// The hashes of all users, for those who do not exist.
    hashes: Vec<Arc<PasswordHash>>,
    /// Chooses among them, by a name.
    chooser: RandomState,
    /// The number of this reading of the file.
    pub(super) generation: u64,
}

/// One user.
pub(super) struct User {
    pub(super) hash: Arc<PasswordHash>,
    pub(super) grant: Arc<Grant>,
}

/// Makes users out of files, each reading with a number of its own.
pub(super) fn maker(method: &Arc<str>, roles: &[String]) -> impl Fn(Htpasswd) -> Users + use<> {
    let (method, roles) = (Arc::clone(method), roles.to_vec());
    let (generation, chooser) = (AtomicU64::new(0), RandomState::default());
    move |file| {
        let user = |(name, hash): (Box<str>, PasswordHash)| {
            let grant = grant(&method, &name, &roles);
            let hash = Arc::new(hash);
            (name, User { hash, grant })
        };
        let by_name: HashMap<_, _> = file.users.into_iter().map(user).collect();
        Users {
            hashes: by_name
                .values()
                .map(|user| Arc::clone(&user.hash))
                .collect(),
            by_name,
            chooser: chooser.clone(),
            generation: generation.fetch_add(1, Ordering::Relaxed),
        }
    }
}

fn grant(method: &Arc<str>, name: &str, roles: &[String]) -> Arc<Grant> {
    let principal = Principal {
        roles: roles.iter().map(|role| role.as_str().into()).collect(),
        ..Principal::new(method, name)
    };
    Arc::new(Grant {
        principal: Arc::new(principal),
        headers: Box::default(),
    })
}

impl Users {
    pub(super) fn find(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// The hash that is tried for a user who does not exist: that of some real user, so that it
    /// takes as long, and of the same one each time.
    pub(super) fn decoy(&self, name: &str) -> Option<Arc<PasswordHash>> {
        let number = self.hashes.len() as u64;
        let chosen = self.chooser.hash_one(name).checked_rem(number)?;
        let chosen = usize::try_from(chosen).ok()?;
        self.hashes.get(chosen).map(Arc::clone)
    }
}

/// Makes the hash of a password and compares. It takes long: never on a worker.
pub(super) fn is_right(hash: &PasswordHash, password: &str) -> bool {
    match hash {
        PasswordHash::Bcrypt(hash) => {
            // The hash is made first, so that a long password takes as long as any other.
            let right = bcrypt::verify(password, hash).unwrap_or(false);
            right && password.len() <= LONGEST_BCRYPT
        }
        PasswordHash::Argon2id(hash) => {
            let verify = |hash| Argon2::default().verify_password(password.as_bytes(), &hash);
            password_hash::PasswordHash::new(hash).is_ok_and(|hash| verify(hash).is_ok())
        }
    }
}

/// bcrypt does not see what stands behind: passwords with the same beginning would all be right.
const LONGEST_BCRYPT: usize = 72;

#[cfg(test)]
mod tests {
    use super::*;

    fn users(text: &str) -> Users {
        let method = "basic.staff".into();
        maker(&method, &["staff".to_owned()])(Htpasswd::parse(text).unwrap())
    }

    #[test]
    fn a_password_is_right_or_wrong_by_either_hash() {
        let hash = bcrypt::hash("secret", 5).unwrap();
        let bcrypt = hash.parse().unwrap();
        assert!(is_right(&bcrypt, "secret"));
        assert!(!is_right(&bcrypt, "Secret"));
    }

    #[test]
    fn what_bcrypt_does_not_see_is_no_part_of_a_right_password() {
        let longest = "a".repeat(LONGEST_BCRYPT);
        let hash = bcrypt::hash(&longest, 5).unwrap().parse().unwrap();
        assert!(is_right(&hash, &longest));
        assert!(!is_right(&hash, &format!("{longest}a")));
    }

    #[test]
    fn an_unknown_user_gets_the_same_real_hash_each_time() {
        let hash = bcrypt::hash("secret", 5).unwrap();
        let users = users(&format!("alice:{hash}\nbob:{hash}\n"));
        assert!(users.find("mallory").is_none());
        let first = users.decoy("mallory").unwrap();
        assert!(Arc::ptr_eq(&first, &users.decoy("mallory").unwrap()));
        let principal = &users.find("alice").unwrap().grant.principal;
        assert_eq!(&*principal.name, "basic.staff:alice");
        assert!(principal.has_role("staff"));
    }

    #[test]
    fn a_file_without_users_has_no_decoy() {
        assert!(users("").decoy("alice").is_none());
    }
}
