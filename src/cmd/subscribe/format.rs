//! `-F FORMAT`: what is printed for a message, in the words of mosquitto_sub.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::json;
use crate::packet::QoS;
use crate::properties::{Properties, Property};

/// A message that has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) topic: &'a [u8],
    pub(super) payload: &'a [u8],
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// 0 for QoS 0.
    pub(super) packet_id: u16,
    pub(super) properties: Properties<'a>,
}

/// What to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(Vec<u8>),
    Field(Field),
    /// The payload behind the topic, which says so if there is none.
    Verbose,
}

/// A conversion, such as `%-10t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    letter: char,
    width: usize,
    left: bool,
    zeros: bool,
}

/// The conversions that there are.
const LETTERS: &str = "tpqrlmxXIUjACDEFPRS";
/// Most characters of a conversion.
const MOST: usize = 10_000;

impl Format {
    /// The payload alone.
    pub(super) fn payload() -> Format {
        Format(vec![Piece::Field(Field {
            letter: 'p',
            width: 0,
            left: false,
            zeros: false,
        })])
    }

    /// Topic and payload.
    pub(super) fn verbose() -> Format {
        Format(vec![Piece::Verbose])
    }

    pub(super) fn parse(text: &str) -> Result<Format, String> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            match character {
                '%' => match field(&mut rest)? {
                    None => literal.push(b'%'),
                    Some(field) => {
                        pieces.push(Piece::Literal(std::mem::take(&mut literal)));
                        pieces.push(Piece::Field(field));
                    }
                },
                '@' => match rest.next() {
                    Some('@') => literal.push(b'@'),
                    _ => {
                        return Err(
                            "-F: conversions with @ are not supported: %I or %U is the time, @@ is @".to_owned(),
                        );
                    }
                },
                '\\' => literal.push(escape(rest.next())?),
                character => literal.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        pieces.push(Piece::Literal(literal));
        pieces.retain(|piece| *piece != Piece::Literal(Vec::new()));
        Ok(Format(pieces))
    }

    pub(super) fn render(&self, out: &mut Vec<u8>, message: &Message<'_>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for piece in &self.0 {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Field(field) => field.render(out, message, now),
                Piece::Verbose => {
                    out.extend_from_slice(message.topic);
                    out.push(b' ');
                    out.extend_from_slice(if message.payload.is_empty() {
                        b"(null)"
                    } else {
                        message.payload
                    });
                }
            }
        }
    }
}

/// What stands behind a `%`; none for another `%`.
fn field(rest: &mut std::str::Chars<'_>) -> Result<Option<Field>, String> {
    let mut field = Field {
        letter: '%',
        width: 0,
        left: false,
        zeros: false,
    };
    loop {
        match rest.next() {
            Some('%') => return Ok(None),
            Some('-') if field.width == 0 => field.left = true,
            Some('0') if field.width == 0 => field.zeros = true,
            Some(digit @ '0'..='9') => {
                field.width = field.width * 10 + (u32::from(digit) - u32::from('0')) as usize;
                if field.width > MOST {
                    return Err(format!("-F: a width is at most {MOST}"));
                }
            }
            Some(letter) if LETTERS.contains(letter) => return Ok(Some(Field { letter, ..field })),
            Some(letter) => {
                return Err(format!(
                    "-F: there is no conversion %{letter}: it is one of {LETTERS}, or %%"
                ));
            }
            None => return Err("-F: a % is at the end: %% is one".to_owned()),
        }
    }
}

