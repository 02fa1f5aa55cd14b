//! The history of each instance: what its tree used over time, and whether that is a leak. Its files belong to a thread of its own,
//! so that a slow disk never stops the loop. It holds the readings of up to ten seconds: a write costs the same for ten as for one.

use crate::core::clock::{Millis, Mono};
use crate::core::history::{HEADER, Pen, RINGS, Reading, SIZE, read};
use crate::core::trend::{self, Trend};
use crate::os::file;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

/// Readings are a second apart.
const EVERY: Millis = Millis(1000);

/// CPU and processes are counted with each tenth: that takes a look at every process.
const FULL: u64 = 10;

/// Leaks are looked for this often: nobody's leak is found within a minute.
const JUDGE: u64 = 60;

/// Readings of so many seconds are written together, when the place in the ring of ten seconds is due: only the finest ring is ever
/// behind.
const HELD: u32 = RINGS[1].period;

/// How long the files have to take the last readings when the daemon ends.
const LAST_WRITE: Duration = Duration::from_millis(500);

/// A run younger than this is still warming up, in seconds.
const YOUNG: u32 = 600;

/// What the thread has to say.
#[derive(Debug)]
pub enum Told {
    /// Of each instance that was asked for.
    Trends(Vec<(String, Trend)>),
    /// The files cannot be written, or (`None`) can be again.
    Fault(Option<String>),
}

/// An instance whose trend is asked for, with its cap.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub name: String,
    pub cap: Option<u64>,
}

#[derive(Debug)]
enum Order {
    Write(Vec<(String, Reading)>),
    Judge(Vec<Wanted>),
    Trends { of: Vec<Wanted>, answer: oneshot::Sender<Vec<(String, Trend)>> },
    Read { of: Vec<String>, answer: oneshot::Sender<Vec<(String, Vec<Reading>)>> },
    Forget { app: String, keep: Vec<String> },
    End { done: Sender<()> },
}

/// How much is looked at this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub full: bool,
    pub judge: bool,
}

/// The loop's side.
#[derive(Debug)]
pub struct History {
    thread: Sender<Order>,
    due: Mono,
    turns: u64,
}

impl History {
    /// # Errors
    /// Where the thread cannot be started.
    pub fn start(home: &Path, told: UnboundedSender<Told>) -> io::Result<History> {
        let (thread, orders) = channel();
        let folder = home.join("history");
        let clerk = Clerk::new(folder, told);
        std::thread::Builder::new().name("history".into()).stack_size(128 << 10).spawn(move || clerk.serve(&orders))?;
        Ok(History { thread, due: Mono(0), turns: 0 })
    }

    /// When the next readings are due; on whole seconds, as the looks at memory are.
    #[must_use]
    pub fn deadline(&self) -> Mono {
        self.due
    }

    /// Whether it is time, and for how much.
    pub fn turn(&mut self, now: Mono) -> Option<Turn> {
        if now < self.due {
            return None;
        }
        self.due = Mono((now.0 / EVERY.0 + 1) * EVERY.0);
        let turn = Turn { full: self.turns.is_multiple_of(FULL), judge: self.turns % JUDGE == FULL };
        self.turns += 1;
        Some(turn)
    }

    pub fn write(&self, readings: Vec<(String, Reading)>) {
        if !readings.is_empty() {
            self.tell(Order::Write(readings));
        }
    }

    /// Answered by [`Told::Trends`].
    pub fn judge(&self, of: Vec<Wanted>) {
        self.tell(Order::Judge(of));
    }

    pub fn trends(&self, of: Vec<Wanted>, answer: oneshot::Sender<Vec<(String, Trend)>>) {
        self.tell(Order::Trends { of, answer });
    }

    pub fn read(&self, of: Vec<String>, answer: oneshot::Sender<Vec<(String, Vec<Reading>)>>) {
        self.tell(Order::Read { of, answer });
    }

    /// An app is gone; `keep` are the instances that are not.
    pub fn forget(&self, app: String, keep: Vec<String>) {
        self.tell(Order::Forget { app, keep });
    }

    /// The daemon ends: what is held goes into the files. A disk that hangs keeps nobody waiting.
    pub fn end(&self) {
        let (done, is_done) = channel();
        self.tell(Order::End { done });
        let _ = is_done.recv_timeout(LAST_WRITE);
    }

