//! THE loop: what happens becomes an event, the core answers with actions, they are performed, and all sleeps until the core's
//! deadline.

use super::history::History;
use super::journal::{BACKLOG, Journal};
use super::link::{self, Heard, Link};
use super::memory::Memory;
use super::notify::Notify;
use super::output::Output;
use super::perform::{Daemon, Means};
use super::server::{self, Asking};
use super::store::{self, Store};
use super::watch::Watcher;
use crate::core::clock::Millis;
use crate::core::cron::Calendar;
use crate::core::event::Event;
use crate::core::fleet::Fleet;
use crate::core::record::Actor;
use crate::core::recover::Found;
use crate::core::spec::Signal;
use crate::keeper::message::{BEAT_EVERY_MS, FromDaemon, FromKeeper};
use crate::os::wait::readable;
use crate::os::{clock, crash, file, process, role, signal, spawn};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the daemon stays for clients that have not taken their answer.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// How long a daemon that is to be replaced stays for commands that are under way. The keeper waits a second longer.
const LAST_COMMANDS: Duration = Duration::from_millis(2_000);

/// The loop gives way after this long, even with more to do.
const LONGEST_TURN: Duration = Duration::from_millis(2);

/// How the daemon's life ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// All has ended, the keeper is told.
    Bye,
    /// The keeper wants another daemon.
    Retired,
    /// The keeper is gone; what it held is stopped.
    KeeperLost,
}

/// Runs the daemon's role on the connection at fd 3.
///
/// # Errors
/// Where it cannot begin, or the keeper speaks another protocol.
pub fn run(home: &Path) -> io::Result<End> {
    let socket = process::inherited(role::KEEPER_FD)?;
    #[cfg(debug_assertions)]
    crash::arm(home);
    // Apps get the keeper's original limit, not this one.
    spawn::raise_open_files()?;
    file::reserve();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, live(home, socket)).inspect_err(|error| tracing::error!(%error, "the daemon cannot begin"))
}

