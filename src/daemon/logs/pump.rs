//! The thread that moves bytes, and how long it lets a busy pipe gather.

use super::file::{Files, LogFile, TRY_AGAIN, Target};
use super::transform::Stamper;
use crate::core::clock::Millis;
use crate::core::database::LOCKED;
use crate::core::name::{RunId, Ticket};
use crate::daemon::link::Speaker;
use crate::keeper::message::{FromDaemon, Stream};
use crate::os::wait::{Bell, Waiter};
use crate::os::{clock, file, pipe};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// A pipe that keeps coming is left to gather for this long: a reader that wakes for each line is the cost of small writes.
const GATHER: Duration = Duration::from_millis(1);

/// Two reads nearer together than this are of a pipe that keeps coming.
const BUSY: Duration = Duration::from_millis(3);

/// Bytes of one pipe that are moved before the others get their turn.
const TURN: usize = 1 << 20;

/// An end whose pipe somebody outside of the tree still holds open is waited for no longer than this.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// What is looked at in one piece where bytes must be changed or copied.
const CHUNK: usize = 64 << 10;

/// Bytes at the end of a piece that are looked at: a traceback ends with its message.
const LOOK_BACK: usize = 1 << 10;

/// What the pump is told.
#[derive(Debug)]
pub enum Order {
    Attach {
        run: RunId,
        stream: Stream,
        pipe: OwnedFd,
        sink: Sink,
    },
    /// Bring home all that the run wrote, and say when that is done. `leave_open`: others may go on writing.
    Drain {
        run: RunId,
        leave_open: bool,
    },
    Forget {
        run: RunId,
    },
    Flush {
        ticket: Ticket,
        paths: Vec<PathBuf>,
    },
    Reopen,
    /// Remove what was rotated away from these files and written last longer ago than this.
    Tidy {
        aged: Vec<(PathBuf, Millis)>,
    },
}

/// What the pump says.
#[derive(Debug)]
pub enum Told {
    Drained {
        run: RunId,
    },
    Flushed {
        ticket: Ticket,
    },
    /// The run wrote to stderr that its database is locked: who holds the lock can be seen now.
    Locked {
        run: RunId,
    },
    /// So many more bytes found no place.
    Lost {
        path: PathBuf,
        bytes: u64,
    },
    /// The file cannot be written, or (`None`) can be again.
    Fault {
        path: PathBuf,
        why: Option<String>,
    },
}

/// Where a stream goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sink {
    /// `None`: nowhere.
    pub own: Option<Target>,
    /// Both streams of the run as well.
    pub combined: Option<Target>,
    /// A strftime format before each line.
    pub timestamp: Option<String>,
}

/// The pump's handle; it ends with it.
#[derive(Debug)]
pub struct Pump {
    orders: mpsc::Sender<Order>,
    bell: Bell,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    /// # Errors
    /// Of epoll_create1(2), pipe2(2), clone(2).
    pub fn start(told: UnboundedSender<Told>, keeper: Speaker) -> io::Result<Pump> {
        let waiter = Waiter::new()?;
        let bell = waiter.bell();
        let (orders, heard) = mpsc::channel();
        let scratch = pipe::make(None)?;
        let null = file::null()?;
        // The state holds `Rc`s, so it is made on its own thread. Only touched pages of a stack are memory; time zones need some.
        let thread = std::thread::Builder::new().name("logs".into()).stack_size(1 << 20).spawn(move || {
            let mut work =
                Work { waiter, heard, told, keeper, scratch, null, files: Files::default(), streams: BTreeMap::new() };
            while work.round() {}
        })?;
        Ok(Pump { orders, bell, thread: Some(thread) })
    }

