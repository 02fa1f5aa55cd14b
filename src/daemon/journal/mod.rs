//! The exit records on disk: JSON Lines, one file per app and the one before it.
//!
//! A line is written before what follows it and synced within a second by a thread of its own. Each line carries what was counted
//! up to it, so the last line of an instance is enough to begin from. A file with `journal_keep` records becomes `NAME.jsonl.1`, in
//! the place of the one before, and the new one begins with what is needed to begin from: nothing is ever copied or waited for.

mod backlog;
mod read;

pub use backlog::NAME as BACKLOG;
pub use read::{Asked, Reader};

use super::store::newer;
use crate::core::action::{Entry, Line};
use crate::core::name::{AppName, Id, RunId};
use crate::core::recover::{self, Tail};
use crate::os::{crash, file};
use backlog::{Backlog, Kept};
use read::Glimpse;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Version of a line.
const VERSION: u32 = 1;

/// What a record takes on the average at most; `journal_keep` of them are the room of a file, so that runs that die talking do not
/// fill the disk: a record can have 64 KB of last words.
const ROOM_OF_A_RECORD: u64 = 16 << 10;

/// Where the last line is looked for.
const LONGEST_LINE: u64 = 512 << 10;

/// Lines that wait for room on the disk, and their bytes; beyond it the oldest go, and are counted.
const MOST_WAITING: usize = 2000;
const MOST_WAITING_BYTES: usize = 16 << 20;

/// How often dirty files are synced.
const SYNC_EVERY: Duration = Duration::from_millis(500);

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    /// The line stands in the file before this one, too; so many such lines follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    carried: Option<usize>,
    #[serde(flatten)]
    line: &'a Line,
}

/// The journal of a home.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    syncer: mpsc::Sender<PathBuf>,
    shelves: BTreeMap<AppName, Shelf>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The same lines, for the next daemon.
    backlog: Backlog,
    /// Lines that found no place in memory either, since it could be written last.
    dropped: u64,
    /// Why it waits.
    trouble: Option<String>,
}

/// A line that is not on the disk yet.
#[derive(Debug)]
struct Waiting {
    app: AppName,
    id: Id,
    instance: String,
    run: RunId,
    kind: Kind,
    bytes: Vec<u8>,
    keep: u32,
    /// In the backlog; `None`: it is new, or there was no memory for it.
    place: Option<Place>,
}

/// What is known of an app's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shelf {
    length: u64,
    /// Records in it.
    ends: u32,
    places: BTreeMap<Id, Places>,
    /// The carried lines at its beginning are all there.
    whole: bool,
    /// Lines that cannot be read: torn, foreign, or of a newer version.
    unread: usize,
}

/// Where the lines stand from which an instance begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Places {
    instance: String,
    last: Place,
    /// Of the last [`ENDS`], oldest first.
    ends: VecDeque<Place>,
    /// Of starts without an end: two during a reload.
    open: Vec<(RunId, Place)>,
    /// Of the last [`INCIDENTS`] in the trees of open runs.
    incidents: VecDeque<(RunId, Place)>,
}

/// More than these are not carried into the next file: at worst a daemon that begins tells of some kills a second time.
const INCIDENTS: usize = 32;

/// Ends of an instance that are needed to begin from: that of a reload's old run says nothing of what follows, and the keeper may still
/// hold runs whose ends are written.
const ENDS: usize = 4;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: u64,
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Start,
    End,
    Incident,
    Other,
}

impl Kind {
    fn of(entry: &Entry) -> Kind {
        match entry {
            Entry::Start { .. } => Kind::Start,
            Entry::End { .. } => Kind::End,
            Entry::Incident(_) => Kind::Incident,
            Entry::Reset { .. } | Entry::Asked { .. } => Kind::Other,
        }
    }
}

impl Journal {
    /// `backlog`: a file of memory, with what earlier daemons could not write.
    ///
    /// # Errors
    /// Where descriptors or memory are short: what is in the journal is not known then, and nothing may be decided without it.
    pub fn open(home: &Path, backlog: OwnedFd) -> io::Result<Journal> {
        let folder = home.join("journal");
        // Where there is no room for it yet, the first line makes it.
        if let Err(error) = file::private_folder(&folder) {
            tracing::error!(%error, path = %folder.display(), "the folder of the journal cannot be made");
        }
        let (syncer, dirty) = mpsc::channel();
        std::thread::Builder::new().name("sync".into()).stack_size(64 << 10).spawn(move || sync(&dirty))?;
        let mut journal = Journal {
            folder,
            syncer,
            shelves: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            backlog: Backlog::new(backlog),
            dropped: 0,
            trouble: None,
        };
        for app in journal.apps()? {
            journal.take(&app)?;
        }
        journal.take_backlog()?;
        Ok(journal)
    }