    fn tell(&self, order: Order) {
        // The thread ends with the daemon only.
        let _ = self.thread.send(order);
    }
}

/// The thread.
struct Clerk {
    folder: PathBuf,
    books: BTreeMap<String, Book>,
    /// In which of the spans of [`HELD`] seconds was written last.
    written: u32,
    fault: Option<String>,
    told: UnboundedSender<Told>,
}

#[derive(Default)]
struct Book {
    /// Opened with the first write, and anew after one that failed: somebody may have mended what is wrong with it.
    file: Option<File>,
    pen: Pen,
    /// Of the last reading, in seconds since 1970.
    last: u32,
}

impl Clerk {
    fn new(folder: PathBuf, told: UnboundedSender<Told>) -> Clerk {
        Clerk { folder, books: BTreeMap::new(), written: 0, fault: None, told }
    }

    fn serve(mut self, orders: &Receiver<Order>) {
        loop {
            let is_held = self.books.values().any(|book| !book.pen.is_empty());
            let limit = if is_held { Duration::from_secs(HELD.into()) } else { Duration::MAX };
            match orders.recv_timeout(limit) {
                Ok(Order::Write(readings)) => self.note(&readings),
                Ok(Order::Judge(of)) => {
                    let trends = self.trends(&of);
                    let _ = self.told.send(Told::Trends(trends));
                }
                Ok(Order::Trends { of, answer }) => {
                    let _ = answer.send(self.trends(&of));
                }
                Ok(Order::Read { of, answer }) => {
                    let all = of.into_iter().map(|name| {
                        let readings = self.read(&name);
                        (name, readings)
                    });
                    let _ = answer.send(all.collect());
                }
                Ok(Order::Forget { app, keep }) => self.forget(&app, &keep),
                Ok(Order::End { done }) => {
                    self.write(|_| true);
                    let _ = done.send(());
                }
                // Nothing runs any more.
                Err(RecvTimeoutError::Timeout) => self.write(|_| true),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn note(&mut self, readings: &[(String, Reading)]) {
        for (name, reading) in readings {
            if !self.books.contains_key(name) {
                self.books.insert(name.clone(), Book::default());
            }
            if let Some(book) = self.books.get_mut(name) {
                book.pen.note(*reading);
                book.last = reading.at;
            }
        }
        let span = readings.first().map_or(self.written, |(_, reading)| reading.at / HELD);
        let is_due = span != self.written;
        self.written = span;
        self.write(|book| is_due || book.file.is_none());
    }

    /// Writes what is held of these. One that cannot be written does not keep the others waiting.
    fn write(&mut self, which: impl Fn(&Book) -> bool) {
        let folder = &self.folder;
        let due = self.books.iter_mut().filter(|(_, book)| !book.pen.is_empty() && which(book));
        let written: Vec<io::Result<()>> = due.map(|(name, book)| book.write(&path(folder, name))).collect();
        if !written.is_empty() {
            self.tell_fault(written.into_iter().find_map(Result::err).map(|error| error.to_string()));
        }
    }

    /// What is known; nothing where there is no file.
    fn read(&mut self, name: &str) -> Vec<Reading> {
        let path = path(&self.folder, name);
        let now = match self.books.get_mut(name) {
            Some(book) => {
                // Where it fails the next reading is tried too, and told.
                let _ = book.write(&path);
                book.last
            }
            None => (crate::os::clock::now().wall.0 / 1000) as u32,
        };
        fs::read(path).ok().and_then(|file| read(&file, now)).unwrap_or_default()
    }

    fn trends(&mut self, of: &[Wanted]) -> Vec<(String, Trend)> {
        of.iter().map(|wanted| (wanted.name.clone(), judge(&self.read(&wanted.name), wanted.cap))).collect()
    }

    fn forget(&mut self, app: &str, keep: &[String]) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".history")) else {
                continue;
            };
            let slot = |rest: &str| rest.strip_prefix('-').is_some_and(|slot| slot.parse::<u32>().is_ok());
            let own = name.strip_prefix(app).is_some_and(|rest| rest.is_empty() || slot(rest));
            if own && !keep.iter().any(|one| one == name) {
                self.books.remove(name);
                let _ = fs::remove_file(&path);
            }
        }
    }

    fn tell_fault(&mut self, fault: Option<String>) {
        if fault != self.fault {
            self.fault.clone_from(&fault);
            let _ = self.told.send(Told::Fault(fault));
        }
    }
}

