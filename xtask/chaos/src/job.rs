//! What a worker is asked to do. Travels as the worker's argument, so the oracle, the worker and
//! the registrant speak of the same thing.

use bgw_backend::{BackgroundWorker, InvalidWorker, Pid, RestartPolicy, WorkerFlags};
use rand::Rng;
use std::time::Duration;

/// The name of the template.
pub(crate) const TEMPLATE: &str = "number";

/// How a worker leaves its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Returns `Ok`.
    Return,
    /// Returns an error.
    Fail,
    /// Panics.
    Panic,
    /// Ends the process with this code.
    Exit(u8),
    /// Sends itself this signal.
    Raise(u8),
}

/// What SIGTERM does to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Terminate {
    /// It returns `Ok`.
    Heeds,
    /// Its handler is that of every worker: exit 1.
    Default,
    /// It goes on.
    Ignores,
}

/// Whether it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    /// Never.
    Never,
    /// At once.
    AtOnce,
    /// After 30 ms.
    Soon,
}

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// How it ends by itself.
    pub(crate) way: Way,
    /// After how many milliseconds; `None`: never by itself.
    pub(crate) after: Option<u16>,
    /// What SIGTERM does.
    pub(crate) terminate: Terminate,
    /// Its restart policy.
    pub(crate) restart: Restart,
    /// It shares memory with the others: its crash resets the cluster.
    pub(crate) shares: bool,
    /// It is a program that is executed, not a function.
    pub(crate) command: bool,
    /// It is of the parallel class.
    pub(crate) parallel: bool,
    /// It registers another worker and waits for it.
    pub(crate) nests: bool,
    /// It begins with what the template has loaded.
    pub(crate) template: bool,
}

/// What most workers do: nothing, and well.
pub(crate) const QUICK: Job = Job {
    way: Way::Return,
    after: Some(0),
    terminate: Terminate::Heeds,
    restart: Restart::Never,
    shares: false,
    command: false,
    parallel: false,
    nests: false,
    template: false,
};

/// Runs until its end is requested.
pub(crate) const UNTIL_TOLD: Job = Job { after: None, ..QUICK };

const NEVER_BY_ITSELF: u64 = 0xffff;

impl Job {
    /// Draws a job. Crashes of workers that share memory are rare, since each resets the cluster.
    pub(crate) fn draw(random: &mut impl Rng) -> Self {
        let ways = [
            (40, Way::Return),
            (15, Way::Fail),
            (5, Way::Panic),
            (10, Way::Exit(1)),
            (5, Way::Exit(0)),
            (5, Way::Exit(7)),
            (4, Way::Raise(6)),
            (4, Way::Raise(9)),
            (4, Way::Raise(15)),
        ];
        let shares = random.random_ratio(1, 4);
        let calm = [(1, Way::Return)];
        let is_calm = shares && !random.random_ratio(1, 40);
        let way = pick(random, if is_calm { &calm } else { &ways });
        let until_told = random.random_ratio(1, 4);
        let after = if until_told {
            None
        } else if random.random_ratio(1, 2) {
            Some(0)
        } else {
            Some(random.random_range(0..60))
        };
        let reactions = [
            (6, Terminate::Heeds),
            (3, Terminate::Default),
            (u32::from(!shares), Terminate::Ignores),
        ];
        let command = !shares && random.random_ratio(1, 12);
        let parallel = !command && random.random_ratio(1, 10);
        let policies = [(6, Restart::Never), (1, Restart::AtOnce), (2, Restart::Soon)];
        Self {
            way: if command { pick(random, &[(2, Way::Return), (1, Way::Fail)]) } else { way },
            after,
            terminate: if command { Terminate::Default } else { pick(random, &reactions) },
            // One that crashes all the same would reset the cluster again and again, under new
            // handles.
            restart: if parallel || shares && !is_calm {
                Restart::Never
            } else {
                pick(random, &policies)
            },
            shares,
            command,
            parallel,
            nests: !command && !parallel && random.random_ratio(1, 12),
            template: !command && random.random_ratio(1, 8),
        }
    }

