//! Files of users and password hashes, as `htpasswd -B` writes them.
//!
//! Only hashes that are slow by design are taken: bcrypt and Argon2id. Of MD5, SHA-1 and crypt a
//! stolen file gives the passwords away.

use std::{collections::BTreeMap, fmt};

use argon2::{Params, password_hash};

/// The users of one file with their hashes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Htpasswd {
    /// The users by name.
    pub users: BTreeMap<Box<str>, PasswordHash>,
}

/// The hash of a password. `Debug` does not show it: a weak password can be found from it.
#[derive(Clone, PartialEq, Eq)]
pub enum PasswordHash {
    /// `$2y$`, `$2b$` or `$2a$`.
    Bcrypt(Box<str>),
    /// `$argon2id$`.
    Argon2id(Box<str>),
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bcrypt(_) => "Bcrypt(***)",
            Self::Argon2id(_) => "Argon2id(***)",
        })
    }
}

impl Htpasswd {
    /// Reads a file's text.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, a line each, without any hash.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut file = Self::default();
        let mut faults = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if let Err(fault) = file.take(line.trim_end()) {
                faults.push(format!("line {number}: {fault}"));
            }
        }
        match faults.is_empty() {
            true => Ok(file),
            false => Err(faults.join("\n")),
        }
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        // RFC 7617 2: a user's name has no colon.
        let (user, hash) = line
            .split_once(':')
            .ok_or("expected `user:hash`, as `htpasswd -B` writes it")?;
        if user.is_empty() || user.chars().any(char::is_control) {
            return Err("a user's name must be there and hold no control characters".to_owned());
        }
        let hash = hash.parse::<PasswordHash>()?;
        match self.users.insert(user.into(), hash) {
            None => Ok(()),
            Some(_) => Err(format!("the user `{user}` stands here twice")),
        }
    }

    /// The largest file that is read, in bytes.
    pub const LARGEST: u64 = 8 << 20;
}

impl std::str::FromStr for PasswordHash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if ["$2y$", "$2b$", "$2a$"]
            .iter()
            .any(|kind| text.starts_with(kind))
        {
            return bcrypt(text);
        }
        if text.starts_with("$argon2id$") {
            return argon2id(text);
        }
        Err(format!(
            "{} not accepted: use bcrypt (`htpasswd -B`) or Argon2id",
            kind(text)
        ))
    }
}

fn bcrypt(text: &str) -> Result<PasswordHash, String> {
    let parts: bcrypt::HashParts = text.parse().map_err(|_| "the bcrypt hash is damaged")?;
    match parts.get_cost() {
        0..CHEAPEST_BCRYPT => Err(format!("bcrypt needs a cost of {CHEAPEST_BCRYPT} at least")),
        CHEAPEST_BCRYPT..=DEAREST_BCRYPT => Ok(PasswordHash::Bcrypt(text.into())),
        _ => Err(format!(
            "bcrypt's cost is {DEAREST_BCRYPT} at most: a hash would take seconds"
        )),
    }
}

fn argon2id(text: &str) -> Result<PasswordHash, String> {
    let damaged = |_| "the Argon2id hash is damaged".to_owned();
    let hash = password_hash::PasswordHash::new(text).map_err(damaged)?;
    let params = Params::try_from(&hash).map_err(damaged)?;
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("the Argon2id hash is damaged".to_owned());
    }
    let too_dear = params.m_cost() > MOST_MEMORY_KIB || params.t_cost() > MOST_PASSES;
    match too_dear {
        true => Err("Argon2id may take 256 MiB and 32 passes at most".to_owned()),
        false => Ok(PasswordHash::Argon2id(text.into())),
    }
}

/// What a hash is, in words.
fn kind(text: &str) -> &'static str {
    match text {
        _ if text.starts_with("$apr1$") || text.starts_with("$1$") => "MD5 hashes are",
        _ if text.starts_with("{SHA}") => "SHA-1 hashes are",
        _ if text.starts_with("$5$") || text.starts_with("$6$") => "crypt's SHA-2 hashes are",
        _ if text.starts_with("$argon2") => "Argon2 of this variant is",
        _ => "this is no hash, or of a kind",
    }
}

/// Below it a hash is quicker than a guess should be; the specification's own least is 4.
const CHEAPEST_BCRYPT: u32 = 5;
/// About four seconds on a processor of today.
const DEAREST_BCRYPT: u32 = 16;
const MOST_MEMORY_KIB: u32 = 256 << 10;
const MOST_PASSES: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const BCRYPT: &str = "$2y$12$L6Bc/AlTQHyd9liGgGEZyOFLPHNgyxeEPfgYfBCVxJ7JIlwxyVU3u";
    const ARGON2ID: &str = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";

    fn fault(line: &str) -> String {
        Htpasswd::parse(line).unwrap_err()
    }

    #[test]
    fn users_have_hashes_that_are_slow_by_design() {
        let text = format!("# staff\n\nalice:{BCRYPT}\r\nböb:{ARGON2ID}\n");
        let file = Htpasswd::parse(&text).unwrap();
        assert_eq!(file.users["alice"], PasswordHash::Bcrypt(BCRYPT.into()));
        assert_eq!(file.users["böb"], PasswordHash::Argon2id(ARGON2ID.into()));
        assert!(!format!("{file:?}").contains("L6Bc"));
    }

    #[test]
    fn other_hashes_are_findings_that_do_not_show_them() {
        for (hash, word) in [
            ("$apr1$salt$hashed", "MD5"),
            ("{SHA}hashed", "SHA-1"),
            ("$6$salt$hashed", "SHA-2"),
            ("$argon2i$v=19$m=64,t=1,p=1$hashed$hashed", "variant"),
            ("hashed", "no hash"),
            ("$2y$12$hashed", "damaged"),
            ("$argon2id$hashed", "damaged"),
        ] {
            let fault = fault(&format!("alice:{hash}"));
            assert!(
                fault.starts_with("line 1: ") && fault.contains(word),
                "{fault}"
            );
            assert!(!fault.contains("hashed"), "{fault}");
        }
    }

    #[test]
    fn hashes_that_are_too_cheap_or_too_dear_are_findings() {
        assert!(fault(&format!("a:{}", BCRYPT.replace("$12$", "$04$"))).contains("5 at least"));
        assert!(fault(&format!("a:{}", BCRYPT.replace("$12$", "$20$"))).contains("16 at most"));
        assert!(fault(&format!("a:{}", ARGON2ID.replace("m=64", "m=999999"))).contains("256 MiB"));
    }

    #[test]
    fn lines_that_are_not_of_users_are_all_told() {
        let text = format!("alice\n:{BCRYPT}\nbob:{BCRYPT}\nbob:{BCRYPT}\n");
        let faults = fault(&text);
        assert_eq!(faults.lines().count(), 3, "{faults}");
        assert!(faults.contains("line 4: the user `bob` stands here twice"));
    }
}
