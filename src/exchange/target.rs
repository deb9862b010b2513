//! The normal form of a request's path: what the router matches is what the upstream gets.
//!
//! A path that can be spelt in several ways walks past the route that guards it: the gateway reads
//! `/public/%2e%2e/admin` as public, the server behind it reads `/admin`. So one form is chosen
//! before routing (RFC 3986 section 6.2.2), routed on and forwarded, and what has no single meaning
//! is refused.
//!
//! What other programs read into a path, and what is done about it here:
//!
//! - **Everybody** resolves `..`, also after decoding `%2e`: resolved here first, above the root
//!   refused. nginx and Tomcat collapse `//`, others don't: collapsed.
//! - **nginx, Tomcat, Node** decode `%2F`; **IIS, Tomcat** take `\` and `%5C` for `/`: raw
//!   backslashes are refused, the escapes reported ([`Normalised::encoded_slash`]) and refused
//!   unless the route keeps them, and even then not around a dot segment (`..%2Fadmin`).
//! - **Tomcat, Jetty** cut `;parameters` off before resolving dots: `/public/..;/admin` is `/admin`
//!   there. A dot segment with a parameter is refused. Any other `;` is an ordinary character, but
//!   `/admin;x` and `/;x/admin` are `/admin` there too: where that is another route's path
//!   ([`without_parameters`]), the router tells, and the request is refused.
//! - **Old IIS and Java** decode overlong UTF-8 (`%C0%AE` is a dot) and `%u002e`: refused.
//! - **C programs** end a path at `%00`; logs and headers break at other control characters: refused.
//! - **A server that decodes twice** sees `%252e` as a dot. `%25` is never decoded here: what arrives
//!   encoded twice leaves encoded twice.

use std::borrow::Cow;

use http::uri::PathAndQuery;

/// What [`normalise`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Normalised {
    /// The normal form, with the query as it came; `None` when the target already has it.
    pub changed: Option<PathAndQuery>,
    /// The path came with `%2F` or `%5C`. They stay encoded in the normal form; it is to be refused
    /// after routing unless the route says `encoded_slash = "keep"`.
    pub encoded_slash: bool,
}

/// Why a target has no single meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It does not begin with a slash.
    #[error("the target is not a path")]
    NotAPath,
    /// A byte that may not stand unescaped.
    #[error("the target contains a character that must be escaped")]
    ForbiddenByte,
    /// `%` without two hexadecimal digits.
    #[error("the path contains a malformed percent escape")]
    MalformedEscape,
    /// The escape of a control character, `%00` included.
    #[error("the path contains an escaped control character")]
    ControlEscape,
    /// UTF-8 that is longer than it must be: a hidden dot or slash.
    #[error("the path contains overlong UTF-8")]
    OverlongEscape,
    /// More `..` than segments before it.
    #[error("the path leads above the root")]
    AboveRoot,
    /// `.` or `..` with a path parameter or beside an encoded slash.
    #[error("the path hides a dot segment")]
    HiddenDotSegment,
    /// The normal form is longer than a target may be.
    #[error("the target is too long")]
    TooLong,
}

/// Brings the path of an origin-form target into its normal form.
///
/// Escapes of unreserved characters are decoded, the hexadecimal digits of others upper-cased,
/// characters that clients send raw though RFC 3986 forbids it (`"[]^{|}`) escaped, dot segments
/// resolved and empty segments removed. The query stays as it is. A path that is normal already
/// costs one scan, no copy and no allocation.
///
/// `*` (`OPTIONS *`) is no path: the caller sorts it out first.
///
/// # Errors
///
/// A [`TargetError`] when the target has no single meaning, or not one that a gateway should pass on.
pub fn normalise(target: &PathAndQuery) -> Result<Normalised, TargetError> {
    let path = target.path();
    if !path.starts_with('/') {
        return Err(TargetError::NotAPath);
    }
    check_query(target.query().unwrap_or_default())?;
    let scan = Scan::of(path.as_bytes())?;
    let mut normal = Cow::Borrowed(path);
    if scan.respell {
        normal = Cow::Owned(respell(path));
    }
    if (scan.inspect || scan.respell) && has_removable_segments(&normal)? {
        normal = Cow::Owned(remove_segments(&normal)?);
    }
    // `http://host?query` has an empty path, which `PathAndQuery` shows as `/` but does not hold.
    let has_path = target.as_str().starts_with('/');
    let changed = match normal {
        Cow::Borrowed(_) if has_path => None,
        normal => Some(assemble(&normal, target.query())?),
    };
    Ok(Normalised {
        changed,
        encoded_slash: scan.encoded_slash,
    })
}