    /// What the daemon before could not write waits here now.
    fn take_backlog(&mut self) -> io::Result<()> {
        let kept = self.backlog.read()?;
        let written = backlog::written(&self.folder, &kept);
        let (mut waiting, mut done) = (VecDeque::new(), Vec::new());
        for Kept { app, keep, bytes, place } in &kept {
            match Glimpse::of(bytes).filter(|_| !written.contains(bytes.as_slice())) {
                Some(line) => {
                    let (id, instance, run, kind) = (line.id, line.instance.into_owned(), line.run, line.entry.kind());
                    let (app, bytes, keep, place) = (app.clone(), bytes.clone(), *keep, Some(*place));
                    waiting.push_back(Waiting { app, id, instance, run, kind, bytes, keep, place });
                }
                None => done.push(*place),
            }
        }
        if !kept.is_empty() {
            tracing::info!(lines = waiting.len(), "the daemon before left lines of the journal that wait for room");
        }
        done.into_iter().for_each(|place| self.backlog.remove(place));
        self.waiting = waiting;
        self.flush();
        Ok(())
    }

    /// Is the journal of a home of a version that this stead knows? Only the last lines are looked at.
    ///
    /// # Errors
    /// It is newer.
    pub fn check(home: &Path) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Version {
            v: u32,
        }
        let folder = home.join("journal");
        for app in apps(&folder)? {
            let name = format!("{app}.jsonl");
            let last = last_bytes(&folder.join(&name), LONGEST_LINE).unwrap_or_default();
            // The first may be cut off at its beginning, the last torn.
            let mut versions = last.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
            if let Some(Version { v }) = versions.next_back().filter(|version: &Version| version.v > VERSION) {
                return Err(newer(&format!("journal/{name}"), v, VERSION));
            }
        }
        Ok(())
    }

    /// The apps that have a file.
    fn apps(&self) -> io::Result<BTreeSet<AppName>> {
        apps(&self.folder)
    }

    /// Takes an app's file over: what is torn or cannot be read is put aside and said.
    fn take(&mut self, app: &AppName) -> io::Result<()> {
        let path = path(&self.folder, app);
        let mut shelf = match Shelf::read(&path) {
            Ok(shelf) => shelf,
            // The file itself is as it should be.
            Err(error) if file::is_shortage(&error) => return Err(error),
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "a journal cannot be read");
                put_aside(&path);
                Shelf::default()
            }
        };
        if shelf.unread > 0 {
            tracing::warn!(lines = shelf.unread, path = %path.display(), "lines of the journal cannot be read");
        }
        // Renamed a moment before a crash, or lost by a power cut: the file before it has all that was counted.
        let before = before(&path);
        if !shelf.whole
            && let Ok(old) = Shelf::read(&before)
        {
            let lines = old.lines(&before).into_iter().filter(|line| !shelf.places.contains_key(&line.id));
            match carry(&path, shelf.length, lines.collect()) {
                Ok(carried) => shelf.extend(carried),
                Err(error) => tracing::error!(%error, path = %path.display(), "the journal cannot be written"),
            }
        }
        self.shelves.insert(app.clone(), shelf);
        Ok(())
    }

    /// The end of every instance's journal.
    #[must_use]
    pub fn tails(&self) -> BTreeMap<Id, Tail> {
        let lines = |(app, shelf): (&AppName, &Shelf)| shelf.lines(&path(&self.folder, app));
        let waiting = self.waiting.iter().filter_map(|waiting| serde_json::from_slice(&waiting.bytes).ok());
        recover::tails(self.shelves.iter().flat_map(lines).chain(waiting))
    }

    /// Writes a line; `keep`: the app's `journal_keep`. A full disk stops nobody: the line waits in memory.
    pub fn write(&mut self, app: &AppName, line: &Line, keep: u32) {
        let Some(bytes) = bytes(line, None) else { return };
        self.waiting_bytes += bytes.len();
        while self.waiting.len() >= MOST_WAITING || self.waiting_bytes > MOST_WAITING_BYTES {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.waiting_bytes -= oldest.bytes.len();
            self.dropped += 1;
            oldest.place.into_iter().for_each(|place| self.backlog.remove(place));
        }
        let (id, instance, run, kind) = (line.id, line.instance.clone(), line.run, Kind::of(&line.entry));
        self.waiting.push_back(Waiting { app: app.clone(), id, instance, run, kind, bytes, keep, place: None });
        self.flush();
    }

    /// Tries again to write what waits; the files of other apps are not kept waiting by a bad one.
    pub fn flush(&mut self) {
        let mut failed: BTreeMap<AppName, io::Error> = BTreeMap::new();
        let is_kept = self.waiting.iter().any(|waiting| waiting.place.is_some());
        for waiting in std::mem::take(&mut self.waiting) {
            let written =
                if failed.contains_key(&waiting.app) { Ok(false) } else { self.append(&waiting).map(|()| true) };
            match written {
                Ok(true) => {
                    if let Some(place) = waiting.place {
                        crash::point("amid", "landing");
                        self.backlog.remove(place);
                    }
                }
                Ok(false) => self.waiting.push_back(waiting),
                Err(error) => {
                    failed.insert(waiting.app.clone(), error);
                    self.waiting.push_back(waiting);
                }
            }
        }
        if is_kept || !self.waiting.is_empty() {
            self.back_up();
        }
        self.waiting_bytes = self.waiting.iter().map(|waiting| waiting.bytes.len()).sum();
        let trouble = failed.into_values().next().map(|error| error.to_string());
        match (&trouble, &self.trouble) {
            (Some(error), None) => tracing::error!(error, "the journal cannot be written; records wait in memory"),
            (None, Some(_)) => {
                tracing::info!(lost = self.dropped, "the journal can be written again");
                self.dropped = 0;
            }
            _ => {}
        }
        self.trouble = trouble;
    }

    /// What waits is in the backlog before anything follows it. What finds no memory there is tried again with the next line.
    fn back_up(&mut self) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.place.is_none()) {
            waiting.place = self.backlog.add(&waiting.app, waiting.keep, &waiting.bytes).ok();
        }
        self.backlog.begins(self.waiting.iter().find_map(|waiting| waiting.place).map(|place| place.start));
    }

    /// What is wrong with it, where something is.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        let why = self.trouble.as_ref()?;
        let count = self.waiting.len();
        let lost = if self.dropped > 0 {
            format!(", {} found no place there and are lost", self.dropped)
        } else {
            String::new()
        };
        let alone = match self.waiting.iter().filter(|waiting| waiting.place.is_none()).count() {
            0 => String::new(),
            alone => format!(", {alone} of them in this daemon's alone"),
        };
        Some(format!("exit records cannot be written, {count} wait in memory{alone}{lost}: {why}"))
    }

    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The file of an app with what it still waits for, for a thread that has time to read it.
    #[must_use]
    pub fn reader(&self, app: &AppName, keep: u32) -> Reader {
        let waiting: Vec<Vec<u8>> =
            self.waiting.iter().filter(|one| one.app == *app).map(|one| one.bytes.clone()).collect();
        let trouble = self.trouble.clone().filter(|_| !waiting.is_empty());
        Reader { path: path(&self.folder, app), waiting, trouble, keep: keep as usize }
    }

    fn append(&mut self, waiting: &Waiting) -> io::Result<()> {
        let path = path(&self.folder, &waiting.app);
        let place = match append(&path, &waiting.bytes) {
            Ok(place) => place,
            Err(error) if file::is_full(&error) || file::is_shortage(&error) => return Err(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                file::private_folder(&self.folder)?;
                append(&path, &waiting.bytes)?
            }
            // It is no file, or not ours: it is put aside, and a new one begins.
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "a journal cannot be written");
                if !put_aside(&path) {
                    return Err(error);
                }
                append(&path, &waiting.bytes)?
            }
        };
        let shelf =
            self.shelves.entry(waiting.app.clone()).or_insert_with(|| Shelf { whole: true, ..Shelf::default() });
        if place.start < shelf.length {
            // Somebody emptied or removed it: what stood there is gone.
            *shelf = Shelf { whole: true, ..Shelf::default() };
        }
        shelf.note(waiting.id, &waiting.instance, waiting.run, waiting.kind, place);
        let full = shelf.ends >= waiting.keep || shelf.length > u64::from(waiting.keep) * ROOM_OF_A_RECORD;
        if full && waiting.kind == Kind::End {
            match shelf.turn(&path) {
                Ok(new) => *shelf = new,
                Err(error) => {
                    // As many again, then it is tried again.
                    shelf.ends = 0;
                    tracing::error!(%error, path = %path.display(), "no new journal file can be begun");
                }
            }
            let _ = self.syncer.send(before(&path));
            let _ = self.syncer.send(self.folder.clone());
        }
        let _ = self.syncer.send(path);
        Ok(())
    }
}

