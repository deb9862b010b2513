//! What holds for all requests and answers.

use proptest::prelude::*;

use super::*;

/// Directives, good and bad, in any order.
fn cache_control() -> impl Strategy<Value = String> {
    let directive = prop_oneof![
        Just("no-store".to_owned()),
        Just("private".to_owned()),
        Just("no-cache".to_owned()),
        Just("public".to_owned()),
        Just("must-revalidate".to_owned()),
        Just("proxy-revalidate".to_owned()),
        Just("must-understand".to_owned()),
        Just("private=\"x-a\"".to_owned()),
        (0_u64..100).prop_map(|age| format!("max-age={age}")),
        (0_u64..100).prop_map(|age| format!("s-maxage={age}")),
        (0_u64..100).prop_map(|age| format!("stale-while-revalidate={age}")),
        (0_u64..100).prop_map(|age| format!("stale-if-error={age}")),
        "[a-z=\",]{0,8}",
    ];
    prop::collection::vec(directive, 0..5).prop_map(|parts| parts.join(", "))
}

fn answer_lines() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let line = prop_oneof![
        4 => cache_control().prop_map(|value| ("cache-control", value)),
        1 => cache_control().prop_map(|value| ("cdn-cache-control", value)),
        1 => (-100_i64..100).prop_map(|at| ("expires", date(at))),
        1 => (-100_i64..100).prop_map(|at| ("date", date(at))),
        1 => (-9000_i64..10).prop_map(|at| ("last-modified", date(at))),
        1 => "[0-9,a-]{0,5}".prop_map(|age| ("age", age)),
        1 => Just(("etag", "\"a\"".to_owned())),
        1 => Just(("set-cookie", "a=b".to_owned())),
        1 => "[a-z*, -]{0,8}".prop_map(|names| ("vary", names)),
        1 => "[ -~]{0,20}".prop_map(|value| ("expires", value)),
    ];
    prop::collection::vec(line, 0..6)
}

fn any_options() -> impl Strategy<Value = Options> {
    let ttl = || prop::option::of((0_u64..100).prop_map(seconds));
    let flags = any::<(bool, bool, bool)>();
    (flags, ttl(), ttl(), 0_u64..100).prop_map(|(flags, default_ttl, override_ttl, window)| {
        Options {
            scope: if flags.0 {
                Scope::Principal
            } else {
                Scope::Shared
            },
            heuristics: flags.1,
            store_set_cookie: flags.2,
            default_ttl,
            override_ttl,
            stale_while_revalidate: seconds(window),
            ..Options::default()
        }
    })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    any::<(bool, bool, bool)>().prop_map(|(principal, authorization, cookie)| Asked {
        principal,
        authorization,
        cookie,
        ..get(&[])
    })
}

fn any_facts() -> impl Strategy<Value = Option<Facts>> {
    (answer_lines(), any_options(), any_asked()).prop_map(|(lines, options, asked)| {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        judged(&asked, 200, &lines, &options)
            .ok()
            .map(|verdict| verdict.facts)
    })
}

fn borrowed(lines: &[(&'static str, String)]) -> Vec<(&'static str, &'static str)> {
    // Tests live short: leaking is simpler than a lifetime through every helper.
    let leak = |value: &String| -> &'static str { Box::leak(value.clone().into_boxed_str()) };
    lines
        .iter()
        .map(|(name, value)| (*name, leak(value)))
        .collect()
}

proptest! {
    #[test]
    fn nobody_elses_answer_is_shared_unless_the_origin_says_so(
        lines in answer_lines(),
        options in any_options(),
        asked in any_asked(),
    ) {
        let lines = borrowed(&lines);
        let Ok(verdict) = judged(&asked, 200, &lines, &options) else { return Ok(()) };
        let said = |word: &str| lines.iter().any(|(name, value)| {
            name.ends_with("cache-control") && value.contains(word)
        });
        if asked.is_known_caller() && verdict.audience == Audience::Everyone {
            prop_assert!(said("public") || said("must-revalidate") || said("s-maxage"));
        }
        if options.scope == Scope::Shared {
            prop_assert_eq!(verdict.audience, Audience::Everyone);
        }
        if verdict.audience == Audience::Caller {
            prop_assert!(asked.principal || !asked.authorization);
        }
    }

    #[test]
    fn no_store_and_private_hold_whatever_a_rule_says(
        lines in answer_lines(),
        options in any_options(),
        asked in any_asked(),
        forbidding in prop_oneof![Just("no-store"), Just("private")],
    ) {
        let mut lines = borrowed(&lines);
        lines.retain(|(name, value)| {
            *name != "cdn-cache-control" && !value.contains("must-understand")
        });
        lines.push(("cache-control", forbidding));
        prop_assert!(judged(&asked, 200, &lines, &options).is_err());
    }

    #[test]
    fn an_answer_never_becomes_fresh_again(
        facts in any_facts(),
        sooner in 0_u64..200_000,
        later in 0_u64..200_000,
    ) {
        let Some(facts) = facts else { return Ok(()) };
        let (sooner, later) = (after(sooner), after(sooner + later));
        prop_assert!(facts.age(sooner) <= facts.age(later));
        prop_assert!(facts.ttl(sooner) >= facts.ttl(later));
        prop_assert!(facts.is_fresh(sooner) || !facts.is_fresh(later));
        prop_assert_eq!(facts.is_fresh(later), facts.staleness(later).is_zero()
            && facts.lifetime > facts.age(later));
    }

    #[test]
    fn what_is_of_no_more_use_is_served_to_nobody(
        facts in any_facts(),
        beyond in 1_u64..100_000,
    ) {
        let Some(facts) = facts else { return Ok(()) };
        let dead = facts.useful_until().plus(Duration::from_millis(beyond));
        let asked = get(&[]);
        prop_assert_eq!(reuse(&asked, &facts, dead), Reuse::Validate);
        for failure in [Failure::Unreachable, Failure::Status(StatusCode::BAD_GATEWAY)] {
            prop_assert!(!stale_instead(&asked, &facts, dead, failure));
        }
    }

    #[test]
    fn a_soft_purge_leaves_nothing_fresh(facts in any_facts(), at in 0_u64..200_000) {
        let Some(facts) = facts else { return Ok(()) };
        let purged = facts.expired_at(after(at));
        prop_assert!(!purged.is_fresh(after(at)));
        prop_assert!(purged.useful_until() <= facts.useful_until().max(after(at + 3_700_000)));
    }

    #[test]
    fn any_304_keeps_the_length_and_what_it_does_not_name(
        lines in answer_lines(),
        length in 0_u64..1000,
    ) {
        let head = stored(&[
            ("cache-control", "max-age=1"),
            ("etag", "\"a\""),
            ("content-length", "36"),
            ("x-own", "1"),
        ]);
        let mut validated = headers(&borrowed(&lines));
        validated.insert("content-length", HeaderValue::from(length));
        let answer = Answer {
            status: StatusCode::NOT_MODIFIED,
            headers: &validated,
            requested: NOW,
            received: NOW,
        };
        let merged = merge(&head, &get(&[]), &URL, &answer, &Options::default());
        let Some(Merged { headers, .. }) = merged else {
            return Err(TestCaseError::fail("the entity tag is ours"));
        };
        prop_assert_eq!(&headers["content-length"], "36");
        prop_assert_eq!(&headers["x-own"], "1");
    }
}