impl Book {
    /// What is held goes into the file, or is lost.
    fn write(&mut self, path: &Path) -> io::Result<()> {
        let pieces = self.pen.pieces();
        if pieces.is_empty() {
            return Ok(());
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => open(path)?,
        };
        pieces.iter().try_for_each(|(place, piece)| file.write_all_at(piece, *place))?;
        self.file = Some(file);
        Ok(())
    }
}

fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.history"))
}

fn open(path: &Path) -> io::Result<File> {
    path.parent().map_or(Ok(()), file::private_folder)?;
    let open = || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let mut file = open()?;
    let mut header = [0; HEADER.len()];
    let begun = file.read_exact_at(&mut header, 0).is_ok();
    if begun && header != HEADER {
        // Of a version to come, most likely: who goes back to that finds it.
        fs::rename(path, path.with_extension("history.other"))?;
        file = open()?;
    }
    if !begun || header != HEADER {
        file.set_len(SIZE as u64)?;
        file.write_all_at(&HEADER, 0)?;
    }
    Ok(file)
}

/// The run that lives against those before it.
fn judge(readings: &[Reading], cap: Option<u64>) -> Trend {
    let mut runs: Vec<Vec<trend::Reading>> = readings
        .chunk_by(|a, b| a.run == b.run)
        .map(|run| {
            let one = |reading: &Reading| trend::Reading {
                seconds: f64::from(reading.at),
                bytes: f64::from(reading.memory) * 1024.0,
            };
            run.iter().map(one).collect()
        })
        .collect();
    let current = runs.pop().unwrap_or_default();
    let span = |run: &[trend::Reading]| run.last().map_or(0.0, |last| last.seconds - run[0].seconds);
    // What is still warming up is judged by its last reading and those before it alone.
    let young = span(&current) < f64::from(YOUNG);
    let seen = if young { &current[current.len().saturating_sub(1)..] } else { &current };
    runs.retain(|run| span(run) >= f64::from(YOUNG));
    trend::judge_runs(&runs, seen, cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::trend::Reason;

    fn clerk(home: &Path) -> (Clerk, tokio::sync::mpsc::UnboundedReceiver<Told>) {
        let (told, heard) = tokio::sync::mpsc::unbounded_channel();
        (Clerk::new(home.join("history"), told), heard)
    }

    fn note(clerk: &mut Clerk, name: &str, reading: Reading) {
        clerk.note(&[(name.to_owned(), reading)]);
    }

    /// What a daemon that comes after a crash finds.
    fn found(home: &Path, name: &str) -> Vec<u32> {
        clerk(home).0.read(name).iter().map(|one| one.memory).collect()
    }

    fn reading(at: u32, memory: u32, run: u16) -> Reading {
        Reading { at, memory, cpu: 10, processes: 2, run }
    }

    /// Seconds since 1970, an hour ago.
    fn begin() -> u32 {
        (crate::os::clock::now().wall.0 / 1000) as u32 - 3600
    }

    /// A whole minute, so lately that what follows is still in the finest ring.
    fn lately() -> u32 {
        (begin() + 3400) / 60 * 60
    }

    #[test]
    fn what_one_daemon_wrote_the_next_one_reads_and_goes_on_with() {
        let home = tempfile::tempdir().unwrap();
        let begin = begin();
        let (mut first, _heard) = clerk(home.path());
        (0..100).for_each(|n| note(&mut first, "api", reading(begin + n, 1000 + n, 1)));
        first.write(|_| true);
        drop(first);
        let (mut second, _heard) = clerk(home.path());
        (100..110).for_each(|n| note(&mut second, "api", reading(begin + n, 1000 + n, 1)));
        let all = second.read("api");
        assert_eq!(all.iter().map(|one| one.memory).collect::<Vec<_>>(), (1000..1110).collect::<Vec<_>>());
        assert_eq!(fs::metadata(path(&second.folder, "api")).unwrap().len(), SIZE as u64);
    }

    #[test]
    fn a_crash_takes_less_than_ten_seconds_of_the_finest_ring_and_nothing_of_the_others() {
        let home = tempfile::tempdir().unwrap();
        let (mut first, _heard) = clerk(home.path());
        let begin = lately();
        for n in 0..130 {
            note(&mut first, "api", reading(begin + n, n, 1));
            let found = found(home.path(), "api");
            assert_eq!(found, (0..=n / 10 * 10).collect::<Vec<_>>(), "a crash after {n} seconds");
        }
        let file = fs::read(path(&first.folder, "api")).unwrap();
        let fine = HEADER.len() + RINGS[0].slots as usize * 16;
        let coarse = file[fine..].chunks(16).filter(|place| place.iter().any(|byte| *byte != 0)).count();
        assert_eq!(coarse, 13 + 3, "by ten seconds and by the minute");
    }

    #[test]
    fn what_is_asked_for_and_what_is_held_at_the_end_is_in_the_file() {
        let home = tempfile::tempdir().unwrap();
        let begin = lately();
        let (told, _heard) = tokio::sync::mpsc::unbounded_channel();
        let history = History::start(home.path(), told).unwrap();
        for n in 0..5 {
            history.write(vec![("api".into(), reading(begin + n, n, 1)), ("job".into(), reading(begin + n, n, 1))]);
        }
        let (answer, heard) = oneshot::channel();
        history.read(vec!["api".into()], answer);
        let read = heard.blocking_recv().unwrap();
        assert_eq!(read[0].1.len(), 5);
        assert_eq!((found(home.path(), "api").len(), found(home.path(), "job").len()), (5, 1));
        history.write(vec![("api".into(), reading(begin + 5, 5, 1))]);
        history.end();
        assert_eq!((found(home.path(), "api").len(), found(home.path(), "job").len()), (6, 5));
    }

    #[test]
    fn a_file_of_another_version_is_kept_aside() {
        let home = tempfile::tempdir().unwrap();
        let (mut clerk, _heard) = clerk(home.path());
        fs::create_dir(&clerk.folder).unwrap();
        fs::write(path(&clerk.folder, "api"), "stead history 9\nwhat comes").unwrap();
        assert_eq!(clerk.read("api"), []);
        note(&mut clerk, "api", reading(begin(), 5, 1));
        assert_eq!(clerk.read("api").len(), 1);
        let aside = fs::read_to_string(clerk.folder.join("api.history.other")).unwrap();
        assert!(aside.starts_with("stead history 9\n"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told_once_and_so_is_its_mending() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("history"), "in the way").unwrap();
        let (mut clerk, mut heard) = clerk(home.path());
        for n in 0..3 {
            note(&mut clerk, "api", reading(begin() + n, 5, 1));
        }
        fs::remove_file(home.path().join("history")).unwrap();
        note(&mut clerk, "api", reading(begin() + 5, 5, 1));
        note(&mut clerk, "api", reading(begin() + 6, 5, 1));
        assert!(matches!(heard.try_recv().unwrap(), Told::Fault(Some(_))));
        assert!(matches!(heard.try_recv().unwrap(), Told::Fault(None)));
        assert!(heard.try_recv().is_err());
    }

    #[test]
    fn an_app_that_is_gone_takes_its_own_history_with_it() {
        let home = tempfile::tempdir().unwrap();
        let (mut clerk, _heard) = clerk(home.path());
        for name in ["api", "api-0", "api-1", "api-two", "api2"] {
            note(&mut clerk, name, reading(begin(), 5, 1));
        }
        clerk.forget("api", &["api-1".into()]);
        let left = |name: &str| path(&clerk.folder, name).exists();
        assert_eq!(["api", "api-0", "api-1", "api-two", "api2"].map(left), [false, false, true, true, true]);
    }

    #[test]
    fn the_run_that_lives_is_judged_apart_from_those_before_it() {
        let leak = |run: u16| (0..120).map(move |n| reading(u32::from(run) * 2000 + n * 10, 100_000 + n * 200, run));
        let flat =
            |run: u16, count: u32| (0..count).map(move |n| reading(u32::from(run) * 2000 + n * 10, 100_000, run));
        let of = |readings: Vec<Reading>| judge(&readings, Some(1 << 30));
        assert_eq!(of(leak(1).collect()).reason, Reason::Grows);
        assert_eq!(of(leak(1).chain(flat(2, 120)).collect()).reason, Reason::Flat);
        assert_eq!(of(leak(1).chain(leak(2)).chain(flat(3, 5)).collect()).reason, Reason::AsBefore);
        assert_eq!(of(flat(1, 5).collect()).reason, Reason::TooShort);
        assert_eq!(of(Vec::new()).reason, Reason::TooShort);
    }
}
