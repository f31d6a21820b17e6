//! The checks of the fuzz targets on their seeds and on mutations of them, for those who have no fuzzer at hand.
//!
//! `FUZZ_ROUNDS` sets how many mutations of each seed are tried: that of packets, a tenth of scripts.

#[path = "fuzz/checks/decode.rs"]
mod decode;
#[path = "fuzz/checks/session.rs"]
mod session;

use std::collections::BTreeSet;
use std::path::Path;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/seeds")
        .join(target);
    let mut files: Vec<_> = folder
        .read_dir()
        .expect("seeds")
        .map(|entry| entry.expect("entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("seed")).collect()
}

fn rounds() -> usize {
    std::env::var("FUZZ_ROUNDS").map_or(300, |rounds| rounds.parse().expect("FUZZ_ROUNDS is a number"))
}

/// Xorshift: the same numbers at every run, so that a failure can be found again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// One step of what a fuzzer does: change, remove, insert or repeat bytes, or splice two inputs.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    const INTERESTING: [u8; 10] = [0x00, 0x01, 0x02, 0x7F, 0x80, 0xFF, b'+', b'#', b'/', 0x26];
    let at = chance.below(bytes.len());
    match chance.below(7) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << chance.below(8),
        1 if !bytes.is_empty() => bytes[at] = INTERESTING[chance.below(INTERESTING.len())],
        2 if !bytes.is_empty() => drop(bytes.remove(at)),
        3 => bytes.insert(at, INTERESTING[chance.below(INTERESTING.len())]),
        4 => bytes.truncate(at),
        5 => {
            bytes.truncate(at);
            bytes.extend_from_slice(&other[chance.below(other.len())..]);
        }
        _ => {
            let piece = bytes[at..(at + chance.below(16)).min(bytes.len())].to_vec();
            bytes.splice(at..at, piece);
        }
    }
    bytes.truncate(4096);
}

/// The Remaining Length of the first packet made right again, without which most mutations end there.
fn repair(bytes: &mut [u8]) {
    if let [_, length, body @ ..] = bytes
        && body.len() < 128
    {
        *length = body.len() as u8;
    }
}

fn replay(target: &str, rounds: usize, check: impl Fn(&[u8])) {
    let seeds = seeds(target);
    assert!(!seeds.is_empty());
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    for seed in &seeds {
        check(seed);
        for _ in 0..rounds {
            let mut bytes = seed.clone();
            for _ in 0..=chance.below(4) {
                let other = &seeds[chance.below(seeds.len())];
                mutate(&mut bytes, other, &mut chance);
            }
            check(&bytes);
            repair(&mut bytes);
            check(&bytes);
        }
    }
}

#[test]
fn decode_holds_for_seeds_and_mutations() {
    replay("decode", rounds(), decode::check);
}

#[test]
fn session_holds_for_seeds_and_mutations() {
    // A script takes longer than a packet.
    replay("session", rounds() / 10, |script| drop(session::check(script)));
}

/// What clients never receive is never checked.
#[test]
fn session_seeds_show_every_packet_of_a_server() {
    const EVERY: [u8; 16] = [
        0x20, 0x30, 0x31, 0x32, 0x33, 0x34, 0x3A, 0x3C, 0x40, 0x50, 0x62, 0x70, 0x90, 0xB0, 0xD0, 0xE0,
    ];
    let seen: BTreeSet<u8> = seeds("session").iter().flat_map(|seed| session::check(seed)).collect();
    let missing: Vec<u8> = EVERY.into_iter().filter(|first| !seen.contains(first)).collect();
    assert!(missing.is_empty(), "{missing:02x?}");
}