impl Shelf {
    /// Reads a file through; a torn last line is put aside. A file that is not there is an empty shelf.
    fn read(path: &Path) -> io::Result<Shelf> {
        let mut shelf = Shelf::default();
        match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(shelf),
            // Opening a named pipe would wait, and reading a device might never end.
            Ok(meta) if !meta.is_file() => return Err(io::Error::other("it is no file")),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
        let file = File::open(path)?;
        let mut reader = BufReader::with_capacity(256 << 10, &file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let torn = line.last() != Some(&b'\n');
            let place = Place { start: shelf.length, length: line.len() };
            match Glimpse::of(&line) {
                Some(glimpse) => {
                    shelf.whole |= glimpse.carried.is_none_or(|follow| follow == 0);
                    let kind = glimpse.entry.kind();
                    let ends = shelf.ends;
                    shelf.note(glimpse.id, &glimpse.instance, glimpse.run, kind, place);
                    if glimpse.carried.is_some() {
                        // Its record is one of the file before.
                        shelf.ends = ends;
                    }
                }
                None if torn => {
                    tear_off(path, shelf.length, &line);
                    break;
                }
                None => {
                    shelf.unread += usize::from(line.iter().any(|byte| !byte.is_ascii_whitespace()));
                    shelf.length += line.len() as u64;
                }
            }
            line.clear();
        }
        Ok(shelf)
    }

