//! How the values of `[auth.jwt.NAME]` stand in the file.

use std::path::PathBuf;

use super::is_url;
use crate::config::{
    Secret,
    auth::{ClaimPath, claim::Claim, key_set::SHORTEST_SECRET},
    decode::{Format, Node, OneOrList, Problem, Reader, Text},
};

pub(super) struct SecretText;

impl Format for SecretText {
    type Value = Secret;

    fn expected() -> String {
        format!("a secret of {SHORTEST_SECRET} bytes at least")
    }

    fn example() -> String {
        "\"${env:JWT_SECRET}\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Secret> {
        reader.parse(node, &Self::expected(), |text| {
            // RFC 7518 3.2; a shorter one can be guessed from any token.
            if text.len() < SHORTEST_SECRET {
                let problem = Problem::what("the secret is too short: it could be guessed");
                return Err(problem.help("`openssl rand -base64 32` makes one"));
            }
            Ok(Secret::new(text))
        })
    }
}

pub(super) struct PemText;

impl Format for PemText {
    type Value = String;

    fn expected() -> String {
        "the name of a file with a public key in PEM, or the PEM itself".to_owned()
    }

    fn example() -> String {
        "\"issuer.pem\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        let text = Text::read(node, reader)?;
        match text.trim_start().starts_with("-----BEGIN") {
            true => Some(text),
            false => reader.file(node, &text),
        }
    }
}

/// A file that has been read.
#[derive(Clone, Debug)]
pub(super) struct TextFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

pub(super) struct FileText;

impl Format for FileText {
    type Value = TextFile;

    fn expected() -> String {
        "the name of a file".to_owned()
    }

    fn example() -> String {
        "\"issuer.jwks.json\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<TextFile> {
        let name = Text::read(node, reader)?;
        let path = reader.sources.of(node.place).directory.join(&name);
        let text = reader.file(node, &name)?;
        Some(TextFile { path, text })
    }
}

pub(super) struct UrlText;

impl Format for UrlText {
    type Value = String;

    fn expected() -> String {
        "a URL such as \"https://id.example.com/jwks.json\"".to_owned()
    }

    fn example() -> String {
        "\"https://id.example.com/jwks.json\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| match is_url(text) {
            true => Ok(text.to_owned()),
            false => Err(Problem::plain()),
        })
    }
}

/// A list of claims; a list within it is a path.
pub(super) struct ClaimList;

impl Format for ClaimList {
    type Value = Vec<ClaimPath>;

    fn expected() -> String {
        "a list of claims, each a name or a path".to_owned()
    }

    fn example() -> String {
        "[\"tenant\", [\"realm_access\", \"roles\"]]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        OneOrList::<Claim>::read(node, reader)
    }
}