async fn live(home: &Path, socket: OwnedFd) -> io::Result<End> {
    let signals = readable(signal::watch(&[Signal::TERM.0, Signal::INT.0, Signal::HUP.0])?)?;
    let mut link = Link::new(socket)?;
    let (mut inventory, early) = link.greeting().await?;
    crash::point("after", "greeting");
    // What the keeper holds may have taken all others: the runs of which some found no place are asked for again.
    file::give_up_all();
    crate::os::socket::listen(&inventory.front_door)?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let store = Store::new(home);
    let journal = Journal::open(home, held_file(&mut inventory.sockets, &link, BACKLOG)?)?;
    let (probed, mut from_probes) = mpsc::unbounded_channel();
    let (pumped, mut from_pump) = mpsc::unbounded_channel();
    let output = Output::start(home, pumped, link.speaker()?)?;
    let (watched, mut from_watch) = mpsc::unbounded_channel();
    let found = Found {
        wanted: store.load(inventory.sockets.get(store::HELD))?,
        boot_id: inventory.boot_id.clone(),
        highest_run: inventory.highest_run,
        held: inventory.held,
        tails: journal.tails(),
        calendar: Calendar(clock::next_time),
    };
    let now = clock::now();
    tracing::info!(
        keeper = inventory.keeper_pid,
        start = inventory.daemon_starts,
        held = found.held.len(),
        apps = found.wanted.apps.len(),
        "the daemon begins"
    );
    let (fleet, actions) = Fleet::recover(cpus, now, found);
    crash::point("after", "recover");
    let front_door: std::os::unix::net::UnixListener = inventory.front_door.into();
    front_door.set_nonblocking(true)?;
    let (asking, mut asked) = mpsc::unbounded_channel();
    let doors = server::Doors::new();
    let front_door = tokio::net::UnixListener::from_std(front_door)?;
    let serving = tokio::task::spawn_local(server::serve(front_door, doors.clone(), asking));
    let (noted, mut from_history) = mpsc::unbounded_channel();
    let (brought, mut from_couriers) = mpsc::unbounded_channel();
    let notifiers = Notify::new(now, fleet.notifiers(), brought);
    let means = Means {
        link,
        output,
        journal,
        store,
        memory: Memory::new()?,
        history: History::start(home, noted)?,
        notifiers,
        watcher: Watcher::new(watched),
        site: inventory.site,
        held: inventory.sockets,
        probed,
        boot_id: inventory.boot_id,
        keeper: inventory.keeper_pid,
        starts: inventory.daemon_starts,
        upgraded: inventory.upgrades,
    };
    let mut daemon = Daemon::new(fleet, means);
    let notify = readable(daemon.notify_socket()?)?;
    let alarm = readable(daemon.memory_alarm()?)?;
    let steps = readable(clock::steps()?)?;
    file::reserve();
    daemon.take_over(inventory.ends, inventory.bare);
    crash::point("after", "take-over");
    daemon.act(actions);
    for message in early {
        daemon.keeper_says(Heard { message, fds: Vec::new(), cut: false });
    }
    let mut turn = clock::precise();
    let mut retired = None;
    let mut beat = tokio::time::interval(Duration::from_millis(BEAT_EVERY_MS));
    loop {
        if daemon.said_bye {
            daemon.notifiers.end();
            // Who waits for the answer to `kill` gets it.
            let answered = async {
                while !doors.all_closed() {
                    tokio::time::sleep(Duration::from_millis(2)).await
                }
            };
            let _ = tokio::time::timeout(LAST_ANSWERS, answered).await;
            daemon.history.end();
            return Ok(End::Bye);
        }
        if daemon.upgrades.retiring {
            // Who comes from here on waits at the door for the next daemon; who is in gets an answer.
            serving.abort();
            let since = *retired.get_or_insert_with(clock::precise);
            if doors.are_empty() || clock::precise() - since >= LAST_COMMANDS {
                daemon.output.end();
                daemon.history.end();
                return Ok(End::Retired);
            }
        }
        // However much the keeper has to say, clients get their turn: their tasks run only while this one gives way.
        if clock::precise() - turn >= LONGEST_TURN {
            tokio::task::yield_now().await;
            turn = clock::precise();
        }
        let sleep = daemon.deadline().map(|at| Duration::from_millis((at - clock::now().mono).0));
        // In no order: in a storm of crashes the keeper always has news, and clients, signals and beats need their turn.
        tokio::select! {
            message = daemon.link.receive() => match message {
                Ok(heard) => daemon.keeper_says(heard),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => tracing::error!(%error, "from the keeper"),
                Err(error) => {
                    tracing::error!(%error, "the keeper is gone: what it held is ended, and all that is wanted starts anew");
                    daemon.end_all_runs();
                    daemon.history.end();
                    return Ok(End::KeeperLost);
                }
            },
            Some(event) = from_pump.recv() => daemon.pump_says(event),
            Some(told) = from_history.recv() => daemon.history_says(told),
            Some(told) = from_couriers.recv() => daemon.courier_says(told),
            Some(told) = from_watch.recv() => daemon.watch_says(told),
            Some(Asking { question, answer }) = asked.recv() => daemon.asked(question, answer),
            ready = signals.readable() => if let Ok(mut ready) = ready {
                ready.clear_ready();
                for came in signal::read(signals.get_ref()) {
                    daemon.signalled(came.signal, came.pid, came.uid);
                }
            },
            ready = notify.readable() => if let Ok(mut ready) = ready {
                match crate::os::notify::receive(notify.get_ref()) {
                    Ok(said) => daemon.notified(&said),
                    Err(_) => ready.clear_ready(),
                }
            },
            Some((run, outcome)) = from_probes.recv() => daemon.happened(Event::Probed { run, outcome }),
            ready = steps.readable() => if let Ok(mut ready) = ready {
                ready.clear_ready();
                if clock::was_set(steps.get_ref()) {
                    daemon.clock_set();
                }
            },
            ready = alarm.readable() => if let Ok(mut ready) = ready {
                ready.clear_ready();
                daemon.look_at_memory();
            },
            _ = beat.tick() => {
                if daemon.link.say(&FromDaemon::Beat, &[]).is_err() {
                    tracing::error!("the keeper does not listen");
                }
                daemon.tick();
            }
            () = wait(sleep) => daemon.due(),
            () = tokio::time::sleep(Duration::from_millis(2)), if daemon.upgrades.retiring => {}
        }
    }
}

/// A file of memory that the keeper holds under this name from now on, where it does not yet.
fn held_file(held: &mut BTreeMap<String, OwnedFd>, link: &Link, name: &str) -> io::Result<OwnedFd> {
    if let Some(file) = held.remove(name) {
        return Ok(file);
    }
    let file = file::memory_file(c"stead-held", &[])?;
    link.say(&FromDaemon::Hold { name: name.into() }, &[file.as_fd()])?;
    Ok(file)
}

async fn wait(sleep: Option<Duration>) {
    match sleep {
        // Up to a millisecond more, so that the core's deadline has passed.
        Some(span) => tokio::time::sleep(span + Duration::from_millis(1)).await,
        None => std::future::pending().await,
    }
}

/// What the keeper says, as an event of the core where it is one.
#[must_use]
pub fn event_of(message: &FromKeeper) -> Option<Event> {
    match message {
        FromKeeper::Failed { run, stage, errno } => {
            Some(Event::SpawnFailed { run: *run, failure: link::failure(*stage, *errno), holder: None })
        }
        FromKeeper::Term { signal, pid, uid } if *signal != Signal::HUP.0 => {
            Some(Event::Term { actor: actor(*pid, *uid) })
        }
        _ => None,
    }
}

/// Who sent a signal.
#[must_use]
pub fn actor(pid: i32, uid: u32) -> Actor {
    Actor { uid: Some(uid), pid: (pid > 0).then_some(pid), command: process::command_line(pid) }
}

/// How soon a tree that is not yet empty is looked at again, where the keeper's word of an orphan's death does not come first.
pub const SWEEP_AGAIN: Millis = Millis(20);