    /// A line stands at this place.
    fn note(&mut self, id: Id, instance: &str, run: RunId, kind: Kind, place: Place) {
        self.length = place.start + place.length as u64;
        self.ends += u32::from(kind == Kind::End);
        let places = self.places.entry(id).or_default();
        if places.instance != instance {
            instance.clone_into(&mut places.instance);
        }
        places.last = place;
        match kind {
            Kind::End => {
                places.open.retain(|(open, _)| *open != run);
                places.incidents.retain(|(open, _)| *open != run);
                places.ends.push_back(place);
                if places.ends.len() > ENDS {
                    places.ends.pop_front();
                }
            }
            Kind::Start => {
                places.open.retain(|(open, _)| *open != run);
                places.open.push((run, place));
            }
            Kind::Incident => {
                places.incidents.push_back((run, place));
                if places.incidents.len() > INCIDENTS {
                    places.incidents.pop_front();
                }
            }
            Kind::Other => {}
        }
    }

    /// The lines that are needed to begin from, in the order of writing.
    fn lines(&self, path: &Path) -> Vec<Line> {
        let Ok(file) = File::open(path) else { return Vec::new() };
        let of_one = |one: &Places| {
            let open = one.open.iter().chain(&one.incidents).map(|(_, place)| *place);
            [one.last].into_iter().chain(one.ends.iter().copied()).chain(open).collect::<Vec<_>>()
        };
        let mut places: Vec<Place> = self.places.values().flat_map(of_one).collect();
        places.sort_unstable();
        places.dedup();
        let line = |place: Place| {
            let mut bytes = vec![0; place.length];
            file.read_exact_at(&mut bytes, place.start).ok()?;
            serde_json::from_slice(&bytes).ok()
        };
        places.into_iter().filter_map(line).collect()
    }

    /// The file becomes the one before, and a new one begins with what is needed to begin from.
    fn turn(&self, path: &Path) -> io::Result<Shelf> {
        // Of those that have been deleted since, and whose name is another's now, nothing is asked any more.
        let newest = |id: &Id, name: &str| !self.places.iter().any(|(other, one)| other > id && one.instance == name);
        let needed = |(id, one): (&Id, &Places)| (!one.open.is_empty() || newest(id, &one.instance)).then_some(*id);
        let needed: BTreeSet<Id> = self.places.iter().filter_map(needed).collect();
        let lines = self.lines(path).into_iter().filter(|line| needed.contains(&line.id)).collect();
        let draft = path.with_extension("jsonl.new");
        if let Err(error) = std::fs::remove_file(&draft)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let shelf = carry(&draft, 0, lines)?;
        crash::point("amid", "turn");
        std::fs::rename(path, before(path))?;
        crash::point("amid", "turning");
        std::fs::rename(&draft, path)?;
        crash::point("after", "turn");
        Ok(shelf)
    }

