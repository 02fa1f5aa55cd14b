//! The daemon's side of the connection to the keeper.

use crate::core::clock::Now;
use crate::core::event::{Exit, ExitStatus, RunNote, Usage};
use crate::core::name::RunId;
use crate::core::record::SpawnFailure;
use crate::core::recover::{Held, HeldState};
use crate::keeper::message::{FromDaemon, FromKeeper, OLDEST, PROTOCOL, State};
use crate::os::cgroup::site::Site;
use crate::os::process;
use crate::os::socket::{self, Packet};
use crate::os::spawn::Stage;
use crate::os::wait::readable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What a note holds for the next daemon: the core's part, and where the run's output begins in its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub core: RunNote,
    pub marks: Marks,
}

/// Where a run's output begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    pub out: Mark,
    pub err: Mark,
}

/// A place in a file that may be renamed meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub dev: u64,
    pub ino: u64,
    pub offset: u64,
}

/// Descriptors of a run.
#[derive(Debug)]
pub struct Ends {
    /// `None`: the spawn failed.
    pub pidfd: Option<OwnedFd>,
    pub out: OwnedFd,
    pub err: OwnedFd,
}

/// All that the keeper held when this daemon began.
#[derive(Debug)]
pub struct Inventory {
    pub boot_id: String,
    pub keeper_pid: i32,
    pub highest_run: RunId,
    pub daemon_starts: u64,
    pub upgrades: u64,
    pub front_door: OwnedFd,
    pub site: Site,
    pub sockets: BTreeMap<String, OwnedFd>,
    pub held: Vec<Held>,
    pub ends: BTreeMap<RunId, (Envelope, Ends)>,
    /// Of runs whose descriptors found no place here.
    pub bare: BTreeMap<RunId, Envelope>,
}

/// What the keeper said.
#[derive(Debug)]
pub struct Heard {
    pub message: FromKeeper,
    pub fds: Vec<OwnedFd>,
    /// Descriptors that belong to it are lost, for none was free.
    pub cut: bool,
}

/// The connection.
#[derive(Debug)]
pub struct Link {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
}

impl Link {
    /// # Errors
    /// Outside of a tokio runtime.
    pub fn new(socket: OwnedFd) -> io::Result<Link> {
        Ok(Link { socket: readable(socket)?, buffer: vec![0; socket::MAX_PACKET] })
    }

