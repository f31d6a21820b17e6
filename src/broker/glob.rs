//! Patterns for names: `*` stands for any characters, `?` for one.

/// Bytes of the longest name that a pattern with wildcards is compared with: it may take the product of their lengths,
/// and clients choose the names.
const LONGEST_NAME: usize = 1024;

/// Whether the name is as the pattern says.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    if name.len() > LONGEST_NAME {
        return pattern == name || pattern == "*";
    }
    let (mut pattern, mut name) = (pattern.chars(), name.chars());
    // Where to go on when what stands behind the last `*` does not fit here.
    let mut retry = None;
    loop {
        let (here, wanted) = (name.clone(), pattern.next());
        match (wanted, name.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                name = here;
                retry = Some((pattern.clone(), name.clone()));
                continue;
            }
            (Some('?'), Some(_)) => continue,
            (Some(wanted), Some(found)) if wanted == found => continue,
            _ => {}
        }
        let Some((behind, mut from)) = retry.take() else {
            return false;
        };
        if from.next().is_none() {
            return false;
        }
        (pattern, name) = (behind.clone(), from.clone());
        retry = Some((behind, from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name) in [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("a*c", "abcbc"),
            ("*b*", "abc"),
            ("?", "é"),
            ("a?c*", "abc"),
            ("**a", "a"),
            ("*.log", "a.log.log"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("?", ""),
            ("a", ""),
            ("a*c", "ab"),
            ("a", "ab"),
            ("*b", "abc"),
            ("a??", "ab"),
            ("sensor-*", "sensor"),
        ] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_end() {
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
        assert!(!matches(&("*a".repeat(100) + "b"), &"a".repeat(LONGEST_NAME)));
    }

    #[test]
    fn long_names_are_compared_as_they_are() {
        let name = "a".repeat(LONGEST_NAME + 1);
        assert!(matches(&name, &name) && matches("*", &name) && !matches("a*", &name));
    }
}
