//! HTTP/2: spread, windows, idleness and abuse.

use std::{collections::BTreeSet, io::Write as _, sync::atomic::Ordering::SeqCst};

use tollgate::exchange::Reason;

use crate::support::{ONE_FRAME, Running, eventually, h2, millis, start};

fn hurried() -> Running {
    start(|server| {
        server.limits.keep_alive = millis(150);
        server.limits.write_timeout = millis(150);
    })
}

#[test]
fn four_connections_on_four_workers_land_on_four_workers() {
    let running = start(|server| server.workers = Some(4.try_into().unwrap()));
    let mut clients: Vec<_> = (0..4).map(|_| h2::plain(&running)).collect();
    let workers: BTreeSet<_> = clients
        .iter_mut()
        .map(|client| {
            client.send(h2::get(1, "/worker"));
            h2::body(client)
        })
        .collect();
    assert_eq!(workers.len(), 4, "{workers:?}");
}

#[test]
fn a_busy_connection_keeps_new_ones_off_its_worker() {
    let running = start(|server| server.workers = Some(2.try_into().unwrap()));
    let mut busy = h2::plain(&running);
    for stream in 0..10 {
        busy.send(h2::get(2 * stream + 1, "/hang"));
    }
    running.wait_begun(10);
    let loaded = running.listeners().workers();
    let busy_worker = loaded
        .iter()
        .find(|worker| worker.streams == 10)
        .unwrap()
        .index;
    for _ in 0..5 {
        let mut client = h2::plain(&running);
        client.send(h2::get(1, "/worker"));
        let worker = String::from_utf8(h2::body(&mut client)).unwrap();
        assert_ne!(worker, busy_worker.to_string());
        std::mem::forget(client);
    }
}

#[test]
fn an_idle_connection_gets_goaway() {
    let running = hurried();
    let mut client = h2::plain(&running);
    client.send(h2::get(1, "/"));
    h2::body(&mut client);
    let goaway = h2::until(&mut client, h2::GOAWAY);
    assert_eq!(h2::code(&goaway), 0);
    while h2::next(&mut client).is_some() {}
    drop(client);
    assert_eq!(running.told.after_all_closed(), []);
}

#[test]
fn an_idle_client_that_ignores_goaway_is_dropped() {
    let running = hurried();
    let client = h2::plain(&running);
    assert_eq!(running.told.after_all_closed(), []);
    drop(client);
}

#[test]
fn a_stream_whose_window_stays_closed_is_reset() {
    let running = hurried();
    let mut client = h2::connect(&running, &h2::window(0));
    client.send(h2::get(1, "/"));
    h2::until(&mut client, h2::HEADERS);
    let reset = h2::until(&mut client, h2::RST_STREAM);
    assert_eq!(reset.stream, 1);
    assert_eq!(running.told.reasons(), [Reason::WriteTimeout]);
}

/// The whole of it takes twice the time that a stream may stand still.
#[test]
fn a_large_frame_that_is_taken_bit_by_bit_is_no_standstill() {
    let running = start(|server| server.limits.write_timeout = millis(500));
    let mut client = h2::connect(&running, &h2::window(0));
    client.send(h2::get(1, "/one-frame"));
    let mut left = ONE_FRAME;
    while left > 0 {
        std::thread::sleep(millis(60));
        client.send([h2::widen(0, 16 << 10), h2::widen(1, 16 << 10)].concat());
        left -= h2::until(&mut client, h2::DATA).payload.len();
    }
    assert_eq!(running.told.reasons(), []);
}

#[test]
fn a_stream_that_stalls_midway_is_reset_while_others_go_on() {
    let running = hurried();
    let mut client = h2::plain(&running);
    client.send(h2::get(1, "/big"));
    h2::until(&mut client, h2::DATA);
    // The answer's first 65,535 bytes close the connection's window too.
    client.send(h2::get(3, "/silent-body"));
    assert_eq!(h2::until(&mut client, h2::RST_STREAM).stream, 1);
    assert_eq!(running.told.reasons(), [Reason::WriteTimeout]);
}

#[test]
fn a_stream_whose_upstream_is_slow_is_left_alone() {
    let running = hurried();
    let mut client = h2::plain(&running);
    client
        .send(h2::get(1, "/silent-body"))
        .send(h2::get(3, "/gate"));
    running.wait_begun(2);
    std::thread::sleep(millis(500));
    running.let_through();
    assert_eq!(h2::body(&mut client), b"gated");
    assert_eq!(running.told.reasons(), []);
}

