//! In a cluster there are no transactions, nor are there when memory is full. So a batch is first noted as a whole, in the call for the global home, and then
//! its other calls are made. If that ends half-way, whoever opens the store makes them again before anything else: each
//! has effect once.

use super::keys::{BUCKETS, Home};
use super::plan::{Arguments, Call};
use crate::wire::{Malformed, Reader};

pub(super) fn write(incarnation: u64, calls: &[Call]) -> Vec<u8> {
    let mut bytes = incarnation.to_be_bytes().to_vec();
    for call in calls {
        bytes.extend_from_slice(&(call.home.index() as u16).to_be_bytes());
        bytes.extend_from_slice(&call.number.to_be_bytes());
        bytes.extend_from_slice(&(call.arguments.iter().count() as u32).to_be_bytes());
        for argument in call.arguments.iter() {
            bytes.extend_from_slice(&(argument.len() as u32).to_be_bytes());
            bytes.extend_from_slice(argument);
        }
    }
    bytes
}

/// Whose calls they were, and the calls.
pub(super) fn read(bytes: &[u8]) -> Result<(u64, Vec<Call>), Malformed> {
    let mut reader = Reader::new(bytes);
    let incarnation = reader.u64()?;
    let mut calls = Vec::new();
    while !reader.is_empty() {
        let home = reader.u16()?;
        if home >= BUCKETS {
            return Err(Malformed("a call for an unknown home"));
        }
        let number = reader.u64()?;
        let mut arguments = Arguments::default();
        for _ in 0..reader.u32()? {
            let length = reader.u32()? as usize;
            arguments.push(reader.bytes(length)?);
        }
        let home = Home::Bucket(home as u8);
        calls.push(Call {
            home,
            number,
            arguments,
        });
    }
    Ok((incarnation, calls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_noted() {
        let call = |home, number, words: &[&str]| {
            let mut arguments = Arguments::default();
            words.iter().for_each(|word| arguments.push(word.as_bytes()));
            Call {
                home: Home::Bucket(home),
                number,
                arguments,
            }
        };
        let calls = [call(0, 1, &["0", "u", ""]), call(255, 1 << 40, &[])];
        let bytes = write(7, &calls);
        let (incarnation, read_calls) = read(&bytes).expect("is readable");
        assert_eq!((incarnation, format!("{read_calls:?}")), (7, format!("{calls:?}")));
        assert!(
            (1..8)
                .chain(9..bytes.len() - 14)
                .all(|end| read(&bytes[..end]).is_err())
        );
        assert!(read(&[&7_u64.to_be_bytes()[..], &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]].concat()).is_err());
    }
}