    /// Ends it, and waits until it has ended.
    pub fn end(&mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// The channel closes with its one sender; the bell makes the thread see it.
    fn close(&mut self) {
        let (closed, _) = mpsc::channel();
        self.orders = closed;
        self.bell.ring();
    }

    pub fn tell(&self, order: Order) {
        let _ = self.orders.send(order);
        self.bell.ring();
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.close();
    }
}

struct Work {
    waiter: Waiter,
    heard: mpsc::Receiver<Order>,
    told: UnboundedSender<Told>,
    keeper: Speaker,
    /// A pipe of our own, to look at what another holds.
    scratch: (OwnedFd, OwnedFd),
    null: OwnedFd,
    files: Files,
    streams: BTreeMap<u64, Flow>,
}

/// One stream of one run.
struct Flow {
    run: RunId,
    stream: Stream,
    pipe: OwnedFd,
    own: Option<Rc<RefCell<LogFile>>>,
    combined: Option<Rc<RefCell<LogFile>>>,
    stamper: Option<Stamper>,
    line_start: bool,
    state: State,
    /// When it was last read, and what its pipe holds.
    last: Duration,
    capacity: usize,
    ending: Option<Ending>,
    /// Its run is done with; it stays for those who still write.
    forgotten: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Watched,
    Gathers {
        until: Duration,
    },
    /// Nobody can write any more.
    Ended,
}

#[derive(Clone, Copy, Debug)]
struct Ending {
    by: Duration,
    leave_open: bool,
}

impl Work {
    /// `false`: nobody gives orders any more.
    fn round(&mut self) -> bool {
        let ready = self.waiter.wait(self.next(clock::precise()));
        loop {
            match self.heard.try_recv() {
                Ok(order) => self.obey(order),
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            }
        }
        let now = clock::precise();
        let gathered =
            self.streams.iter().filter(|(_, flow)| matches!(flow.state, State::Gathers { until } if until <= now));
        let due: Vec<u64> = ready.into_iter().chain(gathered.map(|(token, _)| *token)).collect();
        for token in due {
            self.turn(token, now);
        }
        for flow in self.streams.values().filter(|flow| flow.fails()) {
            flow.look_again(&self.told, &self.keeper);
        }
        let ending: Vec<u64> =
            self.streams.iter().filter(|(_, flow)| flow.ending.is_some()).map(|(token, _)| *token).collect();
        for token in ending {
            self.finish(token, now);
        }
        true
    }

    /// How long nothing is to be done by ourselves.
    fn next(&self, now: Duration) -> Option<Duration> {
        let gathers = self.streams.values().filter_map(|flow| match flow.state {
            State::Gathers { until } => Some(until),
            State::Watched | State::Ended => None,
        });
        let endings = self.streams.values().filter_map(|flow| flow.ending.map(|ending| ending.by));
        let next = gathers.chain(endings).min().map(|at| at.saturating_sub(now));
        if self.streams.values().any(Flow::fails) { Some(next.unwrap_or(TRY_AGAIN).min(TRY_AGAIN)) } else { next }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Attach { run, stream, pipe, sink } => self.attach(run, stream, pipe, sink),
            Order::Drain { run, leave_open } => {
                let by = clock::precise() + LAST_WORDS;
                let mut any = false;
                for flow in self.streams.values_mut().filter(|flow| flow.run == run) {
                    flow.ending = Some(Ending { by, leave_open });
                    any = true;
                }
                if !any {
                    let _ = self.told.send(Told::Drained { run });
                }
            }
            Order::Forget { run } => {
                self.streams.values_mut().filter(|flow| flow.run == run).for_each(|flow| flow.forgotten = true);
                let done =
                    |(token, flow): (&u64, &Flow)| (flow.forgotten && flow.state == State::Ended).then_some(*token);
                let done: Vec<u64> = self.streams.iter().filter_map(done).collect();
                done.into_iter().for_each(|token| self.let_go(token));
            }
            Order::Flush { ticket, paths } => {
                for path in paths {
                    self.files.flush(&path);
                }
                let _ = self.told.send(Told::Flushed { ticket });
            }
            Order::Tidy { aged } => aged.iter().for_each(|(path, age)| super::file::tidy(path, *age)),
            Order::Reopen => {
                self.files.reopen();
                for flow in self.streams.values() {
                    flow.tell_file(&self.keeper);
                }
            }
        }
    }

