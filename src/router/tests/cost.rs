//! What a hostile path can cost.

use super::{get, route};
use crate::{
    config::Route,
    router::{candidate::Candidate, spelling::Spelled, tree::Tree},
};

/// Every combination of a literal and a capture over some segments: the worst that can be written.
fn tangle(depth: u32) -> Vec<Route> {
    let path = |choice: u32| {
        let segments = (0..depth).map(|level| ["/a", "/{x}"][(choice >> level & 1) as usize]);
        segments.chain(["/end"]).collect::<String>()
    };
    (0..1 << depth)
        .map(|choice| route("end", &path(choice)))
        .collect()
}

#[test]
fn no_path_makes_the_search_visit_a_node_twice() {
    let routes = tangle(8);
    let mut tree = Tree::default();
    let root = tree.plant();
    for route in &routes {
        let candidate = Candidate::new(0, None, &route.paths[0]);
        tree.add(root, &route.paths[0], false, candidate);
    }
    // A complete binary tree of 9 levels, and an end below each of its leaves.
    let nodes = (1 << 9) - 1 + (1 << 8);
    for path in [
        "/a".repeat(9),
        "/a".repeat(5_000),
        "/a".repeat(8) + "/end/x",
    ] {
        let mut visits = 0;
        let answer: Option<()> = tree.walk(root, &Spelled::new(&path, false), |_| {
            visits += 1;
            None
        });
        assert_eq!(answer, None);
        assert!(visits <= nodes, "{visits} visits for {} bytes", path.len());
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = "/a".repeat(100_000);
    let routes = [
        route("deep", &deep),
        route("other", &format!("{deep}/{{x}}/b")),
    ];
    assert_eq!(get(&deep).outcome(&routes), "deep");
    assert_eq!(get(&format!("{deep}/x/c")).outcome(&routes), "404");
}
