//! What is to be done about messages that have had effect once, when that is kept: their jobs are done; and when that is kept in
//! turn, nobody puts them into queues again, and so nobody has to know them.

use std::collections::BTreeSet;

use crate::store::cluster::{ClusterOp, Mid, Once};

/// What goes with the next batch.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Jobs that have been done, with the buckets that know their messages.
    jobs: Vec<(Once, BTreeSet<u8>)>,
    /// Messages that buckets may forget.
    known: Vec<(u8, Mid)>,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.known.is_empty()
    }

    pub(super) fn ops(&self) -> impl Iterator<Item = ClusterOp<'static>> {
        let finish = |(once, _): &(Once, BTreeSet<u8>)| ClusterOp::Finish {
            bucket: once.bucket,
            mid: once.mid,
        };
        let forget = |(bucket, mid): &(u8, Mid)| ClusterOp::Forget {
            bucket: *bucket,
            mid: *mid,
        };
        self.jobs.iter().map(finish).chain(self.known.iter().map(forget))
    }

    /// A batch has been kept, with all that was owed; in it, these jobs have had effect, and these messages that are none.
    pub(super) fn paid<'a>(
        &mut self,
        onces: &[(Once, BTreeSet<u8>)],
        identities: impl IntoIterator<Item = &'a (Mid, BTreeSet<u8>)>,
    ) {
        self.known.clear();
        let finished = self.jobs.drain(..).map(|(once, buckets)| (once.mid, buckets));
        for (mid, buckets) in finished.chain(identities.into_iter().cloned()) {
            self.known.extend(buckets.into_iter().map(|bucket| (bucket, mid)));
        }
        self.jobs.extend_from_slice(onces);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_done_before_they_are_forgotten() {
        let mid = Mid {
            incarnation: 1,
            number: 2,
        };
        let once = Once { mid, of: 1, bucket: 3 };
        let mut owed = Owed::default();
        owed.paid(&[(once, BTreeSet::from([4, 5]))], []);
        assert_eq!(owed.ops().collect::<Vec<_>>(), [ClusterOp::Finish { bucket: 3, mid }]);
        owed.paid(&[], []);
        let forget = |bucket| ClusterOp::Forget { bucket, mid };
        assert_eq!(owed.ops().collect::<Vec<_>>(), [forget(4), forget(5)]);
        owed.paid(&[], &[(mid, BTreeSet::from([6]))]);
        assert_eq!(owed.ops().collect::<Vec<_>>(), [forget(6)]);
        owed.paid(&[], []);
        assert!(owed.is_empty());
    }
}
