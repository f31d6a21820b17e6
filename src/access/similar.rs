//! What may be meant by a misspelt name.

/// The candidate that differs least, if that is in a letter or two, or in the sort of dashes alone.
pub(crate) fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.replace('_', "-");
    let distances = candidates.map(|candidate| (distance(&name, &candidate.replace('_', "-")), candidate));
    let found = distances.min()?;
    (found.0 <= 2 && found.0 < found.1.len()).then_some(found.1)
}

/// Letters to be put in, left out or replaced to get from one to the other.
fn distance(one: &str, other: &str) -> usize {
    // A long line is no misspelt name.
    if one.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_or_two_may_differ() {
        let nearest = |name| nearest(name, ["publish", "subscribe", "client-ids"].into_iter());
        assert_eq!(nearest("publsh"), Some("publish"));
        assert_eq!(nearest("subscribes"), Some("subscribe"));
        assert_eq!(nearest("client_ids"), Some("client-ids"));
        assert_eq!(nearest("topics"), None);
        assert_eq!(nearest(&"publish".repeat(100)), None);
    }
}
