//! `[auth.basic.NAME]`: users and passwords.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Carried, api_keys::FileName};
use crate::config::{
    Htpasswd,
    decode::{
        Flag, Format, Keyed, Node, Off, OneOrList, OrWord, Problem, Reader, Set, Show, TableNode,
        Text, Time, quoted, table,
    },
    diagnostic::Finding,
    loading::read_whole,
    role::RoleReference,
    source::Place,
};

/// `[auth.basic.NAME]`, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Basic {
    /// The full name: `basic.staff`.
    pub name: Arc<str>,
    /// `users_file`: the file of users, as a path from where the process runs.
    pub users_file: PathBuf,
    /// `realm`: what a browser shows.
    pub realm: Box<str>,
    /// `roles` of every user of the file.
    pub roles: Vec<String>,
    /// `remember`: how long a password that was right is not hashed anew.
    pub remember: Option<Duration>,
    /// `forward_credentials`: whether the upstream gets the password.
    pub forward_credentials: bool,
}

table! {
    /// `[auth.basic.NAME]`: users and passwords (RFC 7617). The file has lines `user:hash` with bcrypt
    /// or Argon2id, as `htpasswd -B` writes them; it is read again when it changes.
    #[derive(Clone, Debug)]
    pub(in crate::config) struct BasicTable ["auth.basic.NAME", check check_basic] {
        /// `users_file`: the file of users, relative to this file.
        users_file: Option<Set<PathBuf>> => Keyed<FileName> = None; "needed",
        /// `realm`: what a browser shows when it asks for the password.
        realm: String => Realm = "tollgate".to_owned(),
        /// `roles`: of every user of the file.
        roles: Vec<RoleReference> => OneOrList<UsersRole> = Vec::new(); "none",
        /// `remember`: how long a password that was right is not hashed anew. What is kept is a keyed
        /// hash, and a changed file makes it void.
        remember: Option<Duration> => OrWord<Time, Off> = Some(Duration::from_secs(300)),
        /// `forward_credentials`: whether the upstream gets the password too. A route may say
        /// otherwise.
        forward_credentials: bool => Flag = true,
    }
}

fn check_basic(basic: &BasicTable, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if basic.users_file.is_none() {
        let message = format!("`[auth.basic.{}]` has no users", table.node.name);
        let finding = Finding::error(table.node.key, message)
            .help("write `users_file = \"users.htpasswd\"`; `htpasswd -B -c users.htpasswd NAME` makes the file");
        reader.report(finding);
    }
}

impl BasicTable {
    /// `None` when something needed is missing, which has been reported.
    pub(in crate::config) fn named(self, name: Arc<str>) -> Option<Basic> {
        Some(Basic {
            name,
            users_file: self.users_file?.value?,
            realm: self.realm.into(),
            roles: self
                .roles
                .iter()
                .map(|role| role.name.to_string())
                .collect(),
            remember: self.remember,
            forward_credentials: self.forward_credentials,
        })
    }

    /// What is known of every user.
    pub(super) fn carried(&self) -> Carried {
        Carried {
            roles: !self.roles.is_empty(),
            ..Carried::default()
        }
    }

    /// The roles of every user, and where they are named.
    pub(in crate::config) fn roles(&self) -> &[RoleReference] {
        &self.roles
    }

    /// The users' file, and where it is named.
    pub(in crate::config) fn file(&self) -> Option<(&PathBuf, Place)> {
        let set = self.users_file.as_ref()?;
        Some((set.value.as_ref()?, set.place))
    }
}

/// Checks a file of users. Its lines are not shown: they hold hashes of passwords.
pub(super) fn check_file(path: &Path, place: Place, findings: &mut Vec<Finding>) {
    let most = usize::try_from(Htpasswd::LARGEST).unwrap_or(usize::MAX);
    let text = match read_whole(path, most) {
        Ok(text) => text,
        Err(message) => {
            let help = "`htpasswd -B -c FILE NAME` makes the file with a first user in it";
            let finding = Finding::error(place, format!("`users_file`: {message}"));
            findings.push(finding.help(help));
            return;
        }
    };
    if let Err(faults) = Htpasswd::parse(&text) {
        let file = path.display();
        for fault in faults.lines() {
            findings.push(Finding::error(place, format!("`{file}`, {fault}")));
        }
    }
}

/// A role of users, and where it is named.
struct UsersRole;

impl Format for UsersRole {
    type Value = RoleReference;

    fn expected() -> String {
        Text::expected()
    }

    fn example() -> String {
        Text::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<RoleReference> {
        let name = Text::read(node, reader)?.into();
        let place = node.place;
        Some(RoleReference { name, place })
    }
}

/// RFC 9110 5.6.4: what may stand between quotes without an escape.
struct Realm;

impl Format for Realm {
    type Value = String;

    fn expected() -> String {
        "a text of visible ASCII characters and spaces, without quotes and backslashes".to_owned()
    }

    fn example() -> String {
        "\"Staff\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| {
            let sane = |byte: u8| matches!(byte, b' '..=b'~') && !b"\"\\".contains(&byte);
            let sane = !text.is_empty() && text.bytes().all(sane);
            sane.then(|| text.to_owned()).ok_or_else(Problem::plain)
        })
    }
}

impl Show for Realm {
    fn show(value: &String) -> String {
        quoted(value)
    }
}