#[test]
fn a_reset_stream_aborts_its_request() {
    let running = start(|_| {});
    let mut client = h2::plain(&running);
    client.send(h2::get(1, "/hang"));
    running.wait_begun(1);
    client.send(h2::reset(1));
    eventually("the abort arrives", || running.aborted() == 1);
}

#[test]
fn a_client_that_leaves_aborts_all_its_requests() {
    let running = start(|_| {});
    let mut client = h2::plain(&running);
    client.send(h2::get(1, "/hang")).send(h2::get(3, "/hang"));
    running.wait_begun(2);
    drop(client);
    eventually("the aborts arrive", || running.aborted() == 2);
}

#[test]
fn rapid_resets_end_the_connection() {
    let running = start(|server| server.http2.max_resets = 5);
    let mut client = h2::plain(&running);
    let attack: Vec<_> = (0..200)
        .flat_map(|stream| [h2::get(2 * stream + 1, "/hang"), h2::reset(2 * stream + 1)])
        .flatten()
        .collect();
    client.send(attack);
    let goaway = h2::until(&mut client, h2::GOAWAY);
    assert_eq!(h2::code(&goaway), 11, "ENHANCE_YOUR_CALM");
    drop(client);
    assert_eq!(running.told.after_all_closed(), [Reason::Malformed]);
    eventually("nothing is left behind", || {
        running
            .listeners()
            .workers()
            .iter()
            .all(|worker| worker.streams == 0)
    });
}

#[test]
fn resets_at_a_distance_end_the_connection_too() {
    let running = start(|_| {});
    let mut client = h2::plain(&running);
    let mut stream = 1;
    let mut begun = 0;
    while running.told.reasons().is_empty() {
        assert!(begun < 2000, "resets go on for ever");
        let streams: Vec<_> = (0..50).map(|number| stream + 2 * number).collect();
        let (requests, resets): (Vec<_>, Vec<_>) = streams
            .iter()
            .map(|stream| (h2::get(*stream, "/hang"), h2::reset(*stream)))
            .unzip();
        stream += 100;
        begun += 50;
        client.send(requests.concat());
        running.wait_begun(begun);
        client.send(resets.concat());
        eventually("the aborts arrive", || running.aborted() == begun);
        std::thread::sleep(millis(5));
    }
    drop(client);
    assert_eq!(running.told.after_all_closed(), [Reason::Malformed]);
}

#[test]
fn a_client_that_resets_some_of_many_streams_is_served() {
    let running = start(|_| {});
    let mut client = h2::plain(&running);
    for number in 0..600 {
        let stream = 6 * number + 1;
        client.send(h2::get(stream, "/hang"));
        running.wait_begun(3 * number as usize + 1);
        client.send(h2::reset(stream));
        for answered in [stream + 2, stream + 4] {
            client.send(h2::get(answered, "/"));
            assert_eq!(h2::body(&mut client), b"ok");
        }
    }
    assert_eq!(running.told.reasons(), []);
}

#[test]
fn a_flood_of_continuations_ends_the_connection() {
    let running = start(|_| {});
    let mut client = h2::plain(&running);
    let mut attack = h2::beginning(1);
    for _ in 0..1000 {
        attack.extend(h2::frame(h2::CONTINUATION, 0, 1, &[]));
    }
    client.send(attack);
    let goaway = h2::until(&mut client, h2::GOAWAY);
    assert_eq!(h2::code(&goaway), 11, "ENHANCE_YOUR_CALM");
    drop(client);
    assert_eq!(running.told.after_all_closed(), [Reason::Malformed]);
}

#[test]
fn a_head_that_does_not_end_has_the_time_of_a_head() {
    let half_a_head = h2::get(1, "/")[..12].to_vec();
    let answered = [h2::get(1, "/"), h2::beginning(3)].concat();
    for sent in [h2::beginning(1), half_a_head, answered] {
        let running = start(|server| server.limits.header_timeout = millis(150));
        let mut client = h2::plain(&running);
        client.send(&sent);
        while h2::next(&mut client).is_some() {}
        let told = running.told.after_all_closed();
        assert_eq!(told, [Reason::HeaderTimeout], "{sent:?}");
    }
}

