//! What is to be done about messages that have had effect once, when that is kept: their jobs are done; and when that is kept in
//! turn, nobody puts them into queues again, and so nobody has to know them.

use std::collections::BTreeSet;

use crate::store::cluster::{ClusterOp, Mid, Once};
use crate::store::redis::keys::Home;

/// What goes with the next batch.
#[derive(Debug, Default)]
pub(super) struct Owed {
    /// Jobs that have been done, with the homes that know their messages.
    jobs: Vec<(Once, BTreeSet<Home>)>,
    /// Messages that homes may forget.
    known: Vec<(Home, Mid)>,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.known.is_empty()
    }

    pub(super) fn ops(&self) -> impl Iterator<Item = ClusterOp<'static>> {
        let finish = |(once, _): &(Once, BTreeSet<Home>)| ClusterOp::Finish {
            bucket: once.bucket,
            mid: once.mid,
        };
        let forget = |(home, mid): &(Home, Mid)| match *home {
            Home::Bucket(bucket) => ClusterOp::Forget { bucket, mid: *mid },
            Home::Global => ClusterOp::ForgetRetained { mid: *mid },
        };
        self.jobs.iter().map(finish).chain(self.known.iter().map(forget))
    }

    /// A batch has been kept, with all that was owed; in it, these jobs have had effect, and these messages that are none.
    pub(super) fn paid<'a>(
        &mut self,
        onces: &[(Once, BTreeSet<Home>)],
        identities: impl IntoIterator<Item = &'a (Mid, BTreeSet<Home>)>,
    ) {
        self.known.clear();
        let finished = self.jobs.drain(..).map(|(once, homes)| (once.mid, homes));
        for (mid, homes) in finished.chain(identities.into_iter().cloned()) {
            self.known.extend(homes.into_iter().map(|home| (home, mid)));
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
        let homes = [Home::Bucket(4), Home::Bucket(5), Home::Global];
        owed.paid(&[(once, BTreeSet::from(homes))], []);
        assert_eq!(owed.ops().collect::<Vec<_>>(), [ClusterOp::Finish { bucket: 3, mid }]);
        owed.paid(&[], []);
        let forget = |bucket| ClusterOp::Forget { bucket, mid };
        let retained = ClusterOp::ForgetRetained { mid };
        assert_eq!(owed.ops().collect::<Vec<_>>(), [forget(4), forget(5), retained]);
        owed.paid(&[], &[(mid, BTreeSet::from([Home::Bucket(6)]))]);
        assert_eq!(owed.ops().collect::<Vec<_>>(), [forget(6)]);
        owed.paid(&[], []);
        assert!(owed.is_empty());
    }
}
