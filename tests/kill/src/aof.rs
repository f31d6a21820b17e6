//! The append-only file of a redis-server, and how it loses what it has confirmed last.

use std::path::{Path, PathBuf};

use crate::random::Random;

/// A place in the file behind a command, or a transaction: it may end there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub end: u64,
    /// It adds to the log of a cluster.
    pub is_log: bool,
}

/// What is to be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file ends here.
    pub end: u64,
    pub lost: usize,
    /// Those of them that have added to the log.
    pub of_log: usize,
}

/// The part of the file that grows; a server writes another one after each rewrite only.
pub fn newest(dir: &Path) -> Result<PathBuf, String> {
    let dir = dir.join("appendonlydir");
    let entries = std::fs::read_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let newest = paths.filter_map(|path| Some((number(&path)?, path))).max();
    let (_, path) = newest.ok_or_else(|| format!("{} has no append-only file", dir.display()))?;
    Ok(path)
}

/// Its number, if it is one of those.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".incr.aof")?;
    name.rsplit('.').next()?.parse().ok()
}

/// All that is complete.
pub fn steps(bytes: &[u8]) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut place, mut is_log, mut is_open) = (0, false, false);
    while let Some((words, end)) = command(bytes, place) {
        place = end;
        is_log |= adds_to_log(&words);
        is_open = match words.first() {
            Some(&b"MULTI") => true,
            Some(&b"EXEC") => false,
            _ => is_open,
        };
        if !is_open {
            steps.push(Step {
                end: end as u64,
                is_log: std::mem::take(&mut is_log),
            });
        }
    }
    steps
}

/// Where to cut, behind the first of these sizes that the file had. Four of ten times the log loses nothing, if there is
/// something behind its last entry; otherwise it is any time since then. Nothing if there is nothing to be lost.
pub fn choose(steps: &[Step], sizes: &[u64], random: &mut Random) -> Option<Cut> {
    let first = *sizes.first()?;
    let ends = steps.len().checked_sub(1)?;
    let earliest = steps.iter().position(|step| step.end >= first)?;
    let behind_log = steps
        .iter()
        .rposition(|step| step.is_log)
        .map_or(earliest, |at| at.max(earliest));
    let is_shallow = random.percent(40) && behind_log < ends;
    let last = match is_shallow {
        true => random.between(behind_log as u64, ends as u64 - 1) as usize,
        false => {
            let size = sizes[random.index(sizes.len())];
            let fits = steps.iter().rposition(|step| step.end <= size);
            fits.map_or(earliest, |at| at.max(earliest))
        }
    };
    let lost = &steps[last + 1..];
    (!lost.is_empty()).then(|| Cut {
        end: steps[last].end,
        lost: lost.len(),
        of_log: lost.iter().filter(|step| step.is_log).count(),
    })
}

fn adds_to_log(words: &[&[u8]]) -> bool {
    matches!(words, [verb, key] if verb.eq_ignore_ascii_case(b"XADD") && key.ends_with(b"{g}:log"))
}

/// The first two words of the command at this place, and where it ends.
fn command(bytes: &[u8], place: usize) -> Option<(Vec<&[u8]>, usize)> {
    let (count, mut place) = length(bytes, place, b'*')?;
    let mut words = Vec::new();
    for number in 0..count {
        let (length, start) = length(bytes, place, b'$')?;
        let word = bytes.get(start..start.checked_add(length)?)?;
        place = start + length + 2;
        bytes.get(place - 1)?;
        if number < 2 {
            words.push(word);
        }
    }
    Some((words, place))
}

/// A line such as `$12`, and where the next one begins.
fn length(bytes: &[u8], place: usize, sign: u8) -> Option<(usize, usize)> {
    let rest = bytes.get(place..)?.strip_prefix(&[sign])?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    rest.get(end + 1)?;
    let number = std::str::from_utf8(&rest[..end]).ok()?.parse().ok()?;
    Some((number, place + 1 + end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(commands: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for command in commands {
            let words: Vec<_> = command.split(' ').collect();
            bytes.extend(format!("*{}\r\n", words.len()).into_bytes());
            words
                .iter()
                .for_each(|word| bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes()));
        }
        bytes
    }

    const COMMANDS: [&str; 7] = [
        "SELECT 0",
        "MULTI",
        "HSET {7}:hw 1 2",
        "XADD m:{g}:log 1-0 a b",
        "EXEC",
        "HSET {g}:nodes 1 2",
        "XADD {7}:in:1 1-0 a b",
    ];

    #[test]
    fn a_transaction_is_one_step() {
        let bytes = encode(&COMMANDS);
        let kinds: Vec<_> = steps(&bytes).iter().map(|step| step.is_log).collect();
        assert_eq!(kinds, [false, true, false, false]);
        assert_eq!(steps(&bytes).last().map(|step| step.end), Some(bytes.len() as u64));
    }

    #[test]
    fn what_is_not_complete_is_no_step() {
        let bytes = encode(&COMMANDS);
        let all = steps(&bytes);
        assert_eq!(steps(&bytes[..bytes.len() - 1]), all[..3]);
        let inside = all[1].end as usize - 1;
        assert_eq!(steps(&bytes[..inside]), all[..1]);
    }

    #[test]
    fn it_is_cut_behind_what_had_been_seen_and_before_the_end() {
        let all = steps(&encode(&COMMANDS));
        let sizes = [all[0].end, all[0].end + 5, all[3].end];
        let mut cuts = Vec::new();
        for seed in 0..100 {
            cuts.extend(choose(&all, &sizes, &mut Random::new(seed)));
        }
        let lose = |lost: usize, of_log: usize| {
            cuts.iter()
                .filter(|cut| (cut.lost, cut.of_log) == (lost, of_log))
                .count()
        };
        assert!(lose(3, 1) > 10 && lose(2, 0) > 5 && lose(1, 0) > 5, "{cuts:?}");
        assert_eq!(lose(3, 1) + lose(2, 0) + lose(1, 0), cuts.len());
        assert!(cuts.len() < 100, "sometimes the last size leaves nothing");
        assert_eq!(choose(&all, &[], &mut Random::new(1)), None);
        assert_eq!(choose(&all, &[all[3].end], &mut Random::new(1)), None);
    }
}