#[test]
fn continuations_do_not_prolong_the_time_of_a_head() {
    let running = start(|server| server.limits.header_timeout = millis(300));
    let mut client = h2::plain(&running);
    client.send(h2::beginning(1));
    // The sixth would be one too many, and told as such.
    for _ in 0..6 {
        std::thread::sleep(millis(200));
        let continuation = h2::frame(h2::CONTINUATION, 0, 1, &[]);
        // It fails when the gateway has closed.
        let _ = client.0.write_all(&continuation);
    }
    let told = running.told.after_all_closed();
    assert_eq!(told, [Reason::HeaderTimeout]);
}

#[test]
fn a_preface_without_whole_settings_has_the_time_of_a_head() {
    let settings = h2::window(1000);
    for sent in [&settings[..0], &settings[..5], &settings[..12]] {
        let running = start(|server| server.limits.header_timeout = millis(150));
        let mut client = running.connect();
        client.send([h2::PREFACE, sent].concat());
        while h2::next(&mut client).is_some() {}
        let told = running.told.after_all_closed();
        assert_eq!(told, [Reason::HeaderTimeout], "{sent:?}");
    }
}

#[test]
fn the_time_of_a_head_ends_neither_an_idle_connection_nor_one_with_requests_under_way() {
    let running = start(|server| server.limits.header_timeout = millis(300));
    let mut client = h2::plain(&running);
    std::thread::sleep(millis(600));
    client.send(h2::get(1, "/gate"));
    running.wait_begun(1);
    client.send(h2::beginning(3));
    std::thread::sleep(millis(600));
    assert_eq!(running.told.reasons(), []);
    running.let_through();
    assert_eq!(h2::body(&mut client), b"gated");
    while h2::next(&mut client).is_some() {}
    let told = running.told.after_all_closed();
    assert_eq!(told, [Reason::HeaderTimeout], "nothing else is under way");
}

#[test]
fn a_flood_of_pings_that_nobody_reads_back_is_dropped() {
    let running = start(|server| server.limits.write_timeout = millis(150));
    let mut client = h2::plain(&running);
    let pings = h2::frame(h2::PING, 0, 0, &[0; 8]).repeat(10_000);
    while client.0.write_all(&pings).is_ok() {}
    assert_eq!(running.told.after_all_closed(), [Reason::Malformed]);
}

