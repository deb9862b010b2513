//! What gateways tell each other of purges, as text.

use serde_json::{Value, json};

use super::purge::Aim;

/// What a gateway has purged: one thing, or several URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) from: u64,
    pub(super) aims: Vec<Aim>,
    pub(super) soft: bool,
    /// Whether somebody has asked for it, and not a client's request has brought it about.
    pub(super) asked: bool,
    /// Whether the log of purges has it, so that who follows that need not be told twice.
    pub(super) logged: bool,
}

impl Message {
    /// Whether it is of URLs, which the log does not have.
    pub(super) fn is_of_urls(&self) -> bool {
        self.aims.iter().all(|aim| aim.url().is_some())
    }

    /// Whether nothing of before is served any more.
    pub(super) fn is_of_everything(&self) -> bool {
        !self.soft && self.aims.contains(&Aim::Everything)
    }

    /// Notes whether the log of purges has it by now. An earlier build that follows the log looks there for
    /// all of which it is told so, unless it knows by the kind that it is of URLs.
    pub(super) fn set_logged(&mut self, logged: bool) {
        self.logged = logged && !self.is_of_urls();
    }

    pub(super) fn encode(&self) -> String {
        let (kind, host, text) = match self.aims.as_slice() {
            [aim] => parts(aim),
            _ => (MANY, None, None),
        };
        let urls = self.aims.iter().filter_map(Aim::url);
        let urls = (kind == MANY).then(|| urls.collect::<Vec<_>>());
        let message = json!({
            "version": VERSION, "from": self.from, "soft": self.soft, "asked": self.asked,
            "logged": self.logged, "kind": kind, "host": host, "text": text, "urls": urls,
        });
        message.to_string()
    }

    /// Reads what a gateway has told; `None` for what is no purge. A purge that is not understood, of a
    /// later version, is one of everything.
    pub(super) fn read(message: &[u8]) -> Option<Self> {
        let message: Value = serde_json::from_slice(message).ok()?;
        let version = message.get("version")?.as_u64()?;
        let from = message.get("from")?.as_u64()?;
        let aims = match version {
            VERSION => aims(&message),
            _ => None,
        };
        let flag = |key: &str| message.get(key).and_then(Value::as_bool);
        let is_understood = aims.is_some();
        Some(Self {
            from,
            soft: is_understood && flag("soft").unwrap_or(false),
            aims: aims.unwrap_or_else(|| vec![Aim::Everything]),
            asked: flag("asked").unwrap_or(true),
            // Of what the log has for a later version we know nothing.
            logged: is_understood && flag("logged").unwrap_or(false),
        })
    }
}

/// The kind of an aim, its host and what else it has.
fn parts(aim: &Aim) -> (&'static str, Option<&str>, Option<&str>) {
    match aim {
        Aim::Url { host, target } => ("url", Some(host), Some(target)),
        Aim::Prefix { host, path } => ("prefix", host.as_deref(), Some(path)),
        Aim::Host(host) => ("host", Some(host), None),
        Aim::Route(route) => ("route", None, Some(route)),
        Aim::Tag(tag) => ("tag", None, Some(tag)),
        Aim::Everything => ("everything", None, None),
    }
}

fn aims(message: &Value) -> Option<Vec<Aim>> {
    let kind = message.get("kind")?.as_str()?;
    if kind == MANY {
        return message.get("urls")?.as_array()?.iter().map(url).collect();
    }
    let read = |key: &str| Some(message.get(key)?.as_str()?.into());
    let aim = match kind {
        "url" => Aim::Url {
            host: read("host")?,
            target: read("text")?,
        },
        "prefix" => Aim::Prefix {
            host: read("host"),
            path: read("text")?,
        },
        "host" => Aim::Host(read("host")?),
        "route" => Aim::Route(read("text")?),
        "tag" => Aim::Tag(read("text")?),
        "everything" => Aim::Everything,
        _ => return None,
    };
    Some(vec![aim])
}

/// One of several URLs: its host and its target.
fn url(pair: &Value) -> Option<Aim> {
    let read = |index: usize| Some(pair.get(index)?.as_str()?.into());
    Some(Aim::Url {
        host: read(0)?,
        target: read(1)?,
    })
}

/// The kind of what is more than one URL.
const MANY: &str = "urls";
const VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn url_at(target: &str) -> Aim {
        Aim::Url {
            host: "a:1".into(),
            target: target.into(),
        }
    }

    #[test]
    fn every_purge_is_understood() {
        let aims = [
            vec![url_at("/x?\"y")],
            vec![url_at("/x"), url_at("/y"), url_at("*")],
            vec![Aim::Prefix {
                host: None,
                path: "/x".into(),
            }],
            vec![Aim::Prefix {
                host: Some("a".into()),
                path: "/".into(),
            }],
            vec![Aim::Host("a".into())],
            vec![Aim::Route("r".into())],
            vec![Aim::Tag("t".into())],
            vec![Aim::Everything],
        ];
        for aims in aims {
            for (soft, asked) in [(false, true), (true, false)] {
                let message = Message {
                    from: u64::MAX,
                    aims: aims.clone(),
                    soft,
                    asked,
                    logged: asked,
                };
                let read = Message::read(message.encode().as_bytes());
                assert_eq!(read, Some(message));
            }
        }
    }

    #[test]
    fn a_purge_that_is_not_understood_is_one_of_everything() {
        for later in [
            r#"{"version": 2, "from": 1, "soft": true, "logged": true, "kind": "moon"}"#,
            r#"{"version": 1, "from": 1, "soft": true, "logged": true, "kind": "urls", "urls": [["a"]]}"#,
            r#"{"version": 1, "from": 1, "soft": true, "logged": true, "kind": "urls"}"#,
        ] {
            let message = Message::read(later.as_bytes()).unwrap();
            assert_eq!((message.aims, message.soft), (vec![Aim::Everything], false));
            assert!(!message.logged, "{later}: the log may not have it");
        }
        for foreign in ["", "x", "{}", "[1]", r#"{"version": "1"}"#] {
            assert_eq!(Message::read(foreign.as_bytes()), None);
        }
    }

    #[test]
    fn urls_never_claim_to_stand_in_the_log() {
        for (aims, logged) in [
            (vec![url_at("/x")], false),
            (vec![url_at("/x"), url_at("/y")], false),
            (vec![Aim::Host("a".into())], true),
        ] {
            let mut message = Message {
                from: 1,
                aims,
                soft: false,
                asked: false,
                logged: false,
            };
            message.set_logged(true);
            assert_eq!(message.logged, logged, "{message:?}");
            message.set_logged(false);
            assert!(!message.logged);
        }
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(message in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Message::read(&message);
        }
    }
}