    /// True when it ends without being asked, and stays ended.
    pub(crate) fn ends_by_itself(self) -> bool {
        let once = self.restart == Restart::Never || matches!(self.way, Way::Return | Way::Exit(0));
        self.after.is_some() && once
    }

    /// As a number.
    pub(crate) fn encode(self) -> u64 {
        let (way, code) = match self.way {
            Way::Return => (0, 0),
            Way::Fail => (1, 0),
            Way::Panic => (2, 0),
            Way::Exit(code) => (3, code),
            Way::Raise(signal) => (4, signal),
        };
        let bit = |place: u32, set: bool| u64::from(set) << place;
        way | u64::from(code) << 8
            | self.after.map_or(NEVER_BY_ITSELF, u64::from) << 16
            | (self.terminate as u64) << 32
            | (self.restart as u64) << 34
            | bit(40, self.shares)
            | bit(41, self.command)
            | bit(42, self.parallel)
            | bit(43, self.nests)
            | bit(44, self.template)
    }

    /// Out of a number; any number is a job.
    pub(crate) fn decode(number: u64) -> Self {
        let code = (number >> 8) as u8;
        let way = match number & 0xff {
            0 => Way::Return,
            1 => Way::Fail,
            2 => Way::Panic,
            3 => Way::Exit(code),
            _ => Way::Raise(code),
        };
        let after = number >> 16 & 0xffff;
        let bit = |place: u32| number >> place & 1 == 1;
        Self {
            way,
            after: (after != NEVER_BY_ITSELF).then_some(after as u16),
            terminate: match number >> 32 & 3 {
                0 => Terminate::Heeds,
                1 => Terminate::Default,
                _ => Terminate::Ignores,
            },
            restart: match number >> 34 & 3 {
                0 => Restart::Never,
                1 => Restart::AtOnce,
                _ => Restart::Soon,
            },
            shares: bit(40),
            command: bit(41),
            parallel: bit(42),
            nests: bit(43),
            template: bit(44),
        }
    }

    /// The worker's description.
    pub(crate) fn describe(self, notify: Option<Pid>) -> Result<BackgroundWorker, InvalidWorker> {
        let mut flags = WorkerFlags::empty();
        flags.set(WorkerFlags::SHMEM_ACCESS, self.shares);
        flags.set(WorkerFlags::CLASS_PARALLEL, self.parallel);
        let restart = match self.restart {
            Restart::Never => RestartPolicy::Never,
            Restart::AtOnce => RestartPolicy::Fixed(Duration::ZERO),
            Restart::Soon => RestartPolicy::Fixed(Duration::from_millis(30)),
        };
        let worker = BackgroundWorker::builder("chaos").flags(flags).restart(restart);
        let worker = worker.main_arg(self.encode());
        // Failure after failure, without waiting for the brake.
        let worker = if self.restart == Restart::Never { worker } else { worker.unbraked() };
        let worker = match (self.command, self.after, self.way) {
            (false, ..) => worker.function("act"),
            // With a process of its own, which must end with it.
            (true, None, _) => worker.command("sh", ["-c", "sleep 1000; :"]),
            (true, Some(_), Way::Return) => worker.command("true", [""; 0]),
            (true, Some(_), _) => worker.command("false", [""; 0]),
        };
        let worker = if self.template { worker.template(TEMPLATE) } else { worker };
        let worker = if let Some(pid) = notify { worker.notify(pid) } else { worker };
        worker.build()
    }
}

/// One of `choices`, each as likely as its weight.
pub(crate) fn pick<T: Copy>(random: &mut impl Rng, choices: &[(u32, T)]) -> T {
    let all: u32 = choices.iter().map(|(weight, _)| weight).sum();
    let mut left = random.random_range(0..all);
    for (weight, choice) in choices {
        if left < *weight {
            return *choice;
        }
        left -= weight;
    }
    // Not reached: `left` began below the sum of the weights.
    choices[0].1
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    #[test]
    fn every_job_travels_unchanged_and_can_be_described() {
        let mut random = StdRng::seed_from_u64(1);
        for _ in 0..10_000 {
            let job = Job::draw(&mut random);
            assert_eq!(Job::decode(job.encode()), job);
            job.describe(None).unwrap();
        }
    }
}
