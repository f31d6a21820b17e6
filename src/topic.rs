//! Topic Names and Topic Filters (section 4.7), and the Topic Filters of Shared Subscriptions (section 4.8.2).
//!
//! Names and filters are compared byte by byte: no normalization [MQTT-4.7.3-4], no case folding, and an empty level
//! is a level like any other. `/`, `+` and `#` are ASCII, and no byte of a multi-byte character is, so that all of this
//! can look at bytes.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Bytes that a UTF-8 Encoded String may have at most [MQTT-4.7.3-3].
pub const MAX_LENGTH: usize = 65_535;

const SHARE_PREFIX: &str = "$share/";

/// Why a Topic Name or a Topic Filter is not accepted, in words for whoever operates the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TopicError {
    /// No character at all [MQTT-4.7.3-1].
    Empty,
    /// More than [`MAX_LENGTH`] bytes [MQTT-4.7.3-3].
    TooLong,
    /// Not well-formed UTF-8 [MQTT-1.5.4-1].
    NotUtf8,
    /// The character U+0000 [MQTT-4.7.3-2].
    Nul,
    /// `+` or `#` in a Topic Name [MQTT-3.3.2-2].
    WildcardInName,
    /// `#` that is not the whole last level [MQTT-4.7.1-1].
    MisplacedMultiLevelWildcard,
    /// `+` that is not a whole level [MQTT-4.7.1-2].
    MisplacedSingleLevelWildcard,
    /// `$share/` without a ShareName [MQTT-4.8.2-1].
    EmptyShareName,
    /// A wildcard in the ShareName [MQTT-4.8.2-2].
    WildcardInShareName,
    /// A ShareName without a Topic Filter after it [MQTT-4.8.2-2].
    NoFilterAfterShareName,
}

impl TopicError {
    /// Whether the bytes are no valid MQTT string at all: a Malformed Packet, and not only a topic that is refused.
    #[must_use]
    pub const fn is_malformed(self) -> bool {
        matches!(self, TopicError::NotUtf8 | TopicError::Nul)
    }

    /// The same as the `Display` text, without formatting.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            TopicError::Empty => "the topic is empty",
            TopicError::TooLong => "the topic is longer than 65,535 bytes",
            TopicError::NotUtf8 => "the topic is not well-formed UTF-8",
            TopicError::Nul => "the topic contains the character U+0000",
            TopicError::WildcardInName => "a topic to publish to must not contain '+' or '#'",
            TopicError::MisplacedMultiLevelWildcard => "'#' must be the whole last level of a topic filter",
            TopicError::MisplacedSingleLevelWildcard => "'+' must be a whole level of a topic filter",
            TopicError::EmptyShareName => "the share name after '$share/' is empty",
            TopicError::WildcardInShareName => "a share name must not contain '+' or '#'",
            TopicError::NoFilterAfterShareName => "there is no topic filter after the share name",
        }
    }
}

impl fmt::Display for TopicError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for TopicError {}

/// The Topic Name in these bytes (or this `str`), if a client may publish to it.
///
/// # Errors
///
/// Says what is wrong with the name.
#[inline]
pub fn validate_name(name: &(impl AsRef<[u8]> + ?Sized)) -> Result<&str, TopicError> {
    let name = name.as_ref();
    check_length(name)?;
    let name = std::str::from_utf8(name).map_err(|_| TopicError::NotUtf8)?; // [MQTT-1.5.4-1]
    check_characters(name)?;
    Ok(name)
}

/// Checks a Topic Name that is known to be UTF-8, and is no slower than it must be.
///
/// # Errors
///
/// Says what is wrong with the name.
#[inline]
pub fn check_name(name: &str) -> Result<(), TopicError> {
    check_length(name.as_bytes())?;
    check_characters(name)
}

#[inline]
fn check_characters(name: &str) -> Result<(), TopicError> {
    if !has_unwanted(name.as_bytes()) {
        return Ok(());
    }
    check_nul(name)?;
    Err(TopicError::WildcardInName) // [MQTT-3.3.2-2] [MQTT-4.7.0-1]
}

/// Whether there is a U+0000, `+` or `#`.
///
/// Eight bytes at a time, the last eight of them possibly for the second time: a loop over bytes is three times slower,
/// because the compiler does not reliably find this.
#[inline]
fn has_unwanted(bytes: &[u8]) -> bool {
    let Some(last) = bytes.last_chunk::<8>() else {
        return bytes.iter().any(|byte| matches!(byte, 0 | b'+' | b'#'));
    };
    let (chunks, _) = bytes.as_chunks::<8>();
    let found = chunks
        .iter()
        .fold(unwanted_in(*last), |found, chunk| found | unwanted_in(*chunk));
    found != 0
}

