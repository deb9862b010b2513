//! `[log]`: the application log and the access log.

use std::path::PathBuf;

use http::{HeaderName, header::REFERER};

use super::{
    auth::{Auth, CredentialPlace},
    decode::{
        Choice, Flag, Format, Node, OneOrList, OptionOf, Problem, Reader, Set, Share, Show, Sub,
        TableNode, Word, nearest, quoted, table,
    },
    diagnostic::Finding,
    header::{FieldName, is_credential},
};

table! {
    /// `[log]`: the application log.
    #[derive(Clone, Debug)]
    pub struct Log ["log"] {
        /// `level`: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,tollgate::upstream=debug`.
        pub level: String => Level = "info".to_owned(),
        /// `access`: one line a request.
        pub access: AccessLog => Sub<AccessLog> = AccessLog::default(); "see there",
    }
}

/// What becomes of a query's values in the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueryLogging {
    /// Names are kept, values become `***`.
    #[default]
    Mask,
    /// As it came.
    Keep,
    /// The query is left out.
    Drop,
}

impl Word for QueryLogging {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("mask", Self::Mask),
        ("keep", Self::Keep),
        ("drop", Self::Drop),
    ];
}

/// How a line of the access log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
}

impl Word for LogFormat {
    const WORDS: &'static [(&'static str, Self)] = &[("json", Self::Json)];
}

table! {
    /// `[log.access]`: one line a request.
    #[derive(Clone, Debug)]
    pub struct AccessLog ["log.access", check check_access] {
        /// `enabled`: whether there is an access log.
        pub enabled: bool => Flag = true,
        /// `format`: `json`, which is the only one: a file can say what it counts on.
        pub format: LogFormat => Choice<LogFormat> = LogFormat::Json,
        /// `file`: reopened on SIGUSR1; standard output by default.
        pub file: Option<PathBuf> => OptionOf<FilePath> = None; "standard output",
        /// `sample`: the share of requests that is logged, 0.0 to 1.0; errors (5xx and every refusal)
        /// always are.
        pub sample: f64 => Share = 1.0,
        /// `query`: `mask` (names stay, values become `***`), `keep` or `drop`.
        pub query: QueryLogging => Choice<QueryLogging> = QueryLogging::Mask,
        /// `request_headers`: more request header fields to log; credentials are refused here.
        pub request_headers: Vec<HeaderName> => LoggedHeaders = Vec::new(),
    }
}

fn check_access(access: &AccessLog, table: TableNode<'_>, reader: &mut Reader<'_>) {
    if access.enabled && access.sample == 0.0 {
        let place = table.value_place("sample", reader);
        let finding = Finding::warning(place, "`sample`: only errors are logged")
            .help("write `enabled = false` for no access log, or a share such as `0.01`");
        reader.report(finding);
    }
}

/// Credentials are never logged, wherever `[auth.*]` looks for them.
pub(super) fn check_credentials(log: Option<&Set<Log>>, auth: &Auth, findings: &mut Vec<Finding>) {
    let Some((set, log)) = log.and_then(|set| Some((set, set.value.as_ref()?))) else {
        return;
    };
    let (access, places) = (&log.access, auth.credential_places());
    let mut report = |message: String, help: &str| {
        findings.push(Finding::error(set.place, message).help(help));
    };
    for (place, name) in &places {
        match place {
            CredentialPlace::Header(header) if access.request_headers.contains(header) => {
                let message = format!(
                    "`request_headers` of the access log has `{header}`, in which `[auth.{name}]` gets credentials"
                );
                report(message, "credentials are never logged: take it out");
            }
            CredentialPlace::Query(_) if access.query == QueryLogging::Keep => {
                let message = format!(
                    "`query = \"keep\"` of the access log would log the credentials of `[auth.{name}]`, which stand in the query"
                );
                report(
                    message,
                    "write `query = \"mask\"`, or take the query out of `from`",
                );
            }
            CredentialPlace::Query(_) if access.request_headers.contains(&REFERER) => {
                let message = format!(
                    "`request_headers` of the access log has `referer`: the address of a page may hold credentials of `[auth.{name}]` in its query"
                );
                report(message, "credentials are never logged: take it out");
            }
            _ => {}
        }
    }
}

struct Level;

impl Format for Level {
    type Value = String;

    fn expected() -> String {
        "a level such as \"info\", or \"info,tollgate::upstream=debug\"".to_owned()
    }

    fn example() -> String {
        "\"debug\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| {
            text.split(',').try_for_each(directive)?;
            Ok(text.to_owned())
        })
    }
}

impl Show for Level {
    fn show(value: &String) -> String {
        quoted(value)
    }
}

/// One part of `level`: a level, or `target=level`.
fn directive(text: &str) -> Result<(), Problem> {
    let (target, level) = text.rsplit_once('=').unwrap_or(("tollgate", text));
    let in_target = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    if !target.chars().all(in_target) || target.is_empty() {
        return Err(Problem::plain());
    }
    if LEVELS.contains(&level) {
        return Ok(());
    }
    Err(match nearest(level, LEVELS.into_iter()) {
        Some(near) => Problem::plain().help(format!("did you mean `{near}`?")),
        None => Problem::plain().help(format!("one of {}", LEVELS.join(", "))),
    })
}

struct FilePath;

impl Format for FilePath {
    type Value = PathBuf;

    fn expected() -> String {
        "the path of a file".to_owned()
    }

    fn example() -> String {
        "\"/var/log/tollgate/access.log\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<PathBuf> {
        reader.parse(node, &Self::expected(), |text| match text {
            "" => Err(Problem::plain().help("leave `file` out for standard output")),
            text if text.contains('\0') => Err(Problem::plain()),
            text => Ok(PathBuf::from(text)),
        })
    }
}

struct LoggedHeaders;

impl Format for LoggedHeaders {
    type Value = Vec<HeaderName>;

    fn expected() -> String {
        "a list of header names such as [\"user-agent\"]".to_owned()
    }

    fn example() -> String {
        "[\"user-agent\"]".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<HeaderName>> {
        OneOrList::<LoggedHeader>::read(node, reader)
    }
}

impl Show for LoggedHeaders {
    fn show(value: &Vec<HeaderName>) -> String {
        let all: Vec<_> = value.iter().map(|name| quoted(name.as_str())).collect();
        format!("[{}]", all.join(", "))
    }
}

struct LoggedHeader;

impl Format for LoggedHeader {
    type Value = HeaderName;

    fn expected() -> String {
        FieldName::expected()
    }

    fn example() -> String {
        FieldName::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<HeaderName> {
        let name = FieldName::read(node, reader)?;
        if is_credential(&name) {
            let problem = Problem::what("credentials are never logged");
            return reader.refuse(node, &Self::expected(), problem);
        }
        Some(name)
    }
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_may_be_said_per_target() {
        assert!(directive("info").is_ok());
        assert!(directive("tollgate::upstream=debug").is_ok());
        assert_eq!(
            directive("wran").unwrap_err().help.as_deref(),
            Some("did you mean `warn`?")
        );
        assert!(directive("verbose").is_err());
        assert!(directive("=info").is_err());
    }
}
