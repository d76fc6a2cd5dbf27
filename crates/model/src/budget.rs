//! Memory that may be held: a bound that many share, and what one piece of work holds of it.
//!
//! Bytes are counted by whoever allocates them, before where that can be known. A [`Budget`] is a part of the process (all queries, say) and can itself
//! be of a whole, so that parts which may not be refused, such as what was acknowledged and has to be kept, leave less to those that may. The price
//! of counting by hand is that it is about, not exactly, what the allocator holds; a reserve beside the shares is for the difference.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Kind, SourceError};

/// What a claim takes at once: so a series of a few hundred bytes does not meet the counter that all threads share.
const STEP: usize = 128 << 10;

/// Bytes that many pieces of work may hold together; clones share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Part>);

#[derive(Debug)]
struct Part {
    what: &'static str,
    bytes_max: usize,
    held: AtomicUsize,
    peak: AtomicUsize,
    refused: AtomicU64,
    whole: Option<Budget>,
}

/// More was needed than there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "too little memory for {what}: {own} bytes are held for this one and {more} more are needed, of {bytes_max} (a share of --memory-limit) of which \
     {others} are held for others; {}",
    if *.own + *.more > *.bytes_max { "ask for less at once, or raise the limit" } else { "try again later, or raise the limit" }
)]
pub struct Exceeded {
    /// What it was needed for.
    pub what: &'static str,
    /// Bytes that the piece of work held.
    pub own: usize,
    /// Bytes that it needed beside.
    pub more: usize,
    /// Bytes that all others held.
    pub others: usize,
    /// Bytes that there are.
    pub bytes_max: usize,
}

impl Exceeded {
    /// What the caller can do about it: the same is refused again where there would be too little if nobody else held anything.
    pub fn kind(&self) -> Kind {
        if self.own.saturating_add(self.more) > self.bytes_max { Kind::Invalid } else { Kind::Overloaded }
    }

    /// The same, where what another claim holds is for the same piece of work.
    pub fn beside(self, claim: &Claim) -> Self {
        // With what it has taken ahead.
        let also = claim.0.taken.load(Ordering::Relaxed).min(self.others);
        Exceeded { own: self.own + also, others: self.others - also, ..self }
    }
}

impl From<Exceeded> for SourceError {
    fn from(exceeded: Exceeded) -> Self {
        SourceError { kind: exceeded.kind(), message: exceeded.to_string() }
    }
}

impl Default for Budget {
    /// One without a bound.
    fn default() -> Self {
        Budget::new("anything", usize::MAX)
    }
}

impl Budget {
    /// So many bytes, for what is named as in "memory for …".
    pub fn new(what: &'static str, bytes_max: usize) -> Self {
        Budget::with(what, bytes_max, None)
    }

    /// A part of these bytes, which are then held of both.
    pub fn part(&self, what: &'static str, bytes_max: usize) -> Self {
        Budget::with(what, bytes_max, Some(self.clone()))
    }

    fn with(what: &'static str, bytes_max: usize, whole: Option<Budget>) -> Self {
        let (held, peak, refused) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicU64::new(0));
        Budget(Arc::new(Part { what, bytes_max, held, peak, refused, whole }))
    }

    /// A claim that holds nothing yet.
    pub fn claim(&self) -> Claim {
        let mut own = Own::default();
        own.of = Some(self.clone());
        Claim(Arc::new(own))
    }

    /// Bytes that are held.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// The most that was held.
    pub fn peak(&self) -> usize {
        self.0.peak.load(Ordering::Relaxed)
    }

    /// Bytes that there are; [`usize::MAX`] where there is no bound.
    pub fn bytes_max(&self) -> usize {
        self.0.bytes_max
    }

    /// How often more was needed than there was.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Takes bytes where they fit; else tells how many were held, of how many.
    fn take(&self, bytes: usize) -> Result<(), (usize, usize)> {
        let part = &*self.0;
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= part.bytes_max);
        match part.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(before) => part.peak.fetch_max(before + bytes, Ordering::Relaxed),
            Err(held) => return Err((held, part.bytes_max)),
        };
        let of_whole = part.whole.as_ref().map_or(Ok(()), |whole| whole.take(bytes));
        if of_whole.is_err() {
            part.held.fetch_sub(bytes, Ordering::Relaxed);
        }
        of_whole
    }

    /// Takes bytes that are held in any case.
    fn take_anyway(&self, bytes: usize) {
        let before = self.0.held.fetch_add(bytes, Ordering::Relaxed);
        self.0.peak.fetch_max(before + bytes, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.take_anyway(bytes);
        }
    }

    fn give(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
        if let Some(whole) = &self.0.whole {
            whole.give(bytes);
        }
    }
}

/// What one piece of work holds of a budget; clones share it, and the last of them gives it back. The default is of no budget: it counts, and refuses nothing.
#[derive(Debug, Clone, Default)]
pub struct Claim(Arc<Own>);

#[derive(Debug, Default)]
struct Own {
    of: Option<Budget>,
    held: AtomicUsize,
    /// What was taken of the budget, which may be a step more than is held. Changed by who has `changing`; read without it, so that small pieces
    /// wait for nobody.
    taken: AtomicUsize,
    changing: Mutex<()>,
}