fn escape(character: Option<char>) -> Result<u8, String> {
    match character {
        Some('0') => Ok(0),
        Some('a') => Ok(7),
        Some('e') => Ok(27),
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('v') => Ok(11),
        Some('\\') => Ok(b'\\'),
        _ => Err(r"-F: \ stands before one of 0 a e n r t v \".to_owned()),
    }
}

impl Field {
    fn render(&self, out: &mut Vec<u8>, message: &Message<'_>, now: Duration) {
        let mut text = String::new();
        let bytes = match self.letter {
            't' => message.topic,
            'p' => message.payload,
            _ => {
                self.write(&mut text, message, now);
                text.as_bytes()
            }
        };
        let size = String::from_utf8_lossy(bytes).chars().count();
        let is_number = matches!(self.letter, 'q' | 'r' | 'l' | 'm' | 'A' | 'E' | 'F' | 'S' | 'x' | 'X');
        let padding = self.width.saturating_sub(size);
        if self.left {
            out.extend_from_slice(bytes);
            out.extend(std::iter::repeat_n(b' ', padding));
        } else {
            let fill = if self.zeros && is_number { b'0' } else { b' ' };
            out.extend(std::iter::repeat_n(fill, padding));
            out.extend_from_slice(bytes);
        }
    }

    fn write(&self, text: &mut String, message: &Message<'_>, now: Duration) {
        // Writing to a String does not fail.
        let _ = match self.letter {
            'q' => write!(text, "{}", message.qos as u8),
            'r' => write!(text, "{}", u8::from(message.retain)),
            'l' => write!(text, "{}", message.payload.len()),
            'm' => write!(text, "{}", message.packet_id),
            'x' => message.payload.iter().try_for_each(|byte| write!(text, "{byte:02x}")),
            'X' => message.payload.iter().try_for_each(|byte| write!(text, "{byte:02X}")),
            'I' => write!(text, "{}+0000", date(now)),
            'U' => write!(text, "{}.{:09}", now.as_secs(), now.subsec_nanos()),
            'j' => {
                let time = format!("{}.{:06}Z+0000", date(now), now.subsec_micros());
                json::object(text, message, &time);
                Ok(())
            }
            letter => {
                property(text, letter, message);
                Ok(())
            }
        };
    }
}

/// Nothing if the message does not have it.
fn property(text: &mut String, letter: char, message: &Message<'_>) {
    for property in message.properties.iter() {
        let _ = match (letter, property) {
            ('A', Property::TopicAlias(value)) => write!(text, "{value}"),
            ('C', Property::ContentType(value)) | ('R', Property::ResponseTopic(value)) => write!(text, "{value}"),
            ('D', Property::CorrelationData(value)) => write!(text, "{}", String::from_utf8_lossy(value)),
            ('E', Property::MessageExpiryInterval(value)) => write!(text, "{value}"),
            ('F', Property::PayloadFormatIndicator(value)) => write!(text, "{value}"),
            ('S', Property::SubscriptionIdentifier(value)) if text.is_empty() => write!(text, "{value}"),
            ('P', Property::UserProperty((name, value))) => {
                let space = if text.is_empty() { "" } else { " " };
                write!(text, "{space}{name}:{value}")
            }
            _ => Ok(()),
        };
    }
}

/// Date and time of the day, in UTC.
fn date(since_epoch: Duration) -> String {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// Year, month and day of the Gregorian calendar, of a number of days since 1970. A year is taken to begin in March, so
/// that the day that not every year has is its last, and its months follow a straight line.
fn civil(days: u64) -> (u64, u64, u64) {
    const OF_400_YEARS: u64 = 146_097;
    let days = days + 719_468;
    let (era, day) = (days / OF_400_YEARS, days % OF_400_YEARS);
    let year = (day - day / 1460 + day / 36_524 - day / (OF_400_YEARS - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8]) -> Message<'_> {
        Message {
            topic: b"a/b",
            payload,
            qos: QoS::AtLeastOnce,
            retain: true,
            packet_id: 7,
            properties: Properties::from_checked(
                b"\x03\0\x04text\x26\0\x01n\0\x01v\x26\0\x01m\0\x01w\x0B\x05\x02\0\0\0\x09",
            ),
        }
    }

    fn rendered(format: &str, payload: &[u8]) -> String {
        let mut out = Vec::new();
        let format = Format::parse(format).expect("a format");
        format.render(&mut out, &message(payload));
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn conversions() {
        for (format, expected) in [
            ("%t %p %q %r %l %m", "a/b h\u{e9} 1 1 3 7"),
            ("%x|%X", "68c3a9|68C3A9"),
            ("%C|%P|%S|%E|%A|%R|%D|%F", "text|n:v m:w|5|9||||"),
            ("100%% @@ \\\\ \\t\\n", "100% @ \\ \t\n"),
            ("|%5t|%-5t|%03l|%5p|%1p|", "|  a/b|a/b  |003|   h\u{e9}|h\u{e9}|"),
            ("", ""),
        ] {
            assert_eq!(rendered(format, "h\u{e9}".as_bytes()), expected, "{format}");
        }
    }

    #[test]
    fn what_is_no_format() {
        for format in ["%", "%5", "%J", "%.3p", "%z", "@s", "@", "\\x", "\\", "%99999t"] {
            assert!(Format::parse(format).is_err(), "{format}");
        }
    }

    #[test]
    fn the_object() {
        let text = rendered("%j", b"\"\n\xFF\x01\\");
        let (head, tail) = text.split_once("\",").expect("a time");
        assert!(head.starts_with("{\"tst\":\"2") && head.ends_with("Z+0000"), "{head}");
        assert_eq!(
            tail,
            "\"topic\":\"a/b\",\"qos\":1,\"retain\":1,\"payloadlen\":5,\"mid\":7,\"properties\":{\"content-type\":\"text\",\
             \"user-properties\":{\"n\":\"v\",\"m\":\"w\"},\"subscription-identifier\":5,\
             \"message-expiry-interval\":9},\"payload\":\"\\\"\\n\u{fffd}\\u0001\\\\\"}"
        );
        assert!(rendered("%j", b"").ends_with("\"payload\":null}"));
    }

    #[test]
    fn dates() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_399, "2000-02-28T23:59:59"),
            (951_782_400, "2000-02-29T00:00:00"),
            (1_709_251_199, "2024-02-29T23:59:59"),
            (1_767_225_599, "2025-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(date(Duration::from_secs(seconds)), expected);
        }
    }
}
