//! `[subrequests]`: the gateway's own requests.

use std::{fs::File, io::Read, path::Path, sync::Arc};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{
    decode::{Flag, Format, Node, OptionOf, Problem, Reader, TableNode, table},
    diagnostic::Finding,
};

/// Certificates that were read from a file.
pub type Certificates = Arc<[CertificateDer<'static>]>;

table! {
    /// `[subrequests]`: requests that the gateway makes itself, over `http://` and `https://`: keys
    /// of issuers, external auth.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Subrequests ["subrequests", check check_subrequests] {
        /// `ca_file`: certificates (PEM) that are trusted for `https://` beside the public ones, for
        /// an issuer with a certificate of your own. Read again by a reload.
        pub ca_file: Option<Certificates> => OptionOf<CaFile> = None; "none",
        /// `public_roots`: whether the public certificate authorities are trusted, those that
        /// browsers trust.
        pub public_roots: bool => Flag = true,
    }
}

fn check_subrequests(config: &Subrequests, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if !config.public_roots && !table.has("ca_file") {
        let place = table.value_place("public_roots", reader);
        let finding = Finding::error(
            place,
            "nobody is trusted: no `https://` request can succeed",
        )
        .help("name those who are trusted: `ca_file = \"private-ca.pem\"`");
        reader.report(finding);
    }
}

/// A file of certificates.
pub(super) struct CaFile;

impl Format for CaFile {
    type Value = Certificates;

    fn expected() -> String {
        "a file of PEM certificates".to_owned()
    }

    fn example() -> String {
        "\"private-ca.pem\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Certificates> {
        let directory = reader.sources.of(node.place).directory.clone();
        let mut path = None;
        let read = reader.parse(node, &Self::expected(), |text| {
            certificates(path.insert(directory.join(text)))
        });
        // A reload is to come when it changes.
        reader.environment.files.extend(path);
        read
    }
}

fn certificates(path: &Path) -> Result<Certificates, Problem> {
    let pem = read_small(path)
        .map_err(|error| Problem::what(format!("the file can't be read: {error}")))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = read.map_err(|error| Problem::what(format!("the file is not PEM: {error}")))?;
    if found.is_empty() {
        let help = "it has to hold blocks of `-----BEGIN CERTIFICATE-----`";
        return Err(Problem::what("there is no certificate in the file").help(help));
    }
    Ok(found.into())
}

fn read_small(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(LARGEST + 1);
    file.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    Ok(bytes)
}

const LARGEST: u64 = 1 << 20;