    /// Takes the greeting up to its end. The daemon acts on nothing before.
    ///
    /// # Errors
    /// The keeper hung up, or speaks a protocol that this binary does not know.
    pub async fn greeting(&mut self) -> io::Result<(Inventory, Vec<FromKeeper>)> {
        let mut begun: Option<Inventory> = None;
        let mut later = Vec::new();
        loop {
            let Heard { message, fds, cut } = self.receive().await?;
            let mut fds = fds.into_iter();
            match (message, &mut begun) {
                (
                    FromKeeper::Hello {
                        newest,
                        oldest,
                        boot_id,
                        keeper_pid,
                        highest_run,
                        daemon_starts,
                        upgrades,
                        site,
                    },
                    None,
                ) => {
                    if newest < OLDEST || oldest > PROTOCOL {
                        return Err(io::Error::other(format!(
                            "the keeper speaks protocol {oldest} to {newest}, this daemon {OLDEST} to {PROTOCOL}"
                        )));
                    }
                    let missing = || io::Error::other("the keeper's greeting came without its socket");
                    let front_door = fds.next().ok_or_else(missing)?;
                    begun = Some(Inventory {
                        boot_id,
                        keeper_pid,
                        highest_run,
                        daemon_starts,
                        upgrades,
                        front_door,
                        site,
                        sockets: BTreeMap::new(),
                        held: Vec::new(),
                        ends: BTreeMap::new(),
                        bare: BTreeMap::new(),
                    });
                }
                (FromKeeper::Socket { .. }, _) if cut => {
                    return Err(io::Error::other("no descriptor is free for what the keeper holds"));
                }
                (FromKeeper::Socket { name }, Some(inventory)) => {
                    inventory.sockets.extend(fds.next().map(|fd| (name, fd)))
                }
                (FromKeeper::Run { run, pid, started, state, note }, Some(inventory)) => {
                    let Ok(envelope) = serde_json::from_str::<Envelope>(&note) else {
                        tracing::error!(run = run.0, "the keeper holds a run whose note cannot be read");
                        continue;
                    };
                    let failed = matches!(state, State::Failed { .. });
                    inventory.held.push(Held {
                        run,
                        pid,
                        started,
                        // That it has ended is told again with its descriptors.
                        state: if cut && !failed { HeldState::Live } else { held_state(state) },
                        note: envelope.core.clone(),
                    });
                    if cut && !failed {
                        inventory.bare.insert(run, envelope);
                        continue;
                    }
                    let pidfd = if fds.len() > 2 { fds.next() } else { None };
                    match (fds.next(), fds.next()) {
                        (Some(out), Some(err)) if !failed => {
                            inventory.ends.insert(run, (envelope, Ends { pidfd, out, err }));
                        }
                        _ => {}
                    }
                }
                (FromKeeper::End { .. }, Some(_)) => {
                    return begun.map(|inventory| (inventory, later)).ok_or_else(|| io::ErrorKind::Other.into());
                }
                (message, _) => later.push(message),
            }
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// `UnexpectedEof` where the keeper is gone.
    pub async fn receive(&mut self) -> io::Result<Heard> {
        loop {
            let buffer = &mut self.buffer;
            let Packet { length, fds, cut } = self
                .socket
                .async_io(Interest::READABLE, |socket| socket::receive(socket, buffer))
                .await?
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            match serde_json::from_slice(&buffer[..length]) {
                Ok(message) => return Ok(Heard { message, fds, cut }),
                Err(error) => tracing::warn!(%error, "the keeper said something that cannot be read"),
            }
        }
    }

    /// Says something. The keeper always listens; where its queue is full for a moment, this waits for it.
    ///
    /// # Errors
    /// The keeper is gone.
    pub fn say(&self, message: &FromDaemon, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        say(self.socket.get_ref(), message, fds)
    }

    /// A mouth for another thread.
    ///
    /// # Errors
    /// Of dup(2).
    pub fn speaker(&self) -> io::Result<Speaker> {
        Ok(Speaker(self.socket.get_ref().try_clone()?))
    }
}

/// Says things to the keeper, and hears nothing.
#[derive(Debug)]
pub struct Speaker(pub(super) OwnedFd);

impl Speaker {
    /// # Errors
    /// As [`Link::say`].
    pub fn say(&self, message: &FromDaemon, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        say(&self.0, message, fds)
    }
}

fn say(socket: &OwnedFd, message: &FromDaemon, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let packet = serde_json::to_vec(message)?;
    loop {
        match socket::send(socket, &packet, fds) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => process::wait_writable(socket.as_fd(), 1000)?,
            result => return result,
        }
    }
}

/// An ended run as the core is told of it.
#[must_use]
pub fn exit(status: ExitStatus, usage: Usage, at: Now) -> Exit {
    Exit { status, usage, at }
}

/// A failed spawn as the core is told of it.
#[must_use]
pub fn failure(stage: Stage, errno: i32) -> SpawnFailure {
    SpawnFailure { stage: stage.word().into(), errno: process::errno_name(errno) }
}

fn held_state(state: State) -> HeldState {
    match state {
        State::Starting => HeldState::Starting,
        State::Live => HeldState::Live,
        State::Ended { status, usage, at } => HeldState::Ended { exit: exit(status, usage, at) },
        State::Failed { stage, errno, .. } => HeldState::Failed { failure: failure(stage, errno) },
    }
}