    fn extend(&mut self, carried: Shelf) {
        self.length = self.length.max(carried.length);
        self.places.extend(carried.places);
        self.whole = true;
    }
}

/// Appends carried lines to a file of this length.
fn carry(path: &Path, length: u64, lines: Vec<Line>) -> io::Result<Shelf> {
    let mut shelf = Shelf { length, whole: true, ..Shelf::default() };
    let mut all = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(bytes) = bytes(line, Some(lines.len() - 1 - at)) else { continue };
        let kind = Kind::of(&line.entry);
        let place = Place { start: shelf.length, length: bytes.len() };
        shelf.note(line.id, &line.instance, line.run, kind, place);
        all.extend(bytes);
    }
    shelf.ends = 0;
    if !all.is_empty() {
        append(path, &all)?;
    } else {
        file::private_append(path)?;
    }
    Ok(shelf)
}

fn apps(folder: &Path) -> io::Result<BTreeSet<AppName>> {
    let files = match std::fs::read_dir(folder) {
        Err(error) if file::is_shortage(&error) => return Err(error),
        files => files.into_iter().flatten().flatten(),
    };
    let app = |name: String| {
        let stem = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".jsonl.1"))?;
        AppName::parse(stem).ok()
    };
    Ok(files.filter_map(|file| app(file.file_name().into_string().ok()?)).collect())
}

fn last_bytes(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn path(folder: &Path, app: &AppName) -> PathBuf {
    folder.join(format!("{app}.jsonl"))
}

/// The file before this one.
fn before(path: &Path) -> PathBuf {
    crate::core::log_name::numbered(path, 1)
}

fn bytes(line: &Line, carried: Option<usize>) -> Option<Vec<u8>> {
    let mut bytes = serde_json::to_vec(&Written { v: VERSION, carried, line }).ok()?;
    bytes.push(b'\n');
    Some(bytes)
}

/// Appends, on a line of its own. What could be written of it only in part is taken back.
fn append(path: &Path, bytes: &[u8]) -> io::Result<Place> {
    file::briefly(|| append_once(path, bytes))
}

fn append_once(path: &Path, bytes: &[u8]) -> io::Result<Place> {
    let mut file = file::private_append(path)?;
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    let start = length + u64::from(last != *b"\n");
    let gap = if start > length { file.write_all(b"\n") } else { Ok(()) };
    if let Err(error) = gap.and_then(|()| file.write_all(bytes)) {
        let _ = file.set_len(length);
        return Err(error);
    }
    Ok(Place { start, length: bytes.len() })
}

/// Renames what stands in a journal's place and is none.
fn put_aside(path: &Path) -> bool {
    let free = (1..100).map(|number| path.with_extension(format!("jsonl.unreadable.{number}"))).find(|to| !to.exists());
    let Some(to) = free else { return false };
    match std::fs::rename(path, &to) {
        Ok(()) => {
            tracing::warn!(kept = %to.display(), "it is kept aside, and a new journal begins");
            true
        }
        Err(_) => false,
    }
}

/// Takes a torn last line out of the file and keeps it beside.
fn tear_off(path: &Path, length: u64, torn: &[u8]) {
    let beside = path.with_extension("jsonl.torn");
    let kept = file::private_append(&beside).and_then(|mut file| {
        file.write_all(torn)?;
        file.write_all(b"\n")?;
        OpenOptions::new().write(true).open(path)?.set_len(length)
    });
    match kept {
        Ok(()) => {
            tracing::warn!(path = %path.display(), kept = %beside.display(), "the last line of the journal was torn")
        }
        // It stays where it is: the next line begins behind it.
        Err(error) => tracing::warn!(%error, path = %path.display(), "the last line of the journal is torn"),
    }
}

fn sync(dirty: &mpsc::Receiver<PathBuf>) {
    while let Ok(first) = dirty.recv() {
        std::thread::sleep(SYNC_EVERY);
        let mut paths = BTreeSet::from([first]);
        paths.extend(dirty.try_iter());
        for path in paths {
            let _ = File::open(path).and_then(|file| file.sync_data());
        }
    }
}

#[cfg(test)]
mod tests;