    fn attach(&mut self, run: RunId, stream: Stream, pipe: OwnedFd, sink: Sink) {
        let token = run.0 * 2 + u64::from(stream == Stream::Err);
        let own = sink.own.as_ref().map(|target| self.files.get(target));
        let combined = sink.combined.as_ref().map(|target| self.files.get(target));
        // What splice(2) moves leaves the pipe as it comes into the file; what is written is there twice, or torn, where a daemon died.
        let written = own.iter().filter(|_| sink.timestamp.is_some()).chain(&combined);
        for just_opened in written.filter(|log| Rc::strong_count(log) == 1) {
            just_opened.borrow_mut().end_torn_line();
        }
        let line_start = own.as_ref().is_none_or(|log| log.borrow().at_line_start());
        let flow = Flow {
            run,
            stream,
            capacity: pipe::capacity(pipe.as_fd()),
            pipe,
            own,
            combined,
            stamper: sink.timestamp.as_deref().map(Stamper::new),
            line_start,
            state: State::Watched,
            last: Duration::ZERO,
            ending: None,
            forgotten: false,
        };
        if let Err(error) = self.waiter.add(flow.pipe.as_fd(), token) {
            tracing::error!(%error, run = run.0, "a pipe cannot be watched");
        }
        flow.tell_file(&self.keeper);
        flow.tell_losses(&self.told);
        self.streams.insert(token, flow);
    }

    /// A stream is done with. Of a file that nobody writes to nobody looks whether it can be written again: who opens it next says how it is.
    fn let_go(&mut self, token: u64) {
        let Some(flow) = self.streams.remove(&token) else { return };
        for log in flow.own.into_iter().chain(flow.combined) {
            if let Some(log) = Rc::into_inner(log).map(RefCell::into_inner).filter(LogFile::fails) {
                let path = log.path().to_owned();
                self.files.remember(log);
                let _ = self.told.send(Told::Fault { path, why: None });
            }
        }
    }

    /// Moves what a pipe holds.
    fn turn(&mut self, token: u64, now: Duration) {
        let Some(flow) = self.streams.get_mut(&token) else { return };
        let mut moved = 0;
        while moved < TURN {
            match flow.step(&self.scratch, &self.null) {
                Ok(0) => {
                    flow.state = State::Ended;
                    self.waiter.remove(flow.pipe.as_fd());
                    break;
                }
                Ok(n) => {
                    moved += n;
                    // Less than it can hold: most likely all that there was, and if not, we are told again.
                    if n < flow.capacity / 2 {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::error!(%error, run = flow.run.0, "a pipe cannot be read");
                    flow.state = State::Ended;
                    self.waiter.remove(flow.pipe.as_fd());
                    break;
                }
            }
        }
        if moved > 0 && flow.says_locked(moved) {
            let _ = self.told.send(Told::Locked { run: flow.run });
        }
        let rotated = flow.settle_rotation(&self.scratch, &self.null);
        flow.tell_losses(&self.told);
        let ended = flow.state == State::Ended;
        if let Some(log) = rotated {
            let shares = |flow: &&Flow| flow.own.as_ref().is_some_and(|own| Rc::ptr_eq(own, &log));
            self.streams.values().filter(shares).for_each(|flow| flow.tell_file(&self.keeper));
        }
        if ended {
            if self.streams.get(&token).is_some_and(|flow| flow.forgotten) {
                self.let_go(token);
            }
            return;
        }
        let Some(flow) = self.streams.get_mut(&token) else { return };
        let busy = now.saturating_sub(flow.last) < BUSY;
        flow.last = now;
        let state = if busy && moved < flow.capacity / 2 && flow.ending.is_none() {
            State::Gathers { until: now + GATHER }
        } else {
            State::Watched
        };
        if busy && flow.capacity < pipe::LONGEST_PIPE {
            flow.capacity = pipe::grow(flow.pipe.as_fd(), pipe::LONGEST_PIPE).max(flow.capacity);
        }
        let (watched, before) = (state == State::Watched, flow.state == State::Watched);
        if watched != before {
            self.waiter.watch(flow.pipe.as_fd(), token, watched);
        }
        flow.state = state;
    }

    /// A run whose processes have ended: reads to the pipe's end, or as long as its patience lasts.
    fn finish(&mut self, token: u64, now: Duration) {
        let Some(flow) = self.streams.get(&token) else { return };
        let Some(ending) = flow.ending else { return };
        let run = flow.run;
        if flow.state != State::Ended {
            self.turn(token, now);
        }
        let Some(flow) = self.streams.get_mut(&token) else { return };
        let empty = flow.state == State::Ended || pipe::waiting(flow.pipe.as_fd()) == 0;
        let done = flow.state == State::Ended || ending.leave_open && empty || now >= ending.by;
        if !done {
            return;
        }
        flow.ending = None;
        if flow.state != State::Ended && !ending.leave_open {
            flow.state = State::Ended;
            self.waiter.remove(flow.pipe.as_fd());
        }
        if self.streams.values().all(|other| other.run != run || other.ending.is_none()) {
            let _ = self.told.send(Told::Drained { run });
        }
    }
}

impl Flow {
    /// Moves one piece. 0: the pipe's end.
    fn step(&mut self, scratch: &(OwnedFd, OwnedFd), null: &OwnedFd) -> io::Result<usize> {
        if self.stamper.is_none() && self.combined.is_none() {
            return self.take(null, usize::MAX);
        }
        let n = pipe::tee(self.pipe.as_fd(), scratch.1.as_fd(), CHUNK)?;
        if n == 0 {
            return Ok(0);
        }
        let mut bytes = vec![0; n];
        read_all(scratch, &mut bytes)?;
        let full = self.own.iter().chain(&self.combined).any(|log| log.borrow().is_full());
        if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n').filter(|_| full) {
            // The rest stays in the pipe until the file is rotated.
            bytes.truncate(at + 1);
        }
        let n = bytes.len();
        let stamped =
            self.stamper.as_mut().map(|stamper| stamper.stamp(&bytes, &mut self.line_start, clock::now().wall));
        if let Some(combined) = &self.combined {
            let mut combined = combined.borrow_mut();
            combined.write(stamped.as_deref().unwrap_or(&bytes));
            if combined.is_full() && (combined.at_line_start() || combined.is_overfull()) {
                combined.rotate();
            }
        }
        match (&stamped, &self.own) {
            (Some(stamped), Some(own)) => {
                own.borrow_mut().write(stamped);
                discard(&self.pipe, null, n)?;
            }
            (Some(_), None) => discard(&self.pipe, null, n)?,
            (None, _) => {
                let mut left = n;
                while left > 0 {
                    left -= self.take(null, left)?;
                }
            }
        }
        Ok(n)
    }