/// Not 0 if one of these bytes is unwanted. `+` and `#` differ in one bit only.
#[inline]
const fn unwanted_in(chunk: [u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(chunk);
    let wildcard = (word & !(EACH * (b'+' ^ b'#') as u64)) ^ (EACH * b'#' as u64);
    zero_in(word) | zero_in(wildcard)
}

/// Not 0 if one of the bytes of this word is 0: only then does subtracting 1 from each byte set a highest bit that was
/// not set before.
#[inline]
const fn zero_in(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

fn check_length(bytes: &[u8]) -> Result<(), TopicError> {
    match bytes.len() {
        0 => Err(TopicError::Empty),                               // [MQTT-4.7.3-1]
        length if length > MAX_LENGTH => Err(TopicError::TooLong), // [MQTT-4.7.3-3]
        _ => Ok(()),
    }
}

fn check_nul(text: &str) -> Result<(), TopicError> {
    // [MQTT-4.7.3-2] [MQTT-1.5.4-2]
    if text.as_bytes().contains(&0) {
        Err(TopicError::Nul)
    } else {
        Ok(())
    }
}

/// A valid Topic Filter as a client subscribes to it, with or without `$share/ShareName/` before it.
///
/// Cheap to clone. Equal, ordered and hashed by the whole text, hence a map keyed by it can be asked with a `&str`.
#[derive(Clone)]
pub struct TopicFilter {
    // All else follows from it: there are many filters, and few questions about each.
    text: Arc<str>,
}

impl TopicFilter {
    /// Checks a Topic Filter and takes a copy of it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the filter.
    pub fn parse(text: &str) -> Result<TopicFilter, TopicError> {
        check_length(text.as_bytes())?;
        check_nul(text)?;
        check_wildcards(&text[filter_start(text)?..])?;
        Ok(TopicFilter { text: Arc::from(text) })
    }

    /// Where the filter starts behind `$share/ShareName/`; 0 if the subscription is not shared.
    fn start(&self) -> usize {
        filter_start(&self.text).unwrap_or_default()
    }

    /// The text, if it is all filter.
    pub(crate) fn shareable(&self) -> Option<&Arc<str>> {
        (self.start() == 0).then_some(&self.text)
    }

    /// The whole text as the client sent it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The ShareName of a Shared Subscription.
    #[must_use]
    pub fn share_name(&self) -> Option<&str> {
        let end = self.start().checked_sub(1)?;
        Some(&self.text[SHARE_PREFIX.len()..end])
    }

    /// The part that topics are matched with: all but `$share/ShareName/`.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.text[self.start()..]
    }

    /// Whether [`TopicFilter::filter`] has a wildcard; it matches exactly one Topic Name otherwise.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        has_wildcard(self.filter())
    }

    /// Levels of [`TopicFilter::filter`].
    #[must_use]
    pub fn levels(&self) -> usize {
        levels(self.filter())
    }

    /// Whether this Topic Name matches [`TopicFilter::filter`].
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        matches(self.filter(), topic)
    }
}

/// Where the filter proper starts: 0, or behind `$share/ShareName/`.
fn filter_start(text: &str) -> Result<usize, TopicError> {
    let Some(shared) = text.strip_prefix(SHARE_PREFIX) else {
        return Ok(0);
    };
    let name = shared.split('/').next().unwrap_or_default();
    if name.is_empty() {
        return Err(TopicError::EmptyShareName); // [MQTT-4.8.2-1]
    }
    if name.contains(['+', '#']) {
        return Err(TopicError::WildcardInShareName); // [MQTT-4.8.2-2]
    }
    let start = SHARE_PREFIX.len() + name.len() + 1;
    if start >= text.len() {
        return Err(TopicError::NoFilterAfterShareName); // [MQTT-4.8.2-2]
    }
    Ok(start)
}

fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let is_last = levels.peek().is_none();
        if level.contains('#') && !(level == "#" && is_last) {
            return Err(TopicError::MisplacedMultiLevelWildcard); // [MQTT-4.7.1-1]
        }
        if level.contains('+') && level != "+" {
            return Err(TopicError::MisplacedSingleLevelWildcard); // [MQTT-4.7.1-2]
        }
    }
    Ok(())
}

impl PartialEq for TopicFilter {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for TopicFilter {}

impl PartialOrd for TopicFilter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TopicFilter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for TopicFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state); // As `str`: what `Borrow<str>` promises.
    }
}

impl Borrow<str> for TopicFilter {
    fn borrow(&self) -> &str {
        &self.text
    }
}

impl AsRef<str> for TopicFilter {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicFilter({:?})", self.text)
    }
}

impl std::str::FromStr for TopicFilter {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        TopicFilter::parse(text)
    }
}

/// Whether a Topic Name matches a valid Topic Filter (without `$share/ShareName/`).
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    // [MQTT-4.7.2-1]
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = split(topic);
    for wanted in split(filter) {
        if wanted == "#" {
            return true; // Also when no level is left: `sport/#` matches `sport`.
        }
        match levels.next() {
            Some(level) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

/// Whether a filter has a wildcard. `+` and `#` in a filter are nothing else.
pub(crate) fn has_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

/// The levels of a Topic Name or Topic Filter. For the short levels that topics have, faster than `split('/')`.
pub(crate) fn split(topic: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(topic);
    std::iter::from_fn(move || {
        let (level, more) = split_first(rest?);
        rest = more;
        Some(level)
    })
}

/// The first level, and what follows the `/` after it.
pub(crate) fn split_first(topic: &str) -> (&str, Option<&str>) {
    match topic.bytes().position(|byte| byte == b'/') {
        Some(end) => (&topic[..end], Some(&topic[end + 1..])),
        None => (topic, None),
    }
}

/// Levels of a Topic Name or Topic Filter: one more than it has `/`.
#[must_use]
pub fn levels(topic: &str) -> usize {
    1 + topic.bytes().filter(|&byte| byte == b'/').count()
}

#[cfg(test)]
mod tests;
