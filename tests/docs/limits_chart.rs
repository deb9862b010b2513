//! The picture in `docs/limits.md` is drawn from the real algorithms.
//!
//! `TOLLGATE_WRITE_DOCS=1 cargo nextest run --test docs limits_chart` draws it anew.

// Clippy lets tests unwrap, but not the functions that they share.
#![allow(clippy::unwrap_used)]

use std::{fmt::Write, fs, time::Duration};

use tollgate::store::{Algorithm, FixedWindow, SlidingLog, SlidingWindow, TokenBucket, Window};

const SECOND: u64 = 1_000_000_000;
/// The quota of the picture: 12 a minute.
const QUOTA: u64 = 12;
/// A column is so many seconds.
const COLUMN: u64 = 5;
/// Three minutes.
const COLUMNS: u64 = 36;
/// The client is silent at first, then sends as fast as it can.
const SILENT: u64 = 45;

#[test]
fn the_picture_shows_what_the_algorithms_do() {
    let (path, page) = page();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let drawn = format!("{before}{BEGIN}{}{END}{after}", picture());
    if std::env::var_os("TOLLGATE_WRITE_DOCS").is_some() {
        fs::write(&path, &drawn).unwrap();
        return;
    }
    assert!(page == drawn, "draw it anew: TOLLGATE_WRITE_DOCS=1");
}

/// The rows of the picture, an algorithm each.
fn picture() -> String {
    let mut text = String::from("```text\n");
    let ruler: String = (0..COLUMNS)
        .map(|column| if column % 12 == 0 { '|' } else { ' ' })
        .collect();
    let _ = writeln!(text, "{:<24}{ruler}|", "full minutes");
    row::<FixedWindow>(&mut text, "fixed_window", None);
    row::<SlidingWindow>(&mut text, "sliding_window", None);
    row::<SlidingLog>(&mut text, "sliding_window, exact", None);
    row::<TokenBucket>(&mut text, "token_bucket", None);
    row::<TokenBucket>(&mut text, "token_bucket, bucket = 3", Some(3));
    text.push_str("```\n");
    text
}

/// How many pass in each column, and the most that pass in any minute.
fn row<A: Algorithm>(text: &mut String, name: &str, bucket: Option<u64>) {
    let window = Window::new(QUOTA, Duration::from_secs(60), bucket);
    let mut state = A::default();
    let mut passed = vec![0u64; usize::try_from(COLUMNS * COLUMN * 10).unwrap()];
    for (tenth, passed) in (0u64..).zip(&mut passed) {
        let now = 1_000_000 * 60 * SECOND + tenth * SECOND / 10;
        while tenth >= SILENT * 10 && state.take(&window, now, 1).is_ok() {
            *passed += 1;
        }
    }
    let columns = passed.chunks(usize::try_from(COLUMN * 10).unwrap());
    let columns: String = columns.map(|column| symbol(column.iter().sum())).collect();
    let most = passed
        .windows(600)
        .map(|minute| minute.iter().sum::<u64>())
        .max();
    let _ = writeln!(
        text,
        "{name:<24}{columns}|  at most {} in a minute",
        most.unwrap()
    );
}

/// A digit, and `#` above nine.
fn symbol(passed: u64) -> char {
    match u32::try_from(passed).unwrap() {
        0 => '.',
        few @ 1..=9 => char::from_digit(few, 10).unwrap(),
        _ => '#',
    }
}

fn page() -> (std::path::PathBuf, String) {
    let path = super::root().join("docs/limits.md");
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

const BEGIN: &str = "<!-- drawn by tests/docs/limits_chart.rs -->\n";
const END: &str = "<!-- end -->\n";