    /// Moves raw bytes into the own file, up to its size.
    fn take(&self, null: &OwnedFd, most: usize) -> io::Result<usize> {
        let most = most.min(TURN);
        match &self.own {
            None => pipe::splice(self.pipe.as_fd(), null.as_fd(), most),
            Some(own) => {
                let mut own = own.borrow_mut();
                let room = own.room().map_or(most, |room| most.min((room as usize).max(4096)));
                own.splice(self.pipe.as_fd(), null.as_fd(), room)
            }
        }
    }

    /// A file over its size is rotated where it ends in a line: the rest of the line is moved first. Returns the file if it was.
    fn settle_rotation(&mut self, scratch: &(OwnedFd, OwnedFd), null: &OwnedFd) -> Option<Rc<RefCell<LogFile>>> {
        let own = self.own.clone()?;
        if !own.borrow().is_full() {
            return None;
        }
        let raw = self.stamper.is_none() && self.combined.is_none();
        if raw && !own.borrow().at_line_start() && self.state != State::Ended {
            self.end_line(&own, scratch, null);
        }
        let rotated = {
            let mut log = own.borrow_mut();
            let cut = self.state == State::Ended || log.is_overfull();
            (log.at_line_start() || cut) && log.rotate()
        };
        rotated.then_some(own)
    }

    fn end_line(&self, own: &Rc<RefCell<LogFile>>, scratch: &(OwnedFd, OwnedFd), null: &OwnedFd) {
        let Ok(n) = pipe::tee(self.pipe.as_fd(), scratch.1.as_fd(), CHUNK) else { return };
        let mut bytes = vec![0; n];
        if read_all(scratch, &mut bytes).is_err() {
            return;
        }
        let mut left = bytes.iter().position(|byte| *byte == b'\n').map_or(n, |at| at + 1);
        while left > 0 {
            match own.borrow_mut().splice(self.pipe.as_fd(), null.as_fd(), left) {
                Ok(moved) if moved > 0 => left -= moved,
                Ok(_) | Err(_) => return,
            }
        }
    }