/// A path with its query in its normal form; what has none stays as it is.
#[must_use]
pub fn plain(text: &str) -> String {
    let target = text.parse::<PathAndQuery>().ok();
    let changed = target.and_then(|target| normalise(&target).ok()?.changed);
    changed.map_or_else(|| text.to_owned(), |target| target.as_str().to_owned())
}

/// The path that servers see which cut parameters off (RFC 3986 section 3.3): each segment up to its
/// first semicolon, escaped or not, and none that is empty then. `None` where no segment has one.
///
/// The path must be in its normal form.
#[must_use]
pub fn without_parameters(path: &str) -> Option<String> {
    // Most paths have neither, and cost one look.
    memchr::memchr2(b';', b'%', path.as_bytes())?;
    if !path.contains(';') && !path.contains("%3B") {
        return None;
    }
    let mut out = String::with_capacity(path.len());
    let mut last = "";
    for segment in path.split('/') {
        last = without_parameter(segment);
        if !last.is_empty() {
            out.push('/');
            out.push_str(last);
        }
    }
    if last.is_empty() {
        out.push('/');
    }
    Some(out)
}

fn without_parameter(segment: &str) -> &str {
    let plain = segment.split(';').next().unwrap_or_default();
    plain.split("%3B").next().unwrap_or_default()
}

/// What one pass over a path's bytes tells.
#[derive(Debug, Default)]
struct Scan {
    /// An escape or a character has to be spelt otherwise.
    respell: bool,
    /// The segments have to be looked at.
    inspect: bool,
    encoded_slash: bool,
}

impl Scan {
    fn of(path: &[u8]) -> Result<Self, TargetError> {
        let mut scan = Self::default();
        let mut after_slash = false;
        let mut index = 0;
        while let Some(&byte) = path.get(index) {
            let class = CLASSES[usize::from(byte)];
            match class {
                Class::Plain => {}
                Class::Slash | Class::Dot => scan.inspect |= after_slash,
                Class::Percent => {
                    scan.escape(&path[index + 1..])?;
                    index += 2;
                }
                Class::Escape => scan.respell = true,
                Class::Refuse => return Err(TargetError::ForbiddenByte),
            }
            after_slash = class == Class::Slash;
            index += 1;
        }
        Ok(scan)
    }

    /// Looks at one escape; `digits` begins behind its `%`.
    fn escape(&mut self, digits: &[u8]) -> Result<(), TargetError> {
        let byte = decode(digits).ok_or(TargetError::MalformedEscape)?;
        match byte {
            0..=0x1f | 0x7f => return Err(TargetError::ControlEscape),
            b'/' | b'\\' => {
                self.encoded_slash = true;
                self.inspect = true;
            }
            _ if is_unreserved(byte) => self.respell = true,
            _ if is_overlong(byte, &digits[2..]) => return Err(TargetError::OverlongEscape),
            _ => {}
        }
        self.respell |= digits[..2].iter().any(u8::is_ascii_lowercase);
        Ok(())
    }
}

/// RFC 3986 section 3.4, and what browsers add to it; everything printable passes.
fn check_query(query: &str) -> Result<(), TargetError> {
    if query.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err(TargetError::ForbiddenByte)
}

