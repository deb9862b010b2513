//! A tree of path segments, one per host, all in one arena.
//!
//! Literal edges are hashed, so a node with ten thousand children costs no more than one with ten.
//! The search tries the most specific edge first and backtracks. It keeps no stack: a node knows its
//! parent, and the offset in the path is found back at the slash before. So it neither allocates nor
//! recurses, and as each node is reached by one way only, it is visited once at most.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use super::{
    candidate::{Candidate, Rule, Terminal},
    spelling::Spelled,
};
use crate::config::{PathPattern, PathSegment};

/// A node's place in the arena.
pub(super) type NodeId = usize;

/// The segment trees of all hosts.
#[derive(Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    folds: bool,
}

/// The ways out of a node, the most specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Literal,
    /// A literal of a route that ignores case: it matches more than one that does not.
    Folded,
    /// `{x}`: a segment that is not empty.
    Capture,
}

const EDGES: [Edge; 3] = [Edge::Literal, Edge::Folded, Edge::Capture];

#[derive(Debug, Default)]
struct Node {
    /// The node above and the edge from it; `None` for a root.
    parent: Option<(NodeId, Edge)>,
    literals: Literals,
    folded: Literals,
    capture: Option<NodeId>,
    /// Routes whose pattern ends here.
    exact: Terminal,
    /// Routes whose pattern has a rest here.
    rest: Terminal,
}

#[derive(Debug, Default)]
struct Literals {
    nodes: HashMap<Box<str>, NodeId, BuildHasherDefault<Fnv>>,
    /// The longest key: a segment that is longer is not worth hashing.
    longest: usize,
}

/// How far a search has come.
#[derive(Clone, Copy, Debug)]
struct Position {
    node: NodeId,
    /// The end of the segment that led to the node; what follows in the path begins with a slash.
    end: usize,
}

impl Tree {
    /// Adds the root of another host.
    pub(super) fn plant(&mut self) -> NodeId {
        self.push(Node::default())
    }

    /// Whether any route ignores case.
    pub(super) fn folds(&self) -> bool {
        self.folds
    }

    /// Adds a candidate at the end of a pattern.
    pub(super) fn add(
        &mut self,
        root: NodeId,
        pattern: &PathPattern,
        ignore_case: bool,
        candidate: Candidate,
    ) {
        self.folds |= ignore_case;
        let node = pattern.segments.iter().fold(root, |node, segment| {
            let text = match segment {
                PathSegment::Capture(_) => return self.child(node, Edge::Capture, ""),
                // The configuration spells it as `Spelled` does.
                PathSegment::Literal(text) => text,
            };
            if ignore_case {
                return self.child(node, Edge::Folded, &text.to_ascii_lowercase());
            }
            self.child(node, Edge::Literal, text)
        });
        let node = &mut self.nodes[node];
        match pattern.rest {
            Some(_) => node.rest.add(candidate),
            None => node.exact.add(candidate),
        }
    }

    /// Puts every node's candidates in order, once all are there.
    pub(super) fn finish(&mut self, rules: &[Rule]) {
        for node in &mut self.nodes {
            node.exact.finish(rules);
            node.rest.finish(rules);
        }
    }

    /// Visits the terminals that match a path, the most specific first, until one has an answer.
    pub(super) fn walk<'t, R>(
        &'t self,
        root: NodeId,
        path: &Spelled<'_>,
        mut visit: impl FnMut(&'t Terminal) -> Option<R>,
    ) -> Option<R> {
        let mut at = Position { node: root, end: 0 };
        let mut untried = EDGES.as_slice();
        loop {
            if let Some(next) = self.descend(path, at, untried) {
                at = next;
                untried = &EDGES;
                if at.end == path.exact().len()
                    && let Some(answer) = visit(&self.nodes[at.node].exact)
                {
                    return Some(answer);
                }
                continue;
            }
            let node = &self.nodes[at.node];
            if let Some(answer) = visit(&node.rest) {
                return Some(answer);
            }
            let (parent, edge) = node.parent?;
            untried = edge.after();
            at = Position {
                node: parent,
                end: memchr::memrchr(b'/', &path.exact().as_bytes()[..at.end])?,
            };
        }
    }

    /// Follows the first of some edges that takes the next segment.
    fn descend(&self, path: &Spelled<'_>, at: Position, edges: &[Edge]) -> Option<Position> {
        let start = at.end + 1;
        let behind = path.exact().as_bytes().get(start..)?;
        let end = start + memchr::memchr(b'/', behind).unwrap_or(behind.len());
        let node = &self.nodes[at.node];
        let child = edges.iter().find_map(|edge| match edge {
            Edge::Literal => node.literals.get(&path.exact()[start..end]),
            Edge::Folded => node.folded.get(&path.folded()[start..end]),
            Edge::Capture => node.capture.filter(|_| start < end),
        });
        child.map(|node| Position { node, end })
    }

    fn child(&mut self, parent: NodeId, edge: Edge, text: &str) -> NodeId {
        let next = self.nodes.len();
        let node = &mut self.nodes[parent];
        let child = match edge {
            Edge::Literal => node.literals.get_or_insert(text, next),
            Edge::Folded => node.folded.get_or_insert(text, next),
            Edge::Capture => *node.capture.get_or_insert(next),
        };
        if child == next {
            self.push(Node {
                parent: Some((parent, edge)),
                ..Node::default()
            });
        }
        child
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

impl Edge {
    fn after(self) -> &'static [Edge] {
        match self {
            Self::Literal => &EDGES[1..],
            Self::Folded => &EDGES[2..],
            Self::Capture => &[],
        }
    }
}

impl Literals {
    fn get(&self, segment: &str) -> Option<NodeId> {
        if segment.len() > self.longest {
            return None;
        }
        self.nodes.get(segment).copied()
    }

    fn get_or_insert(&mut self, segment: &str, node: NodeId) -> NodeId {
        self.longest = self.longest.max(segment.len());
        *self.nodes.entry(segment.into()).or_insert(node)
    }
}

/// FNV-1a: faster on short keys than the default, and no less safe here: all keys come from the
/// configuration, so a client can't choose any that collide.
#[derive(Debug)]
pub(super) struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
