//! What a pool decides: a pure function of events. It makes no system call and knows no clock, no Python and no
//! shared memory, so every order of events can be tried in a test.
//!
//! A worker that cannot be started (no descriptor, no process, no memory, for a moment) leaves its seat *vacant*: the
//! start is tried again after a pause, and after longer ones while it keeps failing. The clock is the caller's: it is
//! asked for a pause, and tells when that is over.

use std::time::Duration;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Tasks went into the ring.
    Submitted {
        /// How many.
        tasks: usize,
    },
    /// Tasks were answered, or failed because their worker died.
    Answered {
        /// How many.
        tasks: usize,
    },
    /// A worker's process is gone and buried.
    WorkerExited {
        /// Where it sat.
        seat: usize,
        /// Whether it had made itself ready.
        was_ready: bool,
    },
    /// A worker's process was ended by somebody from outside, before it had made itself ready, and is buried: that says
    /// nothing of whether the next one will be.
    WorkerKilledUnready {
        /// Where it sat.
        seat: usize,
    },
    /// A worker could not make itself ready and said why.
    WorkerUnready,
    /// There is more to do than there are workers.
    WorkerDemanded,
    /// The worker of that seat was started.
    Started {
        /// The seat.
        seat: usize,
    },
    /// The worker of that seat could not be started: the seat is vacant.
    StartRefused {
        /// The seat.
        seat: usize,
    },
    /// As [`Event::StartRefused`], and nobody wants the worker any more.
    StartGivenUp {
        /// The seat.
        seat: usize,
    },
    /// The pause that was asked for is over.
    PauseOver,
    /// No more tasks will be submitted.
    Close,
    /// Whatever is going on shall end.
    Terminate,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker for that seat; [`Event::Started`] or [`Event::StartRefused`] follows.
    Start {
        /// The seat.
        seat: usize,
    },
    /// Seats are vacant: [`Event::PauseOver`] is to follow after this time.
    Pause(Duration),
    /// Tell the workers to leave once the task ring is empty.
    Dismiss,
    /// End the workers, whatever they do.
    Kill,
    /// Fail every job: workers keep dying before they are ready, or say that they cannot be, or none can be started.
    Break,
}

/// Where a pool is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Takes tasks.
    Running,
    /// Takes no more tasks, answers those it has.
    Closing,
    /// Ends.
    Terminating,
    /// Cannot work; every job has failed.
    Broken,
}

/// Workers that die before they are ready, one after the other, until the pool breaks: per seat.
const UNREADY_DEATHS_PER_SEAT: usize = 2;
/// The same of workers that somebody ends from outside, while nothing is answered.
const UNREADY_KILLS_PER_SEAT: usize = 20;

/// After the first refusal the next start is tried so soon; each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A pool without any worker tries for so long, counted in pauses, until it breaks.
const STARVES_FOR: Duration = Duration::from_secs(5);

/// The decisions of one pool.
#[derive(Clone, Debug)]
pub struct Scheduler {
    state: State,
    occupied: Vec<bool>,
    outstanding: usize,
    unready_deaths: usize,
    unready_kills: usize,
    dismissed: bool,
    /// Seats whose worker could not be started and is to be tried again.
    vacant: Vec<bool>,
    /// The pause that was asked for and is not over.
    pause: Option<Duration>,
    /// How long the next pause is.
    next_pause: Duration,
    /// How long the pool has had no worker at all, and was refused one.
    starved: Duration,
}

impl Scheduler {
    /// A running pool whose seats are empty, and the workers to start.
    #[must_use]
    pub fn new(seats: usize) -> (Self, Vec<Action>) {
        let mut scheduler = Self {
            state: State::Running,
            occupied: vec![false; seats],
            outstanding: 0,
            unready_deaths: 0,
            unready_kills: 0,
            dismissed: false,
            vacant: vec![false; seats],
            pause: None,
            next_pause: FIRST_PAUSE,
            starved: Duration::ZERO,
        };
        let actions = (0..seats).map(|seat| scheduler.start(seat)).collect();
        (scheduler, actions)
    }

    /// A running pool whose workers are started one by one, as they are demanded.
    #[must_use]
    pub fn on_demand(seats: usize) -> Self {
        let (mut scheduler, _) = Self::new(seats);
        scheduler.occupied.fill(false);
        scheduler
    }

    /// How many seats have a worker.
    #[must_use]
    pub fn staffed(&self) -> usize {
        self.occupied.iter().filter(|&&occupied| occupied).count()
    }

