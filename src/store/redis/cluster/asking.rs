//! What calls have answered whose answers were lost: they had been done, and what matters of that is still to be seen.

use redis::{Cmd, Value};

use super::call::{Answer, Call, Expected, Left, Outcome};
use crate::store::StoreError;
use crate::store::cluster::Mid;
use crate::store::redis::entry::read_live_terms;
use crate::store::redis::keys::Keys;
use crate::store::redis::reply::{bytes_or_none, list, number};
use crate::store::redis::script::eval;

const KNOWN: &str = concat!("#!lua flags=no-writes\n", include_str!("../scripts/cluster/known.lua"));

/// What is to be read: of messages for groups in one command, of others two for each.
pub(super) fn commands(call: &Call, keys: &Keys) -> Vec<Cmd> {
    let mut known = eval(KNOWN, &[&keys.of(call.home, "hw")]);
    let mut commands = Vec::new();
    let mut has_gifts = false;
    for expected in &call.expected {
        match *expected {
            Expected::Appended {
                uid,
                terms,
                gift: Some((_, mid)),
                ..
            } => {
                has_gifts = true;
                let terms = read_live_terms(call.changes.get(terms));
                let share = terms.ok().and_then(|terms| terms.share).unwrap_or_default();
                known.arg(mid.map(|mid| mid.to_string()).unwrap_or_default());
                known.arg(uid).arg(share);
            }
            Expected::Left {
                first,
                most,
                is_own: true,
                ..
            } => commands.extend(["jobs", "rest"].map(|name| {
                let mut command = redis::cmd("HMGET");
                command.arg(keys.of(call.home, name));
                mids(first, most).for_each(|mid| {
                    command.arg(mid.to_string());
                });
                command
            })),
            _ => {}
        }
    }
    if has_gifts {
        commands.push(known);
    }
    commands
}

/// What the call must have answered, from what was read.
pub(super) fn outcome(call: &Call, replies: Vec<Value>) -> Result<Outcome, StoreError> {
    let is_gift = |expected: &Expected| matches!(expected, Expected::Appended { gift: Some(_), .. });
    let mut replies = replies;
    let known = match call.expected.iter().any(is_gift) {
        true => list(replies.pop().unwrap_or(Value::Nil))?,
        false => Vec::new(),
    };
    let (mut known, mut replies) = (known.into_iter(), replies.into_iter());
    let answers = call.expected.iter().map(|expected| {
        Ok(match *expected {
            Expected::Appended { gift: Some(_), .. } => match number(known.next().unwrap_or(Value::Nil))? {
                0 => Answer::Gone,
                _ => Answer::Known,
            },
            Expected::Appended { gift: None, .. } | Expected::Run(_) => Answer::Known,
            Expected::Left {
                first,
                most,
                is_own: true,
                ..
            } => Answer::Left(left(first, most, &mut replies)?),
            Expected::Left { .. } => Answer::Left(Left::default()),
            Expected::Sent(_) => Answer::Elsewhere,
        })
    });
    answers.collect::<Result<_, _>>().map(Outcome::Answered)
}

/// Who has ended a session that left nothing is found by whoever has a message for it.
fn left(first: Mid, most: u32, replies: &mut impl Iterator<Item = Value>) -> Result<Left, StoreError> {
    let mut next = || list(replies.next().unwrap_or(Value::Nil));
    let (jobs, rests) = (next()?, next()?);
    let mut left = Left::default();
    for ((mid, job), rest) in mids(first, most).zip(jobs).zip(rests) {
        if job != Value::Nil {
            left.jobs.push(mid);
        }
        if let Some(rest) = bytes_or_none(rest)? {
            let (uid, _) = super::read::rest(mid, &rest)?;
            left.ended.push(uid);
            left.rests.push((mid, uid));
        }
    }
    Ok(left)
}

fn mids(first: Mid, most: u32) -> impl Iterator<Item = Mid> {
    (0..u64::from(most)).map(move |more| Mid {
        number: first.number + more,
        ..first
    })
}
