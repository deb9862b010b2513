//! `body_schema`: a JSON Schema in a file, compiled when the configuration is read.
//!
//! A schema is the operator's, what it judges is the world's: so patterns run on an engine whose
//! time is linear in the text, and nothing is fetched.

use std::{fmt, fs::File, io::Read, path::Path, sync::Arc};

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config::decode::{Format, Node, Problem, Reader};

/// A compiled JSON Schema.
#[derive(Clone)]
pub struct BodySchema {
    /// The compiled form.
    pub validator: Arc<Validator>,
    /// Of the text: a changed file is another schema.
    digest: [u8; 32],
}

impl fmt::Debug for BodySchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodySchema")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// The format of a [`BodySchema`].
pub(super) struct SchemaFile;

impl Format for SchemaFile {
    type Value = BodySchema;

    fn expected() -> String {
        "the name of a file with a JSON Schema".to_owned()
    }

    fn example() -> String {
        "\"schemas/order.json\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<BodySchema> {
        let name = reader.parse(node, &Self::expected(), |text| match text {
            "" => Err(Problem::plain()),
            text => Ok(text.to_owned()),
        })?;
        let path = reader.sources.get(reader.file).directory.join(name);
        match load(&path) {
            Ok(schema) => {
                reader.environment.files.push(path);
                Some(schema)
            }
            Err(problem) => reader.refuse(node, &Self::expected(), problem),
        }
    }
}

fn load(path: &Path) -> Result<BodySchema, Problem> {
    let wrong = |what: String| Problem::what(format!("the file `{}` {what}", path.display()));
    let text = read(path).map_err(|error| wrong(format!("can't be read: {error}")))?;
    let schema: Value =
        serde_json::from_str(&text).map_err(|error| wrong(format!("is not JSON: {error}")))?;
    let validator = compile(&schema)
        .map_err(|error| wrong("is no JSON Schema that can be used".to_owned()).help(error))?;
    Ok(BodySchema {
        validator: Arc::new(validator),
        digest: Sha256::digest(text.as_bytes()).into(),
    })
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(LARGEST as u64 + 1)
        .read_to_string(&mut text)?;
    match text.len() {
        ..=LARGEST => Ok(text),
        _ => Err(std::io::Error::other("it is larger than 1 MiB")),
    }
}

fn compile(schema: &Value) -> Result<Validator, String> {
    let options = jsonschema::options()
        .offline()
        // Who writes `"format": "date"` wants it checked, though later drafts only note it.
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(LARGEST));
    options.build(schema).map_err(|error| {
        let place = error.instance_path().as_str();
        match place {
            "" => error.to_string(),
            place => format!("at `{place}`: {error}"),
        }
    })
}

/// Of a schema, and of a compiled pattern, in bytes.
const LARGEST: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_would_have_to_be_fetched_or_could_take_for_ever_is_refused() {
        let refused = |schema: Value| compile(&schema).unwrap_err();
        assert!(refused(json!({ "type": "nothing" })).contains("/type"));
        refused(json!({ "$ref": "https://schemas.test/order.json" }));
        refused(json!({ "$ref": "file:///etc/passwd" }));
        // Only a backtracking engine can look around.
        refused(json!({ "pattern": "^(?=a)a+$" }));
        assert!(compile(&json!({ "pattern": "^(a+)+$" })).is_ok());
    }
}
