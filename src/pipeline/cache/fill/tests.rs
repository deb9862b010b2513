//! Readers of one fetch: what they get, what is held for them, and what they cost each other.

use std::net::Ipv4Addr;

use futures_util::{FutureExt, stream};
use http_body_util::{BodyExt, StreamBody};
use proptest::prelude::*;
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::JoinHandle,
    time::sleep,
};

use super::{
    super::{places::Places, room::Budget},
    *,
};
use crate::exchange::{
    Clock, Connection, ContextParts, Peer, Protocol, RequestHead, RequestId, TraceContext,
};

/// The record of a request.
pub(in crate::pipeline::cache) fn context() -> Arc<Context> {
    let clock = Clock::system();
    let connection = Connection::new(0, "test".into(), Peer::Unix, false, Protocol::Http1);
    Arc::new(Context::new(ContextParts {
        connection: Arc::new(connection),
        id: RequestId::generate(clock.wall()),
        trace: TraceContext::generate(),
        client: Ipv4Addr::LOCALHOST.into(),
        forwarded_for: None,
        scheme: "http",
        forwarded_host: None,
        head: RequestHead::default(),
        started_at: clock.wall(),
        clock,
    }))
}

/// Collects what is sent; the body may have so many bytes to be stored.
fn collect(
    fill: &Arc<Fill<()>>,
    budget: &Arc<Budget>,
    most: u64,
) -> (UnboundedSender<Bytes>, JoinHandle<bool>) {
    collect_in(fill, budget.room(most))
}

fn collect_in(fill: &Arc<Fill<()>>, room: Room) -> (UnboundedSender<Bytes>, JoinHandle<bool>) {
    let (send, mut sent) = unbounded_channel::<Bytes>();
    let frames = stream::poll_fn(move |task| {
        sent.poll_recv(task)
            .map(|bytes| bytes.map(|bytes| Ok::<_, BodyError>(Frame::data(bytes))))
    });
    let body = Body::boxed(StreamBody::new(frames));
    let fetching = Fetching::new(fill, ());
    let deadline = Instant::now() + Duration::from_secs(3600);
    let task = tokio::spawn(async move {
        let collected = fetching.collect(body, room, deadline).await;
        collected.is_some()
    });
    (send, task)
}

fn piece(length: usize) -> Bytes {
    Bytes::from(vec![b'x'; length])
}

async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn what_outgrew_the_cache_is_charged_until_it_was_read() {
    let (fill, budget) = (Fill::new(), Budget::new(10_000, 0));
    let mut reader = fill
        .read_as_first(&context())
        .expect("the beginning is there");
    let (send, task) = collect(&fill, &budget, 500);
    for _ in 0..10 {
        send.send(piece(100)).expect("it is collected");
    }
    settled().await;
    assert_eq!(budget.used(), 10 * (100 + PIECE), "all of it is in memory");
    for left in (0..10).rev() {
        reader.frame().await.expect("a frame").expect("no fault");
        assert_eq!(budget.used(), left * (100 + PIECE));
    }
    drop(send);
    assert!(!task.await.expect("no panic"), "it was too large");
}