    /// Does the end of what was just moved say that a database is locked? Read back from the file, for splice(2) shows nothing.
    fn says_locked(&self, moved: usize) -> bool {
        let own = self.own.as_ref().filter(|_| self.stream == Stream::Err);
        own.is_some_and(|own| {
            let end = own.borrow().end(moved.min(LOOK_BACK));
            end.windows(LOCKED.len()).any(|words| words == LOCKED.as_bytes())
        })
    }

    fn fails(&self) -> bool {
        self.own.iter().chain(&self.combined).any(|log| log.borrow().fails())
    }

    fn look_again(&self, told: &UnboundedSender<Told>, keeper: &Speaker) {
        let heals = self.own.iter().chain(&self.combined).filter(|log| log.borrow_mut().look_again()).count() > 0;
        if heals {
            self.tell_losses(told);
            self.tell_file(keeper);
        }
    }

    /// The stream goes to this file from now on: the keeper may do the same while no daemon lives. It is told before anything is
    /// moved there: what it moved to the file before, after a crash, would stand before what came earlier, or in none.
    fn tell_file(&self, keeper: &Speaker) {
        let Some(file) = self.own.as_ref().and_then(|own| own.borrow().duplicate()) else { return };
        if let Err(error) = keeper.say(&FromDaemon::Log { run: self.run, stream: self.stream }, &[file.as_fd()]) {
            tracing::error!(%error, "the keeper does not listen");
        }
    }

    fn tell_losses(&self, told: &UnboundedSender<Told>) {
        for log in self.own.iter().chain(&self.combined) {
            let mut log = log.borrow_mut();
            let bytes = std::mem::take(&mut log.lost);
            if bytes > 0 {
                let _ = told.send(Told::Lost { path: log.path().to_owned(), bytes });
            }
            if let Some(why) = log.news() {
                let _ = told.send(Told::Fault { path: log.path().to_owned(), why });
            }
        }
    }
}

/// Takes exactly what was teed into the scratch pipe.
fn read_all(scratch: &(OwnedFd, OwnedFd), bytes: &mut [u8]) -> io::Result<()> {
    let mut at = 0;
    while at < bytes.len() {
        at += pipe::read(scratch.0.as_fd(), &mut bytes[at..])?;
    }
    Ok(())
}

fn discard(pipe: &OwnedFd, null: &OwnedFd, mut n: usize) -> io::Result<()> {
    while n > 0 {
        n -= pipe::splice(pipe.as_fd(), null.as_fd(), n)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    /// The next daemon in a row may die before its loop turns, and what the keeper moves then must not go to a file that was
    /// rotated away.
    #[test]
    fn the_keeper_hears_of_a_new_file_from_the_thread_that_opened_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.out.log");
        let (keeper, ours) = crate::os::socket::pair().unwrap();
        let (told, _hears) = tokio::sync::mpsc::unbounded_channel();
        let pump = Pump::start(told, Speaker(ours)).unwrap();
        let (pipe, writer) = pipe::make(None).unwrap();
        let own = Some(Target { path: path.clone(), max_size: 10, keep: 3 });
        let sink = Sink { own, ..Sink::default() };
        pump.tell(Order::Attach { run: RunId(1), stream: Stream::Out, pipe, sink });
        let hear = || {
            let mut buffer = vec![0; crate::os::socket::MAX_PACKET];
            let heard = loop {
                match crate::os::socket::receive(&keeper, &mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                    heard => break heard.unwrap().unwrap(),
                }
            };
            let message: FromDaemon = serde_json::from_slice(&buffer[..heard.length]).unwrap();
            assert_eq!(message, FromDaemon::Log { run: RunId(1), stream: Stream::Out });
            std::fs::File::from(heard.fds.into_iter().next().unwrap()).metadata().unwrap().ino()
        };
        let first = hear();
        std::fs::File::from(writer).write_all(b"a line of more than ten bytes\n").unwrap();
        let second = hear();
        assert_ne!(first, second);
        assert_eq!(second, std::fs::metadata(&path).unwrap().ino());
    }
}