/// The value of the two hexadecimal digits at the beginning.
fn decode(digits: &[u8]) -> Option<u8> {
    let digit = |index: usize| char::from(*digits.get(index)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

/// Whether an escaped byte and the escape behind it begin a UTF-8 sequence that a shorter one could
/// replace (RFC 3629 section 3). Other bytes that are not UTF-8 pass: Latin-1 paths exist.
fn is_overlong(byte: u8, behind: &[u8]) -> bool {
    let Some(next) = behind.strip_prefix(b"%").and_then(decode) else {
        return false;
    };
    match byte {
        0xc0 | 0xc1 => (0x80..=0xbf).contains(&next),
        0xe0 => (0x80..=0x9f).contains(&next),
        0xf0 => (0x80..=0x8f).contains(&next),
        _ => false,
    }
}

/// Spells every character in its one way (RFC 3986 sections 6.2.2.1 and 6.2.2.2). The path has been
/// scanned: escapes are well formed.
fn respell(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(bytes.len() + 16);
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        match CLASSES[usize::from(byte)] {
            Class::Percent => {
                let value = decode(&bytes[index + 1..]).unwrap_or(b'%');
                if is_unreserved(value) {
                    out.push(char::from(value));
                } else {
                    push_escape(&mut out, value);
                }
                index += 2;
            }
            Class::Escape => push_escape(&mut out, byte),
            _ => out.push(char::from(byte)),
        }
        index += 1;
    }
    out
}

fn push_escape(out: &mut String, byte: u8) {
    out.push('%');
    for nibble in [byte >> 4, byte & 0xf] {
        out.push(char::from(HEX[usize::from(nibble)]));
    }
}

/// Whether there are empty or dot segments; refuses dot segments in disguise.
fn has_removable_segments(path: &str) -> Result<bool, TargetError> {
    let mut found = path.contains("//");
    for segment in path.split('/') {
        if is_dot_segment(segment) {
            found = true;
        } else if hides_dot_segment(segment) {
            return Err(TargetError::HiddenDotSegment);
        }
    }
    Ok(found)
}

fn is_dot_segment(segment: &str) -> bool {
    segment == "." || segment == ".."
}

/// Whether some server would see a dot segment in it: after decoding a slash, or after cutting a
/// path parameter off.
fn hides_dot_segment(segment: &str) -> bool {
    let mut parts = segment.split("%2F").flat_map(|part| part.split("%5C"));
    parts.any(|part| is_dot_segment(without_parameter(part)))
}

/// Removes dot segments (RFC 3986 section 5.2.4) and empty segments; a slash at the end stays.
fn remove_segments(path: &str) -> Result<String, TargetError> {
    let mut out = String::with_capacity(path.len());
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                let parent = out.rfind('/').ok_or(TargetError::AboveRoot)?;
                out.truncate(parent);
            }
            _ => {
                out.push('/');
                out.push_str(segment);
            }
        }
    }
    let last = path.rsplit('/').next().unwrap_or_default();
    if last.is_empty() || is_dot_segment(last) {
        out.push('/');
    }
    Ok(out)
}

fn assemble(path: &str, query: Option<&str>) -> Result<PathAndQuery, TargetError> {
    let mut target = String::with_capacity(path.len() + query.map_or(0, |query| query.len() + 1));
    target.push_str(path);
    if let Some(query) = query {
        target.push('?');
        target.push_str(query);
    }
    // Only characters that `http` takes are left, so what it can still refuse is the length.
    PathAndQuery::try_from(target).map_err(|_| TargetError::TooLong)
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `pchar` of RFC 3986 section 3.3 but for the dot and escapes.
    Plain,
    Slash,
    Dot,
    Percent,
    /// Sent raw by browsers and other clients, and let through by `http`.
    Escape,
    Refuse,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Refuse; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        classes[byte as usize] = class_of(byte);
        byte += 1;
    }
    classes
};

const fn class_of(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'.' => Class::Dot,
        b'%' => Class::Percent,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':'
        | b'@' => Class::Plain,
        b'"' | b'[' | b']' | b'^' | b'{' | b'|' | b'}' => Class::Escape,
        _ if is_unreserved(byte) => Class::Plain,
        _ => Class::Refuse,
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

#[cfg(test)]
mod tests;
