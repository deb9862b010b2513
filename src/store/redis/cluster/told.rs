//! What a node tells of its cluster.

use redis::Value;

use super::{MOST_NODES, slots::SLOTS};

/// Slots in a row on one node.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span<'v> {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) place: Place<'v>,
    pub(super) replicas: Vec<Place<'v>>,
}

/// Where a node is.
pub(super) type Place<'v> = (&'v str, u16);

/// What `CLUSTER SLOTS` tells; `None` where it is something else.
pub(super) fn spans<'v>(told: &'v Value, teller: &'v str) -> Option<Vec<Span<'v>>> {
    let Value::Array(spans) = told else {
        return None;
    };
    if spans.len() > usize::from(SLOTS) {
        return None;
    }
    let mut read = Vec::with_capacity(spans.len());
    for told in spans {
        let span = span(told, teller)?;
        // Where that one is may be known at the next reading; the others are fine.
        if span.place.0 != NAMELESS {
            read.push(span);
        }
    }
    Some(read)
}

fn span<'v>(told: &'v Value, teller: &'v str) -> Option<Span<'v>> {
    let Value::Array(told) = told else {
        return None;
    };
    let [
        Value::Int(first),
        Value::Int(last),
        Value::Array(main),
        replicas @ ..,
    ] = told.as_slice()
    else {
        return None;
    };
    let span = Span {
        first: u16::try_from(*first).ok()?,
        last: u16::try_from(*last).ok().filter(|last| *last < SLOTS)?,
        place: place(main, teller)?,
        replicas: places(replicas, teller),
    };
    (span.first <= span.last).then_some(span)
}

/// Where replicas are, as far as that can be told: nobody needs them yet.
fn places<'v>(told: &'v [Value], teller: &'v str) -> Vec<Place<'v>> {
    let places = told.iter().filter_map(|node| match node {
        Value::Array(node) => place(node, teller),
        _ => None,
    });
    places
        .filter(|(host, _)| *host != NAMELESS)
        .take(MOST_NODES)
        .collect()
}

fn place<'v>(node: &'v [Value], teller: &'v str) -> Option<Place<'v>> {
    let [host, Value::Int(port), ..] = node else {
        return None;
    };
    let host = match host {
        Value::BulkString(host) if host == NAMELESS.as_bytes() => ip(node).unwrap_or(NAMELESS),
        Value::BulkString(host) if !host.is_empty() => std::str::from_utf8(host).ok()?,
        // It is where the one is that says so.
        Value::BulkString(_) | Value::Nil => teller,
        _ => return None,
    };
    Some((host, u16::try_from(*port).ok()?))
}

/// The address of a node that has no name, which stands behind its identity.
fn ip(node: &[Value]) -> Option<&str> {
    let Value::Array(more) = node.get(3)? else {
        return None;
    };
    let (pairs, _) = more.as_chunks::<2>();
    pairs.iter().find_map(|pair| match pair {
        [Value::BulkString(name), Value::BulkString(ip)] if name == b"ip" => {
            std::str::from_utf8(ip).ok().filter(|ip| !ip.is_empty())
        }
        _ => None,
    })
}

/// Where a node has no name, and clients are to be told names.
pub(super) const NAMELESS: &str = "?";

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    pub(in super::super) fn told(first: i64, last: i64, host: Value, port: i64) -> Value {
        told_with(first, last, (host, port), 1)
    }

    pub(in super::super) fn told_with(
        first: i64,
        last: i64,
        (host, port): (Value, i64),
        replica: i64,
    ) -> Value {
        let replica = Value::Array(vec![text("10.0.0.9"), Value::Int(replica)]);
        let main = Value::Array(vec![host, Value::Int(port), text("id")]);
        Value::Array(vec![Value::Int(first), Value::Int(last), main, replica])
    }

    #[test]
    fn a_map_is_read_and_what_is_none_is_not() {
        let map = Value::Array(vec![
            told(0, 99, text("10.0.0.1"), 6379),
            told(100, 16_383, Value::Nil, 6380),
        ]);
        let span = |first, last, place| Span {
            first,
            last,
            place,
            replicas: vec![("10.0.0.9", 1)],
        };
        let read = spans(&map, "teller").unwrap();
        let (one, two) = (("10.0.0.1", 6379), ("teller", 6380));
        assert_eq!(read, [span(0, 99, one), span(100, 16_383, two)]);
        for wrong in [
            told(0, 16_384, text("a"), 1),
            told(-1, 9, text("a"), 1),
            told(9, 8, text("a"), 1),
            told(0, 9, text("a"), 65_536),
            told(0, 9, Value::Int(1), 1),
            Value::Array(vec![Value::Int(0), Value::Int(1)]),
            Value::Okay,
        ] {
            assert_eq!(spans(&Value::Array(vec![wrong]), "teller"), None);
        }
        assert_eq!(spans(&Value::Okay, "teller"), None);
    }

    #[test]
    fn a_node_without_a_name_is_at_its_address_or_left_out() {
        let more = Value::Array(vec![text("ip"), text("10.0.0.1")]);
        let main = vec![text("?"), Value::Int(6379), text("id"), more];
        let known = vec![Value::Int(0), Value::Int(9), Value::Array(main)];
        let map = Value::Array(vec![
            Value::Array(known),
            told(10, 16_382, text("?"), 6380),
            told(16_383, 16_383, text("b"), 6381),
        ]);
        let places: Vec<_> = spans(&map, "teller")
            .unwrap()
            .iter()
            .map(|span| (span.first, span.place))
            .collect();
        assert_eq!(places, [(0, ("10.0.0.1", 6379)), (16_383, ("b", 6381))]);
    }
}