    /// Where the pool is in its life.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Tasks submitted and not answered.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Whether no seat has a worker, and none is to get one.
    #[must_use]
    pub fn is_deserted(&self) -> bool {
        !self.has_workers() && !self.vacant.contains(&true)
    }

    fn has_workers(&self) -> bool {
        self.occupied.contains(&true)
    }

    /// Takes in an event; what to do about it.
    pub fn on(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Submitted { tasks } => {
                self.outstanding += tasks;
                Vec::new()
            }
            Event::Answered { tasks } => {
                self.outstanding = self.outstanding.saturating_sub(tasks);
                self.unready_kills = 0;
                self.dismiss_when_idle()
            }
            Event::WorkerExited { seat, was_ready } => self.worker_exited(seat, was_ready),
            Event::WorkerKilledUnready { seat } => self.worker_killed_unready(seat),
            Event::WorkerUnready => self.break_down(),
            Event::WorkerDemanded => self.worker_demanded(),
            Event::Started { .. } => self.started(),
            Event::StartRefused { seat } => self.start_refused(seat),
            Event::StartGivenUp { seat } => {
                self.occupied[seat] = false;
                Vec::new()
            }
            Event::PauseOver => self.pause_over(),
            Event::Close => {
                if self.state == State::Running {
                    self.state = State::Closing;
                }
                self.dismiss_when_idle()
            }
            Event::Terminate => {
                self.state = State::Terminating;
                self.vacant.fill(false);
                vec![Action::Kill]
            }
        }
    }

    fn start(&mut self, seat: usize) -> Action {
        self.occupied[seat] = true;
        self.vacant[seat] = false;
        Action::Start { seat }
    }

    /// Whether empty seats are to be filled.
    fn wants_workers(&self) -> bool {
        match self.state {
            State::Running => true,
            State::Closing => !self.dismissed,
            State::Terminating | State::Broken => false,
        }
    }

    /// There is room for one: perhaps for another one, too.
    fn started(&mut self) -> Vec<Action> {
        self.next_pause = FIRST_PAUSE;
        self.starved = Duration::ZERO;
        self.fill_a_vacancy()
    }

    fn start_refused(&mut self, seat: usize) -> Vec<Action> {
        self.occupied[seat] = false;
        if !self.wants_workers() {
            return Vec::new();
        }
        if !self.has_workers() && self.starved >= STARVES_FOR {
            return self.break_down();
        }
        self.vacant[seat] = true;
        if self.pause.is_some() {
            return Vec::new();
        }
        let pause = self.next_pause;
        self.next_pause = (2 * pause).min(LONGEST_PAUSE);
        self.pause = Some(pause);
        vec![Action::Pause(pause)]
    }

    fn pause_over(&mut self) -> Vec<Action> {
        let Some(pause) = self.pause.take() else { return Vec::new() };
        self.starved = if self.has_workers() { Duration::ZERO } else { self.starved + pause };
        self.fill_a_vacancy()
    }

    /// One at a time: the next is tried when this one was started.
    fn fill_a_vacancy(&mut self) -> Vec<Action> {
        match self.vacant.iter().position(|&vacant| vacant) {
            Some(seat) if self.wants_workers() => vec![self.start(seat)],
            _ => Vec::new(),
        }
    }

    fn worker_exited(&mut self, seat: usize, was_ready: bool) -> Vec<Action> {
        self.occupied[seat] = false;
        self.unready_deaths = if was_ready { 0 } else { self.unready_deaths + 1 };
        if !self.wants_workers() {
            return Vec::new();
        }
        if self.unready_deaths > UNREADY_DEATHS_PER_SEAT * self.occupied.len() {
            return self.break_down();
        }
        vec![self.start(seat)]
    }

    fn worker_killed_unready(&mut self, seat: usize) -> Vec<Action> {
        self.unready_kills += 1;
        if self.unready_kills <= UNREADY_KILLS_PER_SEAT * self.occupied.len() {
            // After a pause, as after a start that was refused.
            return self.start_refused(seat);
        }
        self.occupied[seat] = false;
        if self.wants_workers() { self.break_down() } else { Vec::new() }
    }

    fn worker_demanded(&mut self) -> Vec<Action> {
        let mut seats = self.occupied.iter().zip(&self.vacant);
        let Some(seat) = seats.position(|(occupied, vacant)| !occupied && !vacant) else { return Vec::new() };
        if self.state != State::Running {
            return Vec::new();
        }
        if self.pause.is_some() {
            // One more that is wanted when there is room again.
            self.vacant[seat] = true;
            return Vec::new();
        }
        vec![self.start(seat)]
    }

    fn dismiss_when_idle(&mut self) -> Vec<Action> {
        if self.state != State::Closing || self.outstanding != 0 || self.dismissed {
            return Vec::new();
        }
        self.dismissed = true;
        self.vacant.fill(false);
        vec![Action::Dismiss]
    }

    fn break_down(&mut self) -> Vec<Action> {
        if matches!(self.state, State::Broken | State::Terminating) {
            return Vec::new();
        }
        self.state = State::Broken;
        self.vacant.fill(false);
        self.outstanding = 0;
        vec![Action::Break, Action::Kill]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world in which the actions are carried out, driven by a random sequence of events.
    struct World {
        scheduler: Scheduler,
        workers: Vec<bool>,
        unanswered: usize,
        closed: bool,
        dismissed: bool,
        killed: bool,
        broken: bool,
        /// No worker can be started at the moment.
        refusing: bool,
        pausing: bool,
    }

    impl World {
        fn new(seats: usize) -> Self {
            let (scheduler, actions) = Scheduler::new(seats);
            let workers = vec![false; seats];
            let mut world = Self {
                scheduler,
                workers,
                unanswered: 0,
                closed: false,
                dismissed: false,
                killed: false,
                broken: false,
                refusing: false,
                pausing: false,
            };
            world.carry_out(actions);
            world
        }

        fn on(&mut self, event: Event) {
            let actions = self.scheduler.on(event);
            self.carry_out(actions);
        }

        fn carry_out(&mut self, actions: Vec<Action>) {
            for action in actions {
                match action {
                    Action::Start { seat } => {
                        assert!(!self.workers[seat], "two workers on one seat");
                        assert!(!self.killed && !self.dismissed, "a worker for a pool that ends");
                        self.workers[seat] = !self.refusing;
                        let refused = self.refusing;
                        self.on(if refused { Event::StartRefused { seat } } else { Event::Started { seat } });
                    }
                    Action::Pause(pause) => {
                        assert!(!self.pausing, "two pauses at once");
                        assert!(pause >= FIRST_PAUSE && pause <= LONGEST_PAUSE);
                        self.pausing = true;
                    }
                    Action::Dismiss => {
                        assert!(self.closed && self.unanswered == 0, "dismissed with work to do");
                        assert!(!self.dismissed, "dismissed twice");
                        self.dismissed = true;
                    }
                    Action::Kill => self.killed = true,
                    Action::Break => {
                        assert!(!self.broken, "broken twice");
                        self.broken = true;
                        self.unanswered = 0;
                    }
                }
            }
        }

        fn step(&mut self, choice: u64, detail: u64) {
            let seat = (detail % self.workers.len() as u64) as usize;
            match choice % 100 {
                0..=34 if !self.closed && !self.broken && !self.killed => {
                    self.unanswered += 1;
                    self.on(Event::Submitted { tasks: 1 });
                }
                35..=69 if self.unanswered > 0 && self.workers.contains(&true) => {
                    self.unanswered -= 1;
                    self.on(Event::Answered { tasks: 1 });
                }
                70..=89 if self.workers[seat] => {
                    self.workers[seat] = false;
                    self.on(Event::WorkerExited { seat, was_ready: !detail.is_multiple_of(5) });
                }
                90 => {
                    self.closed = true;
                    self.on(Event::Close);
                }
                91 if detail.is_multiple_of(7) => self.on(Event::Terminate),
                92 if detail.is_multiple_of(11) => self.on(Event::WorkerUnready),
                93 | 94 => self.refusing = detail.is_multiple_of(2),
                95..=98 if self.pausing => {
                    self.pausing = false;
                    self.on(Event::PauseOver);
                }
                _ => {}
            }
            self.check();
        }

        fn check(&self) {
            assert_eq!(self.scheduler.outstanding(), self.unanswered);
            let staffed = self.workers.iter().filter(|&&worker| worker).count();
            assert_eq!(self.scheduler.staffed(), staffed);
            assert!(!self.scheduler.is_deserted() || staffed == 0);
            if !self.pausing {
                assert_eq!(self.scheduler.is_deserted(), staffed == 0);
            }
            let works = matches!(self.scheduler.state(), State::Running | State::Closing);
            if works && self.unanswered > 0 {
                let staffed = self.workers.iter().all(|&w| w);
                assert!(staffed || self.pausing, "work to do and an empty seat that nobody thinks of");
            }
        }
    }

    #[test]
    fn random_events_never_leave_work_without_workers_or_start_one_too_many() {
        for seed in 1..2_000u64 {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = || {
                // xorshift64: Marsaglia, 2003.
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random
            };
            let mut world = World::new(1 + (seed % 5) as usize);
            for _ in 0..200 {
                world.step(next(), next());
            }
        }
    }

    #[test]
    fn workers_that_never_get_ready_break_the_pool_instead_of_coming_for_ever() {
        let (mut scheduler, _) = Scheduler::new(2);
        let mut started = 0;
        loop {
            let actions = scheduler.on(Event::WorkerExited { seat: 0, was_ready: false });
            if actions.contains(&Action::Break) {
                break;
            }
            started += 1;
            assert!(started < 10);
        }
        assert_eq!(scheduler.state(), State::Broken);
        assert!(scheduler.on(Event::WorkerExited { seat: 1, was_ready: false }).is_empty());
    }

    #[test]
    fn workers_that_are_killed_before_they_are_ready_come_again_after_a_pause_but_not_for_ever() {
        let (mut scheduler, _) = Scheduler::new(1);
        let mut killed = 0;
        while scheduler.state() == State::Running {
            let actions = scheduler.on(Event::WorkerKilledUnready { seat: 0 });
            killed += 1;
            assert!(killed <= 1 + UNREADY_KILLS_PER_SEAT);
            if scheduler.state() == State::Running {
                assert!(matches!(actions[..], [Action::Pause(_)]));
                assert_eq!(scheduler.on(Event::PauseOver), [Action::Start { seat: 0 }]);
                scheduler.on(Event::Started { seat: 0 });
            }
        }
        assert_eq!(killed, 1 + UNREADY_KILLS_PER_SEAT);
        let (mut scheduler, _) = Scheduler::new(1);
        for _ in 0..10 * UNREADY_KILLS_PER_SEAT {
            scheduler.on(Event::WorkerKilledUnready { seat: 0 });
            scheduler.on(Event::PauseOver);
            scheduler.on(Event::Started { seat: 0 });
            scheduler.on(Event::Submitted { tasks: 1 });
            scheduler.on(Event::Answered { tasks: 1 });
        }
        assert_eq!(scheduler.state(), State::Running, "it works between them");
    }

    #[test]
    fn on_demand_one_worker_comes_for_each_demand_while_there_is_room() {
        let mut scheduler = Scheduler::on_demand(2);
        assert!(scheduler.is_deserted());
        assert_eq!(scheduler.on(Event::WorkerDemanded), [Action::Start { seat: 0 }]);
        assert_eq!(scheduler.on(Event::WorkerDemanded), [Action::Start { seat: 1 }]);
        assert!(scheduler.on(Event::WorkerDemanded).is_empty());
        assert_eq!(scheduler.staffed(), 2);
        // One that was given up is not replaced by itself, but may be demanded again.
        assert!(scheduler.on(Event::StartGivenUp { seat: 0 }).is_empty());
        assert_eq!(scheduler.on(Event::WorkerDemanded), [Action::Start { seat: 0 }]);
        // One that died is replaced.
        let exit = Event::WorkerExited { seat: 1, was_ready: true };
        assert_eq!(scheduler.on(exit), [Action::Start { seat: 1 }]);
        scheduler.on(Event::Close);
        scheduler.on(Event::StartGivenUp { seat: 0 });
        assert!(scheduler.on(Event::WorkerDemanded).is_empty(), "a worker for a pool that ends");
    }

    #[test]
    fn a_closing_pool_replaces_a_worker_while_there_is_work_and_not_afterwards() {
        let (mut scheduler, _) = Scheduler::new(1);
        scheduler.on(Event::Submitted { tasks: 1 });
        assert!(scheduler.on(Event::Close).is_empty());
        let exit = Event::WorkerExited { seat: 0, was_ready: true };
        assert_eq!(scheduler.on(exit), [Action::Start { seat: 0 }]);
        assert_eq!(scheduler.on(Event::Answered { tasks: 1 }), [Action::Dismiss]);
        assert!(scheduler.on(exit).is_empty());
        assert!(scheduler.is_deserted());
    }
}