#[test]
fn a_header_list_beyond_the_limit_is_refused_with_431() {
    let running = start(|server| server.limits.header_bytes = 8 << 10);
    let mut client = h2::plain(&running);
    let mut block = vec![0x82, 0x86, 0x84, 0x00, 1, b'x', 0x7f, 0xa9, 0x45];
    block.extend(vec![b'a'; 9000]);
    client.send(h2::frame(h2::HEADERS, 0x5, 1, &block));
    let answer = h2::until(&mut client, h2::HEADERS);
    assert_eq!(answer.stream, 1);
    // A literal under the indexed name `:status` (8 in RFC 7541 appendix A), its digits by Huffman.
    assert_eq!(answer.payload[0] & 0x0f, 8, "{answer:?}");
    assert_eq!(answer.payload[1..5], [0x83, 0x69, 0x90, 0xff], "{answer:?}");
    assert_eq!(
        running
            .script
            .begun
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[test]
fn settings_tell_the_configured_limits() {
    let running = start(|server| {
        server.http2.max_streams = 7;
        server.http2.stream_window = 32 << 10;
        server.limits.header_bytes = 9000;
    });
    let mut client = h2::plain(&running);
    let settings = h2::until(&mut client, h2::SETTINGS).payload;
    let value = |id: u8| {
        let at = settings.chunks(6).find(|entry| entry[1] == id).unwrap();
        u32::from_be_bytes(at[2..].try_into().unwrap())
    };
    assert_eq!((value(3), value(4), value(6)), (7, 32 << 10, 9000));
    assert!(
        settings.chunks(6).all(|entry| entry[1] != 8),
        "RFC 8441 is not offered"
    );
}

#[test]
fn the_largest_head_is_the_smaller_of_two_limits() {
    for (header_list, header_bytes) in [(10_000, 16_000), (16_000, 10_000)] {
        let running = start(|server| {
            server.http2.header_list = header_list;
            server.limits.header_bytes = header_bytes;
        });
        let mut client = h2::plain(&running);
        let settings = h2::until(&mut client, h2::SETTINGS).payload;
        let list = settings.chunks(6).find(|entry| entry[1] == 6).unwrap();
        assert_eq!(list[2..], 10_000u32.to_be_bytes());
    }
}

/// How much of many answers is asked for while a client gives them all room and reads none.
fn pulled_unread(send_buffer: usize) -> usize {
    let running = start(|server| server.http2.send_buffer = send_buffer);
    let mut client = h2::connect(&running, &h2::window(64 << 20));
    client.send(h2::widen(0, 1 << 30));
    for stream in 0..16 {
        client.send(h2::get(2 * stream + 1, "/big"));
    }
    running.wait_begun(16);
    let pulled = || running.script.pulled.load(SeqCst);
    let mut last = 0;
    while pulled() != last {
        last = pulled();
        std::thread::sleep(millis(300));
    }
    last
}

#[test]
fn as_much_of_an_answer_is_buffered_as_is_set_where_nobody_reads_it() {
    let (few, many) = (pulled_unread(16 << 10), pulled_unread(1 << 20));
    // Beside what the kernel buffers, which is as much for both.
    let more = many.saturating_sub(few) >> 20;
    assert!((8..24).contains(&more), "{few} and {many}");
}

#[test]
fn a_head_is_smaller_than_on_http1_since_it_costs_a_client_so_much_less() {
    let running = start(|_| {});
    let mut client = h2::plain(&running);
    let settings = h2::until(&mut client, h2::SETTINGS).payload;
    let list = settings.chunks(6).find(|entry| entry[1] == 6).unwrap();
    assert_eq!(list[2..], (32u32 << 10).to_be_bytes());
}

#[test]
fn streams_are_limited_over_all_connections_and_refused_ones_may_come_again() {
    let running = start(|server| {
        server.workers = Some(2.try_into().unwrap());
        server.http2.total_streams = 4;
    });
    let mut clients: Vec<_> = (0..2).map(|_| h2::plain(&running)).collect();
    for client in &mut clients {
        client.send(h2::get(1, "/gate")).send(h2::get(3, "/gate"));
    }
    running.wait_begun(4);
    let mut client = h2::plain(&running);
    client.send(h2::get(1, "/"));
    let refused_stream = 7;
    let reset = h2::until(&mut client, h2::RST_STREAM);
    assert_eq!((reset.stream, h2::code(&reset)), (1, refused_stream));
    assert_eq!(running.told.reasons(), [Reason::TooManyStreams]);
    running.let_through();
    let open = || {
        running
            .listeners()
            .workers()
            .iter()
            .map(|it| it.streams)
            .sum::<usize>()
    };
    eventually("a stream ends", || open() < 4);
    client.send(h2::get(3, "/worker"));
    assert_eq!(h2::body(&mut client).len(), 1);
}

#[test]
fn what_the_heads_of_waiting_requests_take_is_limited_and_comes_back() {
    // A bare GET has no fields here; one with a thousand crumbs of a cookie, in as many bytes, has.
    let running = start(|server| server.http2.total_heads = 1 << 20);
    let mut client = h2::plain(&running);
    // The crumb enters the table with the first request, and is a byte from then on.
    let crumb = [&[0x60, 1][..], b"a"].concat();
    let bomb = |stream: u32| {
        let mut block = vec![0x82, 0x86, 0x01, 1, b'a', 0x04, 5];
        block.extend(b"/gate");
        block.extend(if stream == 1 { crumb.clone() } else { vec![] });
        block.extend([0xbe; 700]);
        h2::frame(h2::HEADERS, 0x5, stream, &block)
    };
    // 700 times 200 bytes and more: the eighth goes beyond a MiB.
    for stream in 0..8 {
        client.send(bomb(2 * stream + 1));
    }
    let reset = h2::until(&mut client, h2::RST_STREAM);
    let refused_stream = 7;
    assert_eq!((reset.stream, h2::code(&reset)), (15, refused_stream));
    assert_eq!(running.told.reasons(), [Reason::TooManyStreams]);
    client.send(h2::get(17, "/worker"));
    assert_eq!(h2::body(&mut client).len(), 1, "others are served");
    running.let_through();
    assert_eq!(h2::body(&mut client), b"gated");
    running.let_through();
    client.send(bomb(19));
    assert_eq!(h2::body(&mut client), b"gated");
    assert_eq!(running.told.reasons(), [Reason::TooManyStreams]);
}

#[test]
fn a_quiet_client_that_does_not_answer_pings_is_dropped() {
    let running = start(|server| {
        server.http2.ping_interval = millis(50);
        server.http2.ping_timeout = millis(50);
    });
    let mut client = h2::plain(&running);
    client.send(h2::get(1, "/hang"));
    eventually("the abort arrives", || running.aborted() == 1);
    eventually("the connection is dropped", || running.connections() == 0);
    assert_eq!(running.told.reasons(), []);
}
