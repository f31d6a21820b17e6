//! Buffers that are lent for the duration of a batch: an idle connection owns none.

use std::cell::RefCell;

use crate::broker::RouteScratch;
use crate::session::Taken;

/// Memory for one batch of one connection.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Initialised bytes; how many of them are in use is the borrower's business.
    pub(super) input: Vec<u8>,
    /// An empty buffer with capacity, for connections that have none.
    pub(super) output: Vec<u8>,
    pub(super) route: RouteScratch,
    pub(super) taken: Taken,
}

/// Bytes that are read at a time.
pub(super) const INPUT_SIZE: usize = 64 * 1024;
/// The largest output buffer that is kept for others.
const OUTPUT_KEPT: usize = 256 * 1024;
/// Batches kept by each thread: more than one is lent at a time only while hooks are awaited.
const KEPT: usize = 4;

thread_local! {
    #[expect(clippy::vec_box, reason = "a batch is lent and moved as a box, so that it takes 8 bytes of each task")]
    static POOL: RefCell<Vec<Box<Batch>>> = const { RefCell::new(Vec::new()) };
}

/// Borrows a batch from this thread.
pub(super) fn lend() -> Box<Batch> {
    POOL.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
        Box::new(Batch {
            input: vec![0; INPUT_SIZE],
            output: Vec::with_capacity(INPUT_SIZE / 4),
            ..Batch::default()
        })
    })
}

/// Gives a batch to this thread, which need not be the one that lent it.
pub(super) fn give_back(mut batch: Box<Batch>) {
    batch.route.trim();
    batch.taken.emptied.clear();
    if batch.input.len() != INPUT_SIZE {
        batch.input = vec![0; INPUT_SIZE];
    }
    POOL.with_borrow_mut(|pool| {
        if pool.len() < KEPT {
            pool.push(batch);
        }
    });
}

/// Gives `output` the spare buffer if it has none.
pub(super) fn borrow_output(batch: &mut Batch, output: &mut Vec<u8>) {
    if output.capacity() == 0 {
        std::mem::swap(&mut batch.output, output);
    }
}

/// Takes the buffer of an output that has been written completely.
pub(super) fn return_output(batch: &mut Batch, output: &mut Vec<u8>) {
    if output.is_empty() && output.capacity() > 0 {
        let buffer = std::mem::take(output);
        if batch.output.capacity() == 0 && buffer.capacity() <= OUTPUT_KEPT {
            batch.output = buffer;
        }
    }
}
