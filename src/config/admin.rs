//! `[admin]`: the listener for health, metrics and state.

use std::net::SocketAddr;

use super::{
    Secret,
    address::AdminAddress,
    decode::{Format, Node, OptionOf, Problem, Reader, TableNode, table},
    diagnostic::Finding,
};

table! {
    /// `[admin]`: health, metrics and state, on a listener of their own.
    #[derive(Clone, Debug)]
    pub struct Admin ["admin", check check_admin] {
        /// `listen`: its own address, never a public one; `"off"` (`None`) for none.
        pub listen: Option<SocketAddr> => AdminAddress = Some(SocketAddr::from(([127, 0, 0, 1], 9901))),
        /// `token`: asked for as `Authorization: Bearer`; needed when `listen` is not loopback.
        /// `/health` and `/health/ready` are open.
        pub token: Option<Secret> => OptionOf<Token> = None; "none",
    }
}

fn check_admin(admin: &Admin, table: TableNode<'_>, reader: &mut Reader<'_>) {
    let public = admin
        .listen
        .is_some_and(|listen| !listen.ip().to_canonical().is_loopback());
    if public && !table.has("token") {
        let place = table.value_place("listen", reader);
        let finding = Finding::error(
            place,
            "`[admin]` listens beyond loopback and has no `token`",
        )
        .label("others can reach this")
        .help("add `token = \"${env:TOLLGATE_ADMIN_TOKEN}\"`, or listen on 127.0.0.1");
        reader.report(finding);
    }
}

struct Token;

impl Format for Token {
    type Value = Secret;

    fn expected() -> String {
        "a secret of visible ASCII characters".to_owned()
    }

    fn example() -> String {
        "\"${env:TOLLGATE_ADMIN_TOKEN}\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
        reader.parse(node, &Self::expected(), |text| {
            let sane = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            sane.then(|| Secret::new(text)).ok_or_else(Problem::plain)
        })
    }
}
