//! Typed calls, whose outputs lie in the slot or in a segment.

use super::registrant::{Gone, LONG, Registrant};
use bgw_backend::{CallError, Outcome, RegisterError, SegmentError, Worker, call};
use bgw_postmaster::PostmasterBuilder;
use std::convert::Infallible;
use std::time::{Duration, Instant};

const FUNCTION: &str = "sevens";
/// The output of the one fits into the slot, that of the other does not.
const LENGTHS: [usize; 2] = [10, 100_000];
/// Two outputs do not fit at a time.
const BUDGET: u64 = 1 << 17;

/// Names the function to a postmaster.
pub(super) fn functions(builder: PostmasterBuilder) -> PostmasterBuilder {
    let sevens = |_: &mut Worker, len: usize| Ok::<_, Infallible>(vec![7_u8; len]);
    builder.segment_bytes(BUDGET).call(FUNCTION, call(sevens))
}

impl Registrant {
    /// Calls it for an output of each length. Each call has one outcome, and leaves no bytes.
    pub(super) fn call(&self) -> Result<(), Gone> {
        for len in LENGTHS {
            let call = match self.backend.call::<usize, Vec<u8>>(FUNCTION, &len) {
                Ok(call) => call,
                // Another process has the slot of a claim that was swept.
                Err(CallError::Register(RegisterError::ClaimLost(_))) if self.faulty => continue,
                Err(error) => return self.excuse(&format!("calling failed: {error}")),
            };
            let outcome = match call.wait_timeout(LONG) {
                Ok(outcome) => outcome,
                Err(error) => return Err(self.broken(&format!("a call of {len}: {error}"))),
            };
            let again = call.outcome();
            if !matches!(&again, Ok(Some(again)) if *again == outcome) {
                return Err(self.broken(&format!("a call: {outcome:?}, and then {again:?}")));
            }
            match outcome {
                Outcome::Output { value, .. } if value == vec![7; len] => {}
                Outcome::Died(_) | Outcome::NotStarted { .. } if self.faulty => {}
                Outcome::PostmasterDied => return Err(Gone),
                other => return Err(self.broken(&format!("a call of {len}: {other:?}"))),
            }
            drop(call);
            self.the_budget_is_free()?;
        }
        Ok(())
    }

    fn the_budget_is_free(&self) -> Result<(), Gone> {
        let until = Instant::now() + LONG;
        loop {
            match self.backend.create_segment(BUDGET) {
                Ok(_) => return Ok(()),
                Err(SegmentError::Full { .. }) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => return self.excuse(&format!("making a segment failed: {error}")),
            }
        }
    }
}
