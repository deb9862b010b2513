//! What is given up when a Redis is away for long, by a clock that does not wait.

// Tests of whole gateways use the rest of it, and those of the script use it too.
#[allow(dead_code, unreachable_pub, clippy::duplicate_mod)]
#[path = "../../../../tests/support/redis.rs"]
mod server;

use std::thread;

use super::*;
use crate::{
    config::Config,
    pipeline::{
        Tools,
        cache::{Lineage, Sharing, fetch::tests::tools},
    },
};
use server::RedisServer;

const TEXT: &str = "[redis]\nurl = 'redis://127.0.0.1:1'\n[cache]\nmemory = '4MiB'\n\
                    max_object = '64KiB'\n[routes.a]\nupstream = 'http://127.0.0.1:1'\n\
                    cache = { store = 'redis' }\n";

/// What caches that come one after another have, and a Redis that is away.
struct Process {
    config: Config,
    tools: Tools,
    lineage: Arc<Lineage>,
}

impl Process {
    fn start() -> Self {
        Self {
            config: parsed(TEXT),
            tools: tools(),
            lineage: Arc::default(),
        }
    }

    fn redis(&self) -> Arc<Redis> {
        self.redis_of(&self.config)
    }

    /// One that is there.
    fn redis_at(&self, server: &RedisServer) -> Arc<Redis> {
        let text = TEXT.replace("redis://127.0.0.1:1", &server.url());
        self.redis_of(&parsed(&text))
    }

    fn redis_of(&self, config: &Config) -> Arc<Redis> {
        let config = config.redis.as_ref().expect("it is configured");
        Redis::new(config, 1, self.tools.metrics.redis(), &self.tools.control)
    }

    /// The cache of a reload.
    fn cache(&self, redis: &Arc<Redis>) -> Arc<Cache> {
        self.cache_with(redis, false)
    }

    /// The same; `anew` behind a configuration that shared no answers.
    fn cache_with(&self, redis: &Arc<Redis>, anew: bool) -> Arc<Cache> {
        let cache = self.made(redis, anew);
        cache.take_effect();
        cache
    }

    /// That of a reload that may still be refused.
    fn made(&self, redis: &Arc<Redis>, anew: bool) -> Arc<Cache> {
        let sharing = Sharing {
            redis,
            answers: true,
            anew,
        };
        Cache::from_config(
            &self.config.cache,
            &self.tools,
            &self.lineage,
            Some(sharing),
        )
    }

    /// Purges of which Redis is still to be told.
    fn owes(&self) -> usize {
        self.lineage
            .owed()
            .expect("a cache has shared")
            .untold
            .len()
    }

    /// A reload leaves no cache behind that has changed a URL, and for long none comes.
    async fn gives_up(&self, cache: Arc<Cache>) {
        cache.invalidate(&url());
        self.forsakes(cache).await;
    }

    /// The same of one that owes something already.
    async fn forsakes(&self, cache: Arc<Cache>) {
        assert_eq!(self.owes(), 1);
        drop(cache);
        sleep(LONGEST_DEBT - MINUTE).await;
        assert_eq!(self.owes(), 1, "it is still tried");
        sleep(2 * MINUTE).await;
        assert_eq!(self.owes(), 0);
    }
}

fn parsed(text: &str) -> Config {
    let loaded = Config::parse("test.toml", text);
    loaded
        .unwrap_or_else(|findings| panic!("{findings}"))
        .config
}

fn url() -> Aim {
    Aim::Url {
        host: "a.test".into(),
        target: "/a".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_redis_again_purges_everything_where_telling_it_was_given_up() {
    let process = Process::start();
    let redis = process.redis();
    process.gives_up(process.cache(&redis)).await;
    let _next = process.cache(&redis);
    assert_eq!(process.owes(), 1);
    // That is to be told like any other, and makes good for what was before.
    let _third = process.cache(&redis);
    assert_eq!(process.owes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_refused_tells_nothing_and_makes_good_for_nothing() {
    let process = Process::start();
    let redis = process.redis();
    process.gives_up(process.cache(&redis)).await;
    for _ in 0..3 {
        drop(process.made(&redis, true));
        drop(process.made(&process.redis(), true));
    }
    assert_eq!(process.owes(), 0);
    let next = process.cache(&redis);
    assert_eq!(process.owes(), 1);
    next.take_effect();
    assert_eq!(process.owes(), 1, "a reload that keeps it");
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_is_not_forgotten_while_other_redises_come_and_go() {
    let process = Process::start();
    let first = process.redis();
    process.gives_up(process.cache(&first)).await;
    // They may all be one, for all that a gateway knows.
    for _ in 0..3 {
        let other = process.cache(&process.redis());
        process.forsakes(other).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_given_up_counts_no_more_when_a_redis_was_told_to_purge_everything() {
    let process = Process::start();
    process.gives_up(process.cache(&process.redis())).await;
    tokio::time::resume();
    let server = RedisServer::start();
    let _next = process.cache(&process.redis_at(&server));
    assert_eq!(process.owes(), 1);
    let told = async {
        while process.owes() > 0 {
            sleep(AGAIN).await;
        }
    };
    timeout(PATIENCE, told).await.expect("Redis is there");
    let _third = process.cache(&process.redis_at(&server));
    assert_eq!(process.owes(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_comes_in_time_takes_over_what_is_to_be_told() {
    let process = Process::start();
    let redis = process.redis();
    let cache = process.cache(&redis);
    cache.invalidate(&url());
    drop(cache);
    sleep(LONGEST_DEBT - MINUTE).await;
    let _next = process.cache(&redis);
    sleep(2 * LONGEST_DEBT).await;
    assert_eq!(process.owes(), 1, "it is told for as long as it takes");
}

#[tokio::test(start_paused = true)]
async fn who_shares_answers_again_purges_everything_and_who_does_so_first_nothing() {
    let process = Process::start();
    let redis = process.redis();
    drop(process.cache_with(&redis, true));
    assert_eq!(process.owes(), 0);
    drop(process.cache(&redis));
    assert_eq!(process.owes(), 0, "without a gap");
    let _again = process.cache_with(&redis, true);
    assert_eq!(process.owes(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_shares_answers_behind_a_cache_of_its_own_purges_everything() {
    let process = Process::start();
    let redis = process.redis();
    let own = Cache::from_config(
        &process.config.cache,
        &process.tools,
        &process.lineage,
        None,
    );
    // It may still be refused.
    drop(process.made(&redis, true));
    own.take_effect();
    drop(own);
    // Also where no cache stands between.
    let cache = process.cache_with(&redis, true);
    assert_eq!(process.owes(), 1);
    drop(cache);
    let _next = process.cache(&redis);
    assert_eq!(process.owes(), 1, "once");
}

/// A change that waits to be announced while a reload makes a cache.
#[tokio::test(start_paused = true)]
async fn a_change_reaches_a_cache_that_is_made_while_it_is_announced() {
    let process = Process::start();
    let redis = process.redis();
    let cache = process.cache(&redis);
    let owed = process.lineage.owed().expect("it shares");
    let mut next = None;
    thread::scope(|scope| {
        owed.log.announce(|| {
            scope.spawn(|| cache.invalidate(&url()));
            // Who would look for newer caches first has found none by now.
            thread::sleep(Duration::from_millis(50));
            next = Some(process.cache(&redis));
            1
        });
    });
    assert!(next.is_some());
    assert_eq!(process.owes(), 2, "each of the two tells it");
}

const MINUTE: Duration = Duration::from_secs(60);
/// How long what takes a moment is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
