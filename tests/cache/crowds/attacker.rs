//! What an attacker sends.

use std::{net::SocketAddr, time::Duration};

use proptest::{
    prelude::*,
    sample::{select, subsequence},
};
use tokio::time::timeout;

use crate::support::Raw;

/// Something that a request of the crowd does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Odd {
    Cookie,
    Credential,
    Part,
    /// It has the answer that is for all, or an old one.
    Condition,
    OldCondition,
    NoCache,
    NoAge,
    /// Values that tell variants apart, where the upstream says so.
    MadeUp(u8),
    Other(u8),
    /// One that some upstreams answer in a way of its own.
    Bad,
}

const ODD: [Odd; 13] = [
    Odd::Cookie,
    Odd::Credential,
    Odd::Part,
    Odd::Condition,
    Odd::OldCondition,
    Odd::NoCache,
    Odd::NoAge,
    Odd::MadeUp(1),
    Odd::MadeUp(2),
    Odd::Other(1),
    Odd::Other(2),
    Odd::Other(3),
    Odd::Bad,
];

impl Odd {
    fn field(self) -> String {
        match self {
            Self::Cookie => "Cookie: session=1\r\n".to_owned(),
            Self::Credential => "Authorization: Basic YTpi\r\n".to_owned(),
            Self::Part => "Range: bytes=0-0\r\n".to_owned(),
            Self::Condition => "If-None-Match: \"all\"\r\n".to_owned(),
            Self::OldCondition => "If-None-Match: \"old\"\r\n".to_owned(),
            Self::NoCache => "Cache-Control: no-cache\r\n".to_owned(),
            Self::NoAge => "Cache-Control: max-age=0\r\n".to_owned(),
            Self::MadeUp(number) => format!("X-Kind: made-up-{number}\r\n"),
            Self::Other(number) => format!("X-Other-{number}: 1\r\n"),
            Self::Bad => "X-Kind: bad\r\n".to_owned(),
        }
    }
}

/// One request of the attacker.
#[derive(Clone, Debug)]
pub(super) struct Move {
    method: &'static str,
    odd: Vec<Odd>,
    /// Whether it leaves without its answer, if that takes a while.
    leaves: bool,
    /// Whether the next one comes behind its answer.
    pub(super) is_waited_for: bool,
}

impl Move {
    /// Whether nothing in it may name somebody, as in requests of the crowd: those wait for each other.
    pub(super) fn is_anonymous(&self) -> bool {
        !self.has(Odd::Cookie) && !self.has(Odd::Credential)
    }

    /// Whether it may make a fetch for others.
    pub(super) fn leads(&self) -> bool {
        self.method == "GET"
    }

    pub(super) fn has(&self, odd: Odd) -> bool {
        self.odd.contains(&odd)
    }

    /// Makes it, and says of whom it is.
    pub(super) async fn make(&self, address: SocketAddr, path: &str, who: &str) {
        let (method, fields) = (self.method, self.odd.iter().map(|odd| odd.field()));
        let fields: String = fields.collect();
        let mut client = Raw::connect(address).await;
        let head = format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\nX-Who: {who}\r\n");
        client.send(format!("{head}{fields}\r\n")).await;
        if self.leaves {
            // Whatever has come by then.
            let _ = timeout(PATIENCE_OF_LEAVING, client.answer_or_end()).await;
            return client.reset();
        }
        client.answer_to(method).await;
    }
}

/// Any of them.
pub(super) fn one_move() -> impl Strategy<Value = Move> {
    let method = select(vec!["GET", "GET", "GET", "GET", "HEAD"]);
    let odd = subsequence(ODD.to_vec(), 0..=3);
    let leaves = prop::bool::weighted(0.25);
    (method, odd, leaves, any::<bool>()).prop_map(|(method, odd, leaves, is_waited_for)| Move {
        method,
        odd,
        leaves,
        is_waited_for,
    })
}

/// So long, in which its request is on its way and the upstream has not answered.
const PATIENCE_OF_LEAVING: Duration = Duration::from_millis(5);
