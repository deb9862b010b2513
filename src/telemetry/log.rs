//! The application log: `tracing` events as lines of JSON, in the access log's shape.
//!
//! It goes to standard error, one write a line, so that it never mixes with an access log on
//! standard output. A thread of its own writes it: where nobody takes standard error, lines are lost
//! once [`WAITING`] of them wait, and counted, and no worker stops for them. Event fields stand beside `timestamp`, `level`, `message` and `target`, under
//! the names of the access log (`request_id`, `upstream`, ...).

use std::{fmt, io, sync::Arc, time::SystemTime};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt,
};

use crate::config;

use super::{json::Object, timestamp::rfc3339};

/// Changes the level of the running log.
///
/// When the last clone is dropped, what waits is written, within about a second, and the log ends.
#[derive(Clone, Debug)]
pub struct LogHandle {
    level: reload::Handle<EnvFilter, Registry>,
    lost: ErrorCounter,
    _writer: Arc<WorkerGuard>,
}

impl LogHandle {
    /// How many lines were lost because nobody took them in time.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.dropped_lines() as u64
    }

    /// Takes over the level of a reloaded configuration.
    ///
    /// A level that can't be read leaves the old one: checking it is the configuration's business.
    pub fn apply(&self, config: &config::Log) {
        let changed = filter(config).map(|filter| self.level.reload(filter));
        if !matches!(changed, Some(Ok(()))) {
            tracing::warn!(level = config.level, "the log level could not be changed");
        }
    }
}

/// Sets up the process's application log. The first call wins; a later one changes the level of
/// nothing and its handle is idle.
#[must_use]
pub fn init(config: &config::Log) -> LogHandle {
    let filter = filter(config).unwrap_or_else(|| EnvFilter::new("info"));
    let (filter, level) = reload::Layer::new(filter);
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(io::stderr());
    let lost = writer.error_counter();
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Lines)
        .with_writer(writer)
        .with_filter(filter);
    // An embedding program may have set up its own log: then that one is used.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    LogHandle {
        level,
        lost,
        _writer: Arc::new(guard),
    }
}

fn filter(config: &config::Log) -> Option<EnvFilter> {
    EnvFilter::try_new(&config.level).ok()
}

/// Formats an event as one JSON object.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let line = line(event, SystemTime::now());
        writer.write_str(&String::from_utf8_lossy(&line))
    }
}

fn line(event: &Event<'_>, now: SystemTime) -> Vec<u8> {
    let metadata = event.metadata();
    let mut out = Vec::with_capacity(256);
    let mut object = Object::begin(&mut out);
    object.text("timestamp", &rfc3339(now), usize::MAX);
    object.word("level", level(*metadata.level()));
    let mut message = Message(String::new());
    event.record(&mut message);
    object.text("message", message.0.as_bytes(), LONGEST);
    object.word("target", metadata.target());
    event.record(&mut Fields(&mut object));
    object.end();
    out.push(b'\n');
    out
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Picks out the event's message.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

/// Writes the event's other fields.
struct Fields<'a, 'b>(&'a mut Object<'b>);

impl Fields<'_, '_> {
    fn text(&mut self, field: &Field, value: &str) {
        self.0.text(name(field), value.as_bytes(), LONGEST);
    }
}

impl Visit for Fields<'_, '_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            self.text(field, &format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != "message" {
            self.text(field, value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.number(name(field), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        let out = self.0.name(name(field));
        out.extend_from_slice(value.to_string().as_bytes());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no NaN and no infinity.
        let text = serde_json::Number::from_f64(value).map(|number| number.to_string());
        let out = self.0.name(name(field));
        out.extend_from_slice(text.as_deref().unwrap_or("null").as_bytes());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        let text = if value { "true" } else { "false" };
        self.0.name(name(field)).extend_from_slice(text.as_bytes());
    }
}

/// A field's name: an identifier in our code, but a string literal is allowed by the macros, and
/// a foreign crate may call a field as one of the line's own.
fn name(field: &Field) -> &str {
    let name = field.name();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-".contains(byte);
    match name {
        "timestamp" | "level" | "target" => "field",
        _ if name.as_bytes().iter().all(plain) => name,
        _ => "field",
    }
}

/// The most lines that wait to be written.
const WAITING: usize = 4096;
/// The longest text of one field.
const LONGEST: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    /// Takes the lines that a test logs.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .event_format(super::Lines)
            .with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, log);
        let bytes = lines.0.lock().unwrap();
        let lines = bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn an_event_is_one_line_with_its_fields_beside_the_message() {
        let lines = logged(|| {
            tracing::warn!(
                upstream = "orders",
                tries = 3_u64,
                left = -1_i64,
                share = 0.5,
                nothing = f64::NAN,
                ok = false,
                shown = %"a\nb",
                "it is {}", "so"
            );
        });
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        let timestamp = line["timestamp"].as_str().unwrap();
        assert_eq!(timestamp.len(), 27);
        assert_eq!(line["level"], "warn");
        assert_eq!(line["message"], "it is so");
        assert_eq!(line["target"], module_path!());
        assert_eq!(line["upstream"], "orders");
        assert_eq!(line["tries"], 3);
        assert_eq!(line["left"], -1);
        assert_eq!(line["share"], 0.5);
        assert_eq!(line["nothing"], Value::Null);
        assert_eq!(line["ok"], false);
        assert_eq!(line["shown"], "a\nb");
    }

    #[test]
    fn an_event_without_a_message_is_a_line_too() {
        let lines = logged(|| tracing::info!(level = "odd", "strange \" name" = 1));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["level"], "info");
        assert_eq!(lines[0]["message"], "");
    }

    #[test]
    fn a_level_that_can_not_be_read_is_no_filter() {
        let config = |level: &str| config::Log {
            level: level.to_owned(),
            ..config::Log::default()
        };
        assert!(filter(&config("info,tollgate::upstream=debug")).is_some());
        assert!(filter(&config("tollgate=loud")).is_none());
    }
}
