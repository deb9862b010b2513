//! Reads a body as JSON, within limits that its length does not set, and judges it.
//!
//! Depth is limited by serde_json (128). The number of values is limited here: a byte can be a value
//! that takes a hundred bytes in memory. A name that stands twice in an object is refused (RFC 8259
//! section 4: what it means is not known, and parsers differ).

use std::fmt;

use jsonschema::{ValidationError, Validator};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value, json};

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// A JSON Pointer (RFC 6901).
    pointer: String,
    message: String,
}

impl Fault {
    /// A fault of the body as a whole.
    pub(super) fn whole(message: &str) -> Self {
        Self {
            pointer: String::new(),
            message: shortened(message),
        }
    }

    /// What the schema says. Values of the body are not repeated: they may be secret.
    fn new(error: &ValidationError<'_>) -> Self {
        Self {
            pointer: shortened(error.instance_path().as_str()),
            message: shortened(&error.masked().to_string()),
        }
    }

    pub(super) fn into_json(self) -> Value {
        json!({ "pointer": self.pointer, "message": self.message })
    }
}

/// What is wrong with a body; the first few faults.
pub(super) fn judge(validator: &Validator, bytes: &[u8]) -> Result<(), Vec<Fault>> {
    let (value, count) = parse(bytes).map_err(|fault| vec![fault])?;
    if validator.is_valid(&value) {
        return Ok(());
    }
    // The library finds all faults before it tells the first: too many for a large body.
    let faults: Vec<_> = match count {
        ..=MOST_VALUES_IN_DETAIL => {
            let errors = validator.iter_errors(&value);
            errors
                .take(MOST_FAULTS)
                .map(|error| Fault::new(&error))
                .collect()
        }
        _ => {
            let error = validator.validate(&value).err();
            error.iter().map(Fault::new).collect()
        }
    };
    match faults.is_empty() {
        true => Err(vec![Fault::whole("the body is not valid")]),
        false => Err(faults),
    }
}

/// The body, and how many values it has.
fn parse(bytes: &[u8]) -> Result<(Value, usize), Fault> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let mut left = MOST_VALUES;
    let value = Values { left: &mut left }.deserialize(&mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| (value, MOST_VALUES - left)))
        .map_err(|error| Fault::whole(&format!("this is not JSON: {error}")))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// Builds a value while values are left.
struct Values<'a> {
    left: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.checked_sub(1);
        *self.left = left.ok_or_else(|| D::Error::custom("it has too many values"))?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number
            .map(Value::Number)
            .ok_or_else(|| E::custom("a number is out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Values { left: self.left })? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            if map.contains_key(&name) {
                return Err(A::Error::custom("a name stands twice in an object"));
            }
            map.insert(name, entries.next_value_seed(Values { left: self.left })?);
        }
        Ok(map.into())
    }
}

const MOST_VALUES: usize = 250_000;
const MOST_VALUES_IN_DETAIL: usize = 10_000;
const MOST_FAULTS: usize = 10;
/// Of a pointer and of a message, in characters.
const LONGEST: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schema() -> Validator {
        jsonschema::validator_for(&json!({
            "type": "object",
            "required": ["name"],
            "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "maxLength": 5 },
                "tags": { "type": "array", "items": { "type": "integer" } },
            },
        }))
        .unwrap()
    }

    fn faults(body: &str) -> Vec<Fault> {
        judge(&schema(), body.as_bytes()).err().unwrap_or_default()
    }

    #[test]
    fn each_fault_has_its_place_and_no_value() {
        assert_eq!(faults(r#"{ "name": "ann", "tags": [1, 2] }"#), []);
        let found = faults(r#"{ "name": "a secret", "tags": [1, "x", 3, "y"] }"#);
        let places: Vec<_> = found.iter().map(|fault| &*fault.pointer).collect();
        assert_eq!(places, ["/name", "/tags/1", "/tags/3"]);
        assert!(
            found.iter().all(|fault| !fault.message.contains("secret")),
            "{found:?}"
        );
    }

    #[test]
    fn faults_are_few_and_short() {
        let many = format!(
            r#"{{ "name": "a", "tags": [{}"x"] }}"#,
            "\"x\",".repeat(100)
        );
        assert_eq!(faults(&many).len(), MOST_FAULTS);
        let huge = format!(
            r#"{{ "name": "a", "tags": [{}"x"] }}"#,
            "\"x\",".repeat(20_000)
        );
        assert_eq!(faults(&huge).len(), 1);
        let long = format!(r#"{{ "name": "a", "{}": 1 }}"#, "n".repeat(10_000));
        assert!(faults(&long)[0].message.len() <= LONGEST + 3);
    }

    #[test]
    fn what_parsers_read_differently_is_refused() {
        let said = |body: &str| faults(body).remove(0).message;
        assert!(said(r#"{ "name": "a", "name": "b" }"#).contains("a name stands twice"));
        assert!(said(r#"{ "name": "a" } {}"#).contains("trailing characters"));
        assert!(said("").contains("not JSON"));
        assert!(said("\u{feff}{}").contains("not JSON"));
        assert!(said("{'name': 1}").contains("not JSON"));
    }

    #[test]
    fn depth_and_number_of_values_are_limited() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(faults(&deep)[0].message.contains("recursion limit"));
        let many = format!("[{}0]", "0,".repeat(MOST_VALUES));
        assert!(faults(&many)[0].message.contains("too many values"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_json_reads_as_serde_reads_it(bytes: Vec<u8>, text in r#"[\[\]{}:,"0-9a-z .+-]{0,40}"#) {
            let _ = parse(&bytes);
            if let Ok((value, _)) = parse(text.as_bytes()) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