impl Claim {
    /// Holds so many bytes more, or none where they do not fit.
    pub fn take(&self, bytes: usize) -> Result<(), Exceeded> {
        self.take_free(bytes).inspect_err(|_| {
            if let Some(budget) = &self.0.of {
                budget.0.refused.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    /// As [`Claim::take`], for what can be done without: that it does not fit is nothing that people have to be told of.
    fn take_free(&self, bytes: usize) -> Result<(), Exceeded> {
        let own = &*self.0;
        let before = own.held.fetch_add(bytes, Ordering::SeqCst);
        match &own.of {
            Some(budget) if before + bytes > own.taken.load(Ordering::SeqCst) => self.take_of(budget, before, bytes),
            _ => Ok(()),
        }
    }

    /// Takes of the budget what is held and was not taken; `before` was held without these bytes.
    fn take_of(&self, budget: &Budget, before: usize, bytes: usize) -> Result<(), Exceeded> {
        let own = &*self.0;
        let _changing = own.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = own.taken.load(Ordering::SeqCst);
        let needed = own.held.load(Ordering::SeqCst).saturating_sub(taken);
        if needed == 0 {
            return Ok(());
        }
        let (step, in_step) = (needed.next_multiple_of(STEP), budget.take(needed.next_multiple_of(STEP)));
        let (step, result) = if in_step.is_ok() { (step, in_step) } else { (needed, budget.take(needed)) };
        result.map(|()| own.taken.store(taken + step, Ordering::SeqCst)).map_err(|(all, bytes_max)| {
            own.held.fetch_sub(bytes, Ordering::SeqCst);
            Exceeded { what: budget.0.what, own: before, more: bytes, others: all.saturating_sub(taken), bytes_max }
        })
    }

    /// Holds so many bytes more whether they fit or not: for what has another bound, and cannot be done without any more.
    pub fn take_anyway(&self, bytes: usize) {
        let own = &*self.0;
        let _changing = own.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let held = own.held.fetch_add(bytes, Ordering::SeqCst) + bytes;
        let taken = own.taken.load(Ordering::SeqCst);
        if let Some(budget) = &own.of
            && held > taken
        {
            budget.take_anyway(held - taken);
            own.taken.store(held, Ordering::SeqCst);
        }
    }

    /// Holds so many bytes, no more and no less: for what has another bound, and of which others have to know.
    pub fn set(&self, bytes: usize) {
        let own = &*self.0;
        let _changing = own.changing.lock().unwrap_or_else(PoisonError::into_inner);
        own.held.store(bytes, Ordering::SeqCst);
        let taken = own.taken.swap(bytes, Ordering::SeqCst);
        match &own.of {
            Some(budget) if bytes > taken => budget.take_anyway(bytes - taken),
            Some(budget) => budget.give(taken - bytes),
            None => {}
        }
    }

    /// Gives bytes back that were taken.
    pub fn give(&self, bytes: usize) {
        let own = &*self.0;
        let held = own.held.fetch_sub(bytes, Ordering::SeqCst) - bytes;
        let Some(budget) = &own.of else { return };
        if own.taken.load(Ordering::SeqCst) <= held.saturating_add(2 * STEP) {
            return;
        }
        let _changing = own.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, keep) = (own.taken.load(Ordering::SeqCst), own.held.load(Ordering::SeqCst).saturating_add(STEP));
        if taken > keep {
            own.taken.store(keep, Ordering::SeqCst);
            budget.give(taken - keep);
        }
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Bytes that are given back when this is dropped; none yet.
    pub fn hold(&self) -> Held {
        Held { claim: self.clone(), bytes: 0 }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(budget) = &self.of {
            budget.give(*self.taken.get_mut());
        }
    }
}

/// Bytes of a claim that are given back when this is dropped.
#[derive(Debug, Default)]
pub struct Held {
    claim: Claim,
    bytes: usize,
}

impl Held {
    /// Holds so many bytes more, or none more where they do not fit.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Exceeded> {
        self.claim.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }

    /// Holds so many bytes more if they fit, for what can be done without; that they do not is not counted as refused.
    pub fn grow_if_free(&mut self, bytes: usize) -> bool {
        let is_free = self.claim.take_free(bytes).is_ok();
        self.bytes += if is_free { bytes } else { 0 };
        is_free
    }

    /// Holds at least so many bytes.
    pub fn grow_to(&mut self, bytes: usize) -> Result<(), Exceeded> {
        if bytes > self.bytes { self.grow(bytes - self.bytes) } else { Ok(()) }
    }

    /// Holds at least so many bytes, whether they fit or not, as [`Claim::take_anyway`].
    pub fn grow_to_anyway(&mut self, bytes: usize) {
        let more = bytes.saturating_sub(self.bytes);
        self.claim.take_anyway(more);
        self.bytes += more;
    }

    /// Holds what another of the same claim held too.
    pub fn join(&mut self, mut other: Held) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Leaves the bytes to the claim, which gives them back in its own time.
    pub fn keep(mut self) {
        self.bytes = 0;
    }

    /// Holds no more than so many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.claim.give(self.bytes - bytes);
            self.bytes = bytes;
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.claim.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_cannot_be_done_without_is_held_beyond_the_bound_and_others_have_less() {
        let budget = Budget::new("queries", 10 * MIB);
        let (a, b) = (budget.claim(), budget.claim());
        a.take(6 * MIB).expect("fits");
        let mut held = a.hold();
        held.grow_to_anyway(5 * MIB);
        held.grow_to_anyway(MIB);
        assert_eq!((a.held(), held.bytes(), budget.held(), budget.refused()), (11 * MIB, 5 * MIB, 11 * MIB, 0));
        b.take(1).expect_err("there is less than nothing");
        assert!(!b.hold().grow_if_free(1), "nor for what can be done without");
        assert_eq!(budget.refused(), 1, "which is not told of");
        drop(held);
        let mut free = b.hold();
        assert!(free.grow_if_free(MIB) && b.held() == MIB);
        drop(free);
        assert_eq!(a.held(), 6 * MIB);
        b.take(MIB).expect("fits");
        drop((a, b));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn bytes_are_held_up_to_the_bound_and_given_back() {
        let budget = Budget::new("queries", 10 * MIB);
        let (a, b) = (budget.claim(), budget.claim());
        a.take(6 * MIB).expect("fits");
        let refused = b.take(5 * MIB).expect_err("does not fit");
        assert_eq!(refused, Exceeded { what: "queries", own: 0, more: 5 * MIB, others: 6 * MIB, bytes_max: 10 * MIB });
        assert_eq!((refused.kind(), b.held(), budget.held(), budget.refused()), (Kind::Overloaded, 0, 6 * MIB, 1));
        b.take(4 * MIB).expect("fits");
        a.give(6 * MIB);
        b.take(4 * MIB).expect("what was given back is there again");
        let alone = b.take(3 * MIB).expect_err("does not fit");
        assert_eq!((alone.kind(), alone.own), (Kind::Invalid, 8 * MIB));
        drop((a, b));
        assert_eq!((budget.held(), budget.peak()), (0, 10 * MIB));
    }

    #[test]
    fn the_error_says_what_was_held_and_what_can_be_done() {
        let told = |own| Exceeded { what: "queries", own, more: 3, others: 2, bytes_max: 10 }.to_string();
        assert_eq!(
            told(5),
            "too little memory for queries: 5 bytes are held for this one and 3 more are needed, of 10 (a share of \
             --memory-limit) of which 2 are held for others; try again later, or raise the limit"
        );
        assert!(told(8).ends_with("; ask for less at once, or raise the limit"), "{}", told(8));
    }

    #[test]
    fn a_part_is_held_of_the_whole_and_what_must_be_held_leaves_less_to_others() {
        let whole = Budget::new("all", 10 * MIB);
        let (head, queries) = (whole.part("the head", 4 * MIB), whole.part("queries", 8 * MIB));
        let (kept, query) = (head.claim(), queries.claim());
        kept.set(7 * MIB);
        assert_eq!((head.held(), whole.held()), (7 * MIB, 7 * MIB));
        let refused = query.take(4 * MIB).expect_err("of the whole there is too little");
        assert_eq!((refused.others, refused.bytes_max, refused.kind()), (7 * MIB, 10 * MIB, Kind::Overloaded));
        assert_eq!((queries.held(), queries.refused()), (0, 1));
        query.take(3 * MIB).expect("fits");
        kept.set(MIB);
        query.take(5 * MIB).expect("fits now");
        assert_eq!(whole.held(), 9 * MIB);
        drop((kept, query));
        assert_eq!((head.held(), queries.held(), whole.held()), (0, 0, 0));
    }

    #[test]
    fn small_pieces_from_many_threads_add_up_and_pass_the_bound_by_nothing() {
        let budget = Budget::new("queries", MIB);
        let claim = budget.claim();
        let taken: usize = std::thread::scope(|scope| {
            let one = || (0..4000).filter(|_| claim.take(100).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().expect("ends")).sum()
        });
        assert_eq!((taken, claim.held()), (MIB / 100, MIB / 100 * 100));
        assert!(budget.peak() <= MIB);
        let mut held = claim.hold();
        held.grow(100).expect_err("full");
        assert_eq!(held.bytes(), 0);
        claim.give(1000);
        held.grow_to(500).expect("fits");
        held.grow_to(400).expect("is so many");
        let mut more = claim.hold();
        more.grow(100).expect("fits");
        held.join(more);
        assert_eq!(held.bytes(), 600);
        let mut kept = claim.hold();
        kept.grow(100).expect("fits");
        kept.keep();
        claim.give(100);
        held.shrink_to(300);
        assert_eq!((held.bytes(), claim.held()), (300, MIB / 100 * 100 - 700));
        drop(held);
        assert_eq!(claim.held(), MIB / 100 * 100 - 1000);
        drop(claim);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn a_claim_of_no_budget_counts_and_refuses_nothing() {
        let claim = Claim::default();
        claim.take(usize::MAX / 2).expect("no bound");
        assert_eq!(claim.held(), usize::MAX / 2);
    }
}
