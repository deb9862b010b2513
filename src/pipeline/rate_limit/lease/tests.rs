use futures_util::FutureExt;

use super::*;
use crate::store::KeyHasher;

fn key() -> KeyHash {
    KeyHasher::default().hash(b"key")
}

fn leases(size: u32) -> Leases {
    Leases::new(size, 100, Duration::from_secs(60))
}

fn windows() -> [Window; 1] {
    [Window::new(100, Duration::from_secs(1), None)]
}

fn standing() -> Standing {
    Standing {
        remaining: 90,
        reset: None,
    }
}

/// What a request gets that does not wait.
fn now(leases: &Leases, key: KeyHash, now: u64) -> Leased {
    leases.take(key, now, 1)
}

fn fetch(leases: &Leases, key: KeyHash) -> Fetch {
    match now(leases, key, 1) {
        Leased::Fetch(fetch) => fetch,
        _ => panic!("there is no batch"),
    }
}

/// So many requests that wait, each polled once.
fn waiting(
    leases: &Leases,
    key: KeyHash,
    count: usize,
) -> Vec<futures_util::future::BoxFuture<'_, Waited>> {
    let mut waiting: Vec<_> = (0..count)
        .map(|_| leases.take_fetched(key, 1, 1).boxed())
        .collect();
    for one in &mut waiting {
        assert!(one.now_or_never().is_none(), "it waits");
    }
    waiting
}

#[test]
fn one_request_fetches_a_batch_and_the_next_live_on_it_until_it_is_old() {
    let (leases, key, windows) = (leases(10), key(), windows());
    let first = fetch(&leases, key);
    assert_eq!(first.size, 10);
    assert!(matches!(now(&leases, key, 1), Leased::Wait));
    first.keep(9, (0, standing()), &windows, 1);
    for left in (0..9).rev() {
        let Leased::Given(0, told) = now(&leases, key, 1) else {
            panic!("{left} are left");
        };
        assert_eq!(told.remaining, 90 + left);
    }
    drop(fetch(&leases, key));
    leases.give_back(key, 1);
    assert!(matches!(now(&leases, key, 1), Leased::Given(..)));
    leases.give_back(key, 1);
    let old = windows[0].per + 1;
    assert!(matches!(now(&leases, key, old), Leased::Fetch(_)));
}

#[tokio::test]
async fn who_comes_while_a_batch_is_fetched_waits_for_it() {
    let (leases, key) = (leases(3), key());
    let first = fetch(&leases, key);
    let mut waiting = waiting(&leases, key, 3);
    first.keep(2, (0, standing()), &windows(), 1);
    for one in &mut waiting[..2] {
        assert!(matches!(one.await, Waited::Given(..)));
    }
    // Whom the batch does not reach fetches the next one.
    assert!(matches!((&mut waiting[2]).await, Waited::Fetch(_)));
}

#[tokio::test]
async fn what_redis_refuses_it_refuses_to_all_who_wait() {
    let (leases, key) = (leases(3), key());
    let refused = Refused { wait: Some(7) };
    let first = fetch(&leases, key);
    let waiting = waiting(&leases, key, 5);
    first.failed(Fetched::Refused(1, 0, refused));
    for one in waiting {
        assert!(matches!(one.await, Waited::Refused(0, told) if told == refused));
    }
    // What cost more says nothing about what costs less.
    let dear = fetch(&leases, key);
    let waiting = self::waiting(&leases, key, 1);
    dear.failed(Fetched::Refused(2, 0, refused));
    for one in waiting {
        assert!(matches!(one.await, Waited::Fetch(_)));
    }
}

#[tokio::test]
async fn nobody_waits_for_a_redis_that_is_away_twice() {
    let (leases, key) = (leases(3), key());
    let first = fetch(&leases, key);
    let waiting = waiting(&leases, key, 5);
    first.failed(Fetched::Away);
    for one in waiting {
        assert!(matches!(one.await, Waited::Away));
    }
}

#[tokio::test]
async fn a_fetch_that_is_given_up_is_another_s_duty() {
    let (leases, key) = (leases(3), key());
    let first = fetch(&leases, key);
    let mut waiting = waiting(&leases, key, 2);
    drop(first);
    let Waited::Fetch(second) = (&mut waiting[0]).await else {
        panic!("it takes over");
    };
    // It has waited once for nothing.
    assert!(matches!((&mut waiting[1]).await, Waited::Alone));
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_its_deadline() {
    let (leases, key) = (leases(3), key());
    let _first = fetch(&leases, key);
    let began = tokio::time::Instant::now();
    assert!(matches!(
        leases.take_fetched(key, 1, 1).await,
        Waited::Alone
    ));
    assert_eq!(began.elapsed(), Duration::from_secs(60));
}