#[tokio::test(start_paused = true)]
async fn what_is_small_is_stored_though_others_have_all_the_room() {
    let budget = Budget::new(1000, 0);
    let mut others = budget.room(1000);
    assert!(others.take(1000, 0));
    for (length, stored) in [(400, true), (401, false)] {
        let fill = Fill::new();
        let _reader = fill
            .read_as_first(&context())
            .expect("the beginning is there");
        let room = budget.room(10_000).at_least(400 + PIECE);
        let (send, task) = collect_in(&fill, room);
        send.send(piece(length)).expect("it is collected");
        settled().await;
        let held = length as u64 + PIECE;
        assert_eq!(budget.used(), 1000 + held, "it is charged all the same");
        drop(send);
        assert_eq!(task.await.expect("no panic"), stored);
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_without_a_client_loses_its_place_to_the_next() {
    let (places, fill) = (Places::new(1), Fill::<()>::new());
    let reader = fill
        .read_as_first(&context())
        .expect("the beginning is there");
    let task = {
        let (places, fill) = (Arc::clone(&places), Arc::clone(&fill));
        tokio::spawn(async move { fill.forsaken(&places, None).await })
    };
    settled().await;
    drop(places.take().expect("with a client it needs none"));
    settled().await;
    assert!(!task.is_finished());
    drop(reader);
    settled().await;
    let another = fill.read_as_first(&context()).expect("it goes on");
    settled().await;
    drop(places.take().expect("it has given its place back"));
    settled().await;
    assert!(!task.is_finished());
    drop(another);
    settled().await;
    assert!(places.take().is_none(), "it has some time");
    sleep(Duration::from_secs(5)).await;
    let _place = places.take().expect("it has had its time");
    task.await.expect("no panic");
    assert!(
        fill.read_as_first(&context()).is_none(),
        "nobody new reads along"
    );
}

#[tokio::test(start_paused = true)]
async fn a_fetch_whose_client_leaves_ends_where_there_is_no_place_for_it() {
    let (places, fill) = (Places::new(1), Fill::<()>::new());
    let _place = places.take().expect("there is one");
    let reader = fill
        .read_as_first(&context())
        .expect("the beginning is there");
    let task = {
        let (places, fill) = (Arc::clone(&places), Arc::clone(&fill));
        tokio::spawn(async move { fill.forsaken(&places, None).await })
    };
    settled().await;
    assert!(!task.is_finished(), "with a client it needs none");
    drop(reader);
    task.await.expect("no panic");
    assert!(
        fill.read_as_first(&context()).is_none(),
        "nobody new reads along"
    );
}

#[tokio::test(start_paused = true)]
async fn many_small_pieces_count_for_what_they_take() {
    let (fill, budget) = (Fill::new(), Budget::new(10_000, 0));
    let _reader = fill
        .read_as_first(&context())
        .expect("the beginning is there");
    let (send, task) = collect(&fill, &budget, 10_000);
    for count in 1..=200 {
        send.send(piece(1)).expect("it is collected");
        settled().await;
        assert_eq!(budget.used(), count * (1 + PIECE));
    }
    drop(send);
    assert!(!task.await.expect("no panic"), "there was no room for it");
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_a_fetch_is_hardly_ahead_of_its_reader() {
    for (most, ahead) in [(1, LITTLE), (1 << 30, AHEAD)] {
        let (fill, budget) = (Fill::new(), Budget::new(most, 0));
        let mut reader = fill
            .read_as_first(&context())
            .expect("the beginning is there");
        let (send, _task) = collect(&fill, &budget, 1);
        for _ in 0..100 {
            send.send(piece(8 << 10)).expect("it is collected");
        }
        drop(send);
        settled().await;
        let taken = (8 << 10) + PIECE;
        assert_eq!(budget.used() / taken, ahead / taken + 1);
        let mut read = 0;
        while let Some(frame) = reader.frame().await {
            frame.expect("no fault");
            read += 1;
        }
        assert_eq!(read, 100, "it goes on all the same");
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_crawls_does_not_hold_up_others_for_long() {
    let (fill, budget) = (Fill::new(), Budget::new(1, 0));
    let mut crawling = fill
        .read_as_first(&context())
        .expect("the beginning is there");
    let mut other = fill
        .read_as_first(&context())
        .expect("the beginning is there");
    let (send, _task) = collect(&fill, &budget, 1);
    for _ in 0..1000 {
        send.send(piece(64 << 10)).expect("it is collected");
    }
    drop(send);
    let reading = tokio::spawn(async move {
        let mut pieces = 0;
        while other.frame().await.is_some_and(|frame| frame.is_ok()) {
            pieces += 1;
        }
        pieces
    });
    let began = Instant::now();
    while crawling.frame().await.expect("a frame").is_ok() {
        sleep(Duration::from_secs(4)).await;
        assert!(began.elapsed() < Duration::from_secs(60), "it is cut off");
    }
    assert_eq!(reading.await.expect("no panic"), 1000);
}

#[tokio::test(start_paused = true)]
async fn two_readers_of_one_pace_are_both_served() {
    let (fill, budget) = (Fill::new(), Budget::new(1, 0));
    let readers = [(); 2].map(|()| {
        fill.read_as_first(&context())
            .expect("the beginning is there")
    });
    let (send, _task) = collect(&fill, &budget, 1);
    for _ in 0..1000 {
        send.send(piece(64 << 10)).expect("it is collected");
    }
    drop(send);
    let all = readers.map(|mut reader| {
        tokio::spawn(async move {
            let mut pieces = 0;
            while let Some(frame) = reader.frame().await {
                frame.expect("no fault");
                sleep(Duration::from_secs(1)).await;
                pieces += 1;
            }
            pieces
        })
    });
    for reading in all {
        assert_eq!(reading.await.expect("no panic"), 1000);
    }
}

/// If each step looked at all readers, this would take minutes.
#[test]
fn who_comes_reads_and_leaves_takes_a_step_however_many_there_are() {
    let (fill, budget) = (Fill::<()>::new(), Budget::new(10_000, 0));
    fill.locked().room = Some(budget.room(1));
    let context = context();
    let come = |_| {
        fill.read_as_first(&context)
            .expect("the beginning is there")
    };
    let mut readers: Vec<_> = (0..100_000).map(come).collect();
    for _ in 0..2 {
        fill.locked().push(piece(100));
    }
    for reader in &mut readers {
        assert_eq!(budget.used(), 2 * (100 + PIECE));
        let frame = reader.frame().now_or_never().expect("it is there");
        frame.expect("a frame").expect("no fault");
    }
    assert_eq!(budget.used(), 100 + PIECE, "all have read the first");
    drop(readers);
    assert_eq!((budget.used(), fill.locked().reading), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_part_that_breaks_off_or_is_not_there_is_none() {
    let fill = Fill::<()>::new();
    let come = || {
        fill.read_as_first(&context())
            .expect("the beginning is there")
    };
    fill.locked().push(piece(10));
    let mut part = come().part(8, 4).await.expect("it begins");
    let frame = part.frame().await.expect("a frame").expect("no fault");
    assert_eq!(frame.into_data().expect("data").len(), 2);
    fill.end(Err(Reason::UpstreamCut), None);
    assert!(part.frame().await.expect("a frame").is_err());
    assert!(come().part(10, 1).await.is_none());
    assert!(come().length().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn who_has_its_part_reads_no_more() {
    let fill = Fill::<()>::new();
    let mut part = {
        let reader = fill
            .read_as_first(&context())
            .expect("the beginning is there");
        fill.locked().push(piece(10));
        reader.part(2, 8).await.expect("it begins")
    };
    assert_eq!(part.size_hint().exact(), Some(8));
    part.frame().await.expect("a frame").expect("no fault");
    assert!(part.is_end_stream() && part.frame().await.is_none());
    assert_eq!(fill.locked().reading, 0);
}

#[test]
fn who_has_left_leaves_its_place_to_the_next() {
    let fill = Fill::<()>::new();
    let context = context();
    let come = || {
        fill.read_as_first(&context)
            .expect("the beginning is there")
    };
    let (first, second) = (come(), come());
    drop(first);
    fill.locked().push(piece(1));
    let third = come();
    assert_eq!((third.slot, second.slot), (0, 1));
    assert_eq!(fill.locked().readers.len(), 2);
}

#[test]
fn places_at_the_end_that_nobody_has_are_given_up() {
    let fill = Fill::<()>::new();
    let context = context();
    let come = || {
        fill.read_as_first(&context)
            .expect("the beginning is there")
    };
    let places = || fill.locked().readers.len();
    let mut readers: Vec<_> = (0..100).map(|_| come()).collect();
    drop(readers.drain(1..99));
    assert_eq!(places(), 100, "the last one is still there");
    drop(readers.pop());
    assert_eq!(places(), 1);
    let next = [come(), come()];
    assert_eq!(next.each_ref().map(|reader| reader.slot), [1, 2]);
    drop((next, readers));
    assert_eq!(places(), 0);
}

#[test]
fn pieces_are_cut_where_readers_are() {
    let whole = [Bytes::from_static(b"0123"), Bytes::from_static(b"4567")];
    let (parts, places) = cut(&whole, &[0, 2, 4, 7, 8]);
    assert_eq!(parts, ["01", "23", "456", "7"]);
    assert_eq!(places, [0, 1, 2, 3, 4]);
    assert_eq!(cut(&[], &[0]), (VecDeque::new(), vec![0]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_held_is_what_the_slowest_has_still_to_read(
        steps in prop::collection::vec((0_usize..4, 0_usize..5), 0..80),
    ) {
        let (fill, budget) = (Fill::<()>::new(), Budget::new(10_000, 0));
        fill.locked().room = Some(budget.room(0));
        let context = context();
        let come = || fill.read_as_first(&context).expect("the beginning is there");
        // Each with how many pieces it has read.
        let mut readers: Vec<_> = (0..5).map(|_| Some((come(), 0))).collect();
        let mut pushed = 0;
        for (step, who) in steps {
            match (step, &mut readers[who]) {
                (0, Some(_)) => {
                    pushed += 1;
                    fill.locked().push(piece(pushed));
                }
                (1 | 2, Some((reader, read))) if *read < pushed => {
                    *read += 1;
                    let frame = reader.frame().now_or_never().expect("it is there");
                    let frame = frame.expect("a frame").expect("no fault");
                    prop_assert_eq!(frame.into_data().expect("data").len(), *read);
                }
                (3, left) => *left = None,
                _ => {}
            }
            let slowest = readers.iter().flatten().map(|(_, read)| *read).min();
            let held = (slowest.unwrap_or(pushed)..pushed).map(|read| read as u64 + 1 + PIECE);
            prop_assert_eq!(budget.used(), held.sum::<u64>());
            prop_assert_eq!(fill.locked().held, budget.used());
        }
    }

    #[test]
    fn every_part_of_what_arrives_is_cut_out_of_it(
        arrived in prop::collection::vec(1_usize..20, 1..12),
        first in 0.0_f64..1.0,
        last in 0.0_f64..1.0,
    ) {
        let whole: Bytes = (0..arrived.iter().sum::<usize>()).map(|at| at as u8).collect();
        let at = |share: f64| ((share * whole.len() as f64) as usize).min(whole.len() - 1);
        let (first, last) = (at(first.min(last)), at(first.max(last)));
        let fill = Fill::<()>::new();
        let mut rest = whole.clone();
        for length in &arrived {
            fill.locked().push(rest.split_to(*length));
        }
        let come = || fill.read_as_first(&context()).expect("the beginning is there");
        let part = come().part(first as u64, (last - first + 1) as u64).now_or_never();
        let part = part.flatten().expect("it is there");
        let part = part.collect().now_or_never().expect("it is there");
        prop_assert_eq!(part.expect("no fault").to_bytes(), whole.slice(first..=last));
        fill.end(Ok(()), None);
        let length = come().length().now_or_never().expect("it has ended");
        prop_assert_eq!(length, Some(whole.len() as u64));
    }

    #[test]
    fn readers_go_on_with_what_is_stored_where_they_were(
        arrived in prop::collection::vec(1_usize..20, 0..12),
        stored in 1_usize..30,
        read in prop::collection::vec(0_usize..14, 1..5),
        trailers in any::<bool>(),
    ) {
        let whole: Bytes = (0..arrived.iter().sum::<usize>()).map(|at| at as u8).collect();
        let (fill, budget) = (Fill::<()>::new(), Budget::new(10_000, 0));
        fill.locked().room = Some(budget.room(10_000));
        let mut rest = whole.clone();
        for length in &arrived {
            fill.locked().push(rest.split_to(*length));
        }
        fill.end(Ok(()), trailers.then(HeaderMap::new));
        let mut readers: Vec<_> = read
            .iter()
            .map(|_| (fill.read_as_first(&context()).expect("it is there"), Vec::new(), false))
            .collect();
        let frame = |(reader, bytes, ended): &mut (FillBody<()>, Vec<u8>, bool)| {
            let frame = reader.frame().now_or_never().expect("it is there");
            match frame.map(|frame| frame.expect("no fault").into_data()) {
                Some(Ok(data)) => bytes.extend_from_slice(&data),
                Some(Err(_)) => *ended = true,
                None => return false,
            }
            true
        };
        for (reader, frames) in readers.iter_mut().zip(&read) {
            for _ in 0..*frames {
                frame(reader);
            }
        }
        let pieces: Vec<_> = whole.chunks(stored).map(Bytes::copy_from_slice).collect();
        fill.locked().replace(&pieces);
        prop_assert_eq!(budget.used(), 0);
        for reader in &mut readers {
            while frame(reader) {}
            prop_assert_eq!(&reader.1, &whole);
            prop_assert_eq!(reader.2, trailers);
            prop_assert!(reader.0.is_end_stream());
        }
    }
}
