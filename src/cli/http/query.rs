//! Paths and queries: percent-encoded once, and decoded once.

use std::collections::BTreeMap;

use super::reply::Fault;

/// The parameters of a request, each of which is to be taken.
#[derive(Debug)]
pub(super) struct Query(BTreeMap<String, String>);

/// Entries of a page, if nothing is said about it.
const USUAL_LIMIT: usize = 100;
const LARGEST_LIMIT: usize = 1000;

impl Query {
    pub(super) fn parse(text: Option<&str>) -> Result<Query, Fault> {
        let mut parameters = BTreeMap::new();
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name)?;
            if parameters.contains_key(&name) {
                return Err(Fault::bad(format!("the parameter {name:?} is there twice")));
            }
            parameters.insert(name, decode(value)?);
        }
        Ok(Query(parameters))
    }

    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    /// A parameter that is parsed.
    pub(super) fn take_as<T: std::str::FromStr>(&mut self, name: &str, what: &str) -> Result<Option<T>, Fault> {
        let wrong = |_| Fault::bad(format!("{name:?} is {what}"));
        self.take(name).map(|text| text.parse().map_err(wrong)).transpose()
    }

    /// `true` or `false`.
    pub(super) fn take_switch(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        self.take_as(name, "true or false")
    }

    /// How many entries a page has.
    pub(super) fn take_limit(&mut self) -> Result<usize, Fault> {
        match self.take_as("limit", "1 to 1000")?.unwrap_or(USUAL_LIMIT) {
            limit @ 1..=LARGEST_LIMIT => Ok(limit),
            _ => Err(Fault::bad("\"limit\" is 1 to 1000")),
        }
    }

    /// To be called when all that is known has been taken: a parameter with a slip in its name must not be without effect.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.0.into_keys().next() {
            Some(name) => Err(Fault::bad(format!("there is no parameter {name:?}"))),
            None => Ok(()),
        }
    }
}

/// Text without percent-encoding. A `+` is a plus sign, as it is in Topic Filters.
pub(super) fn decode(text: &str) -> Result<String, Fault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.split_first_chunk::<2>();
        let decoded = digits.and_then(|([high, low], behind)| Some((hex(*high)? << 4 | hex(*low)?, behind)));
        let (decoded, behind) = decoded.ok_or_else(|| Fault::bad("a % is not followed by two hexadecimal digits"))?;
        bytes.push(decoded);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| Fault::bad("what is percent-encoded is not UTF-8"))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_taken_away_once() {
        for (text, decoded) in [
            ("a+b", "a+b"),
            ("a%2fb%23", "a/b#"),
            ("%252e", "%2e"),
            ("%C3%A9", "é"),
            ("", ""),
        ] {
            assert_eq!(decode(text).ok().as_deref(), Some(decoded), "{text}");
        }
        for text in ["%", "%2", "%zz", "%+1", "%ff", "%c3"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn parameters_are_known_and_given_once() {
        let mut query = Query::parse(Some("limit=7&filter=a%2F%2B&connected=true")).expect("is right");
        assert_eq!(query.take_limit().ok(), Some(7));
        assert_eq!(query.take("filter").as_deref(), Some("a/+"));
        assert_eq!(query.take_switch("connected").ok(), Some(Some(true)));
        assert_eq!(query.take("other"), None);
        assert!(query.finish().is_ok());
        assert!(Query::parse(Some("a=1&%61=2")).is_err());
        assert!(Query::parse(Some("a=1")).is_ok_and(|query| query.finish().is_err()));
        for limit in ["0", "1001", "-1", "x", ""] {
            let query = Query::parse(Some(&format!("limit={limit}")));
            assert!(query.is_ok_and(|mut query| query.take_limit().is_err()), "{limit}");
        }
    }
}
