//! Registration of workers that have to do with others: unique names, and the order of a batch.

use crate::backend::Backend;
use crate::error::RegisterError;
use crate::handle::Handle;
use crate::keep::Keep;
use bgw_core::internals::{check_targets, start_order};
use bgw_core::{BackgroundWorker, RelationError};
use shmem_slots::{Key, State};
use std::collections::HashMap;

impl Backend {
    /// Registers several workers, each after those that it
    /// [starts after](bgw_core::BackgroundWorkerBuilder::after), in whatever order they are given,
    /// and else in the given order. Returns the handles in the given order.
    ///
    /// ```no_run
    /// # fn example(backend: &bgw_backend::Backend) -> Result<(), Box<dyn std::error::Error>> {
    /// use bgw_backend::{After, BackgroundWorker, Ready};
    ///
    /// let web = BackgroundWorker::builder("web").function("serve").after("db", After::Ready);
    /// let db = BackgroundWorker::builder("db").function("store").unique().ready(Ready::Call);
    /// let [_web, _db] = &backend.register_all(&[web.build()?, db.build()?])?[..] else {
    ///     unreachable!("one handle for each worker")
    /// };
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`RegisterError`]; a worker that is given descriptors is refused, and a command with an
    /// environment, working folder or standard input of its own. None of them is registered then,
    /// unless a crash reset or a doorbell that cannot be rung comes in between: the handles of
    /// those that were are lost.
    pub fn register_all(&self, workers: &[BackgroundWorker]) -> Result<Vec<Handle>, RegisterError> {
        let registered = self.unique_workers();
        let mut all: HashMap<&str, &BackgroundWorker> =
            registered.iter().map(|worker| (worker.name(), worker)).collect();
        for worker in workers {
            self.may_register(worker)?;
            if let Some(field) = worker.beside_its_slot() {
                return Err(RegisterError::GivenTogether { name: worker.name().to_owned(), field });
            }
            if worker.is_unique() && all.insert(worker.name(), worker).is_some() {
                return Err(RelationError::NameTaken { name: worker.name().to_owned() }.into());
            }
        }
        for worker in workers {
            let others = |name: &str| all.get(name).copied().filter(|_| name != worker.name());
            check_targets(worker, true, others)?;
        }
        let before = self.attachment.cells().incarnation();
        let keeps = self.publish_all(workers).inspect_err(|_| self.tell_of_free_slots())?;
        // Once, so that the postmaster sees all of them.
        self.attachment.ring().map_err(RegisterError::Doorbell)?;
        Ok(keeps.into_iter().map(|keep| self.handle_of(keep, before)).collect())
    }

    /// Claims slots for all, and publishes each worker after those that it starts after. Holds no
    /// claim when it returns.
    fn publish_all(&self, workers: &[BackgroundWorker]) -> Result<Vec<Keep>, RegisterError> {
        let claims: Vec<_> =
            workers.iter().map(|worker| self.claim(worker)).collect::<Result<_, _>>()?;
        let mut claims: Vec<_> = claims.into_iter().map(Some).collect();
        let mut keeps: Vec<Option<Keep>> = workers.iter().map(|_| None).collect();
        for at in start_order(&workers.iter().collect::<Vec<_>>()) {
            let claim = claims.get_mut(at).and_then(Option::take);
            let (worker, place) = (workers.get(at), keeps.get_mut(at));
            if let (Some(claim), Some(worker), Some(place)) = (claim, worker, place) {
                *place = Some(self.publish(worker, claim)?);
            }
        }
        Ok(keeps.into_iter().flatten().collect())
    }

    /// Checks a worker against those that are registered. Reads every slot, if it has relations.
    pub(crate) fn check_relations(&self, worker: &BackgroundWorker) -> Result<(), RegisterError> {
        if !worker.is_unique() && worker.after().next().is_none() {
            return Ok(());
        }
        let registered = self.unique_workers();
        let find = |name: &str| registered.iter().find(|worker| worker.name() == name);
        Ok(check_targets(worker, true, find)?)
    }

    /// Decodes no other worker: there may be thousands.
    fn unique_workers(&self) -> Vec<BackgroundWorker> {
        let slots = self.attachment.slots();
        let published = slots.occupied().filter(|(_, word)| word.state() == State::Published);
        let unique = published.filter_map(|(index, word)| {
            let record = slots.read(Key { index, generation: word.generation() }).ok()?;
            record.is_unique().then(|| record.decode().ok()).flatten()
        });
        unique.collect()
    }
}
