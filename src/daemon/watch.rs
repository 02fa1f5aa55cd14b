//! Which files changed: a thread of its own, for a big tree takes its time to be walked. One inotify instance serves all apps, and
//! folders are watched, not files.

use crate::core::name::AppName;
use crate::core::watch::{Rules, Watch};
use crate::os::clock;
use crate::os::inotify::{self, Deed, Folder, Watches, What};
use crate::os::wait::{Bell, Waiter};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// A watched path that is not there is looked for this often: a build may make its folder anew.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is watched for an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub watch: Watch,
    pub cwd: PathBuf,
    /// Its own logs, with what stands beside them under longer names, and stead's home.
    pub own: Vec<PathBuf>,
}

/// What the thread has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The first path that changed since it was last quiet.
    Changed { app: AppName, path: String },
    /// Not all of it can be watched.
    Trouble { app: AppName, why: String },
}

/// The daemon's side.
#[derive(Debug)]
pub struct Watcher {
    told: UnboundedSender<Told>,
    /// There is no thread before there is something to watch.
    thread: Option<(mpsc::Sender<BTreeMap<AppName, Task>>, Bell)>,
    tasks: BTreeMap<AppName, Task>,
    troubles: BTreeMap<AppName, String>,
}

impl Watcher {
    pub fn new(told: UnboundedSender<Told>) -> Watcher {
        Watcher { told, thread: None, tasks: BTreeMap::new(), troubles: BTreeMap::new() }
    }

    /// Watches these from now on, and nothing else.
    pub fn follow(&mut self, tasks: BTreeMap<AppName, Task>) {
        if tasks == self.tasks {
            return;
        }
        self.troubles.retain(|app, _| tasks.get(app).is_some_and(|task| self.tasks.get(app) == Some(task)));
        if self.thread.is_none() {
            match begin(self.told.clone()) {
                Ok(thread) => self.thread = Some(thread),
                Err(error) => {
                    let why = format!("inotify cannot be had: {error}");
                    let troubles: Vec<AppName> = tasks.keys().cloned().collect();
                    troubles.into_iter().for_each(|app| self.has_trouble(app, why.clone()));
                }
            }
        }
        if let Some((orders, bell)) = &self.thread {
            let _ = orders.send(tasks.clone());
            bell.ring();
        }
        self.tasks = tasks;
    }

    /// Said once in stead's own log, and with the app wherever it is shown.
    pub fn has_trouble(&mut self, app: AppName, why: String) {
        if self.troubles.get(&app) != Some(&why) {
            tracing::warn!(%app, why, "changes of its files may go unnoticed");
            self.troubles.insert(app, why);
        }
    }

    #[must_use]
    pub fn trouble(&self, app: &AppName) -> Option<&String> {
        self.troubles.get(app)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // The channel closes, and the bell makes the thread see it.
        if let Some((orders, bell)) = self.thread.take() {
            drop(orders);
            bell.ring();
        }
    }
}

fn begin(told: UnboundedSender<Told>) -> io::Result<(mpsc::Sender<BTreeMap<AppName, Task>>, Bell)> {
    let watches = Watches::new()?;
    let waiter = Waiter::new()?;
    waiter.add(watches.as_fd(), 0)?;
    let bell = waiter.bell();
    let (orders, heard) = mpsc::channel();
    std::thread::Builder::new().name("watch".into()).stack_size(256 << 10).spawn(move || {
        let mut work = Work { watches, told, apps: BTreeMap::new(), folders: HashMap::new() };
        loop {
            waiter.wait(work.next(clock::precise()));
            loop {
                match heard.try_recv() {
                    Ok(tasks) => work.follow(tasks),
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
            work.look();
            work.due(clock::precise());
        }
    })?;
    Ok((orders, bell))
}

struct Work {
    watches: Watches,
    told: UnboundedSender<Told>,
    apps: BTreeMap<AppName, Watched>,
    folders: HashMap<Folder, Vec<Place>>,
}

/// A folder as one app sees it.
struct Place {
    app: AppName,
    path: Rc<Path>,
    /// Where a single file is watched, its name; the folder is not entered then.
    only: Option<OsString>,
}

struct Watched {
    task: Task,
    rules: Rules,
    missing: Vec<PathBuf>,
    look_again: Duration,
    /// There are no more watches to be had, or a folder may not be read: said once.
    trouble: Option<io::ErrorKind>,
    /// The first path that changed, and when it has been quiet for long enough.
    pending: Option<(PathBuf, Duration)>,
}

impl Watched {
    /// Nobody is to hear of it.
    fn passes_over(&self, path: &Path, is_folder: bool) -> bool {
        let own = |own: &PathBuf| path.starts_with(own) || (!is_folder && is_beside(path, own));
        if self.task.own.iter().any(own) {
            return true;
        }
        let roots = std::iter::once(&self.task.cwd).chain(&self.task.watch.paths);
        let inside = roots.into_iter().find_map(|root| path.strip_prefix(root).ok());
        // The folder that is watched is itself no entry of anything.
        inside.is_some_and(|inside| !inside.as_os_str().is_empty() && self.rules.ignores(inside, is_folder))
    }
}

/// `app.log.1` and `app.log.idx` belong to `app.log`.
fn is_beside(path: &Path, own: &Path) -> bool {
    let name = |path: &Path| path.file_name().map(OsStr::to_owned).unwrap_or_default();
    path.parent() == own.parent() && name(path).as_encoded_bytes().starts_with(name(own).as_encoded_bytes())
}

impl Work {
    fn next(&self, now: Duration) -> Option<Duration> {
        let pending = self.apps.values().filter_map(|app| app.pending.as_ref().map(|(_, due)| *due));
        let missing = self.apps.values().filter(|app| !app.missing.is_empty()).map(|app| app.look_again);
        // A millisecond more, for epoll counts in whole ones.
        pending.chain(missing).min().map(|at| at.saturating_sub(now) + Duration::from_millis(1))
    }

    fn follow(&mut self, mut tasks: BTreeMap<AppName, Task>) {
        let gone = |(app, one): (&AppName, &Watched)| (tasks.get(app) != Some(&one.task)).then(|| app.clone());
        let gone: Vec<AppName> = self.apps.iter().filter_map(gone).collect();
        for app in gone {
            self.apps.remove(&app);
            self.leave(|place| place.app == app);
        }
        tasks.retain(|app, _| !self.apps.contains_key(app));
        for (app, task) in tasks {
            let rules = Rules::new(&task.watch, &task.cwd);
            let roots = task.watch.paths.clone();
            let watched =
                Watched { task, rules, missing: Vec::new(), look_again: Duration::ZERO, trouble: None, pending: None };
            self.apps.insert(app.clone(), watched);
            for root in roots {
                self.enter_root(&app, &root);
            }
        }
    }

    /// Whether it is there.
    fn enter_root(&mut self, app: &AppName, root: &Path) -> bool {
        let is_there = match std::fs::metadata(root) {
            Ok(found) if found.is_dir() => self.enter(app, root.to_owned()).1,
            Ok(_) => match (root.parent(), root.file_name()) {
                (Some(folder), Some(name)) => self.add(app, folder, Some(name.to_owned())),
                _ => false,
            },
            Err(_) => false,
        };
        if let Some(watched) = self.apps.get_mut(app) {
            watched.missing.retain(|missing| missing != root);
            if !is_there {
                watched.missing.push(root.to_owned());
                watched.look_again = clock::precise() + LOOK_AGAIN;
            }
        }
        is_there
    }

    /// Watches a folder and all in it. Returns the first file found that is not passed over, and whether the folder is watched.
    fn enter(&mut self, app: &AppName, folder: PathBuf) -> (Option<PathBuf>, bool) {
        let (mut first, mut is_watched) = (None, false);
        let mut folders = vec![folder.clone()];
        while let Some(path) = folders.pop() {
            // Watched before it is read: what is made in between is seen twice rather than never.
            if !self.add(app, &path, None) {
                continue;
            }
            is_watched |= path == folder;
            let Some(watched) = self.apps.get(app) else { break };
            if watched.trouble == Some(io::ErrorKind::StorageFull) {
                break;
            }
            for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if (!is_folder && first.is_some()) || watched.passes_over(&entry.path(), is_folder) {
                    continue;
                }
                if is_folder {
                    folders.push(entry.path());
                } else {
                    first = Some(entry.path());
                }
            }
        }
        (first, is_watched)
    }

    fn add(&mut self, app: &AppName, path: &Path, only: Option<OsString>) -> bool {
        match self.watches.add(path) {
            Ok(folder) => {
                let places = self.folders.entry(folder).or_default();
                if !places.iter().any(|one| one.app == *app && *one.path == *path && one.only == only) {
                    places.push(Place { app: app.clone(), path: path.into(), only });
                }
                true
            }
            // It went between being seen and being watched.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => false,
            Err(error) => {
                let why = match error.kind() {
                    io::ErrorKind::StorageFull => format!(
                        "{}: the user has all inotify watches in use (sysctl fs.inotify.max_user_watches)",
                        path.display()
                    ),
                    _ => format!("{}: {error}", path.display()),
                };
                if let Some(watched) = self.apps.get_mut(app)
                    && watched.trouble != Some(error.kind())
                {
                    watched.trouble = Some(error.kind());
                    let _ = self.told.send(Told::Trouble { app: app.clone(), why });
                }
                // A folder that may not be read is there all the same.
                true
            }
        }
    }

    /// No longer watches what these places are.
    fn leave(&mut self, gone: impl Fn(&Place) -> bool) {
        let watches = &self.watches;
        self.folders.retain(|folder, places| {
            places.retain(|place| !gone(place));
            if places.is_empty() {
                watches.remove(*folder);
            }
            !places.is_empty()
        });
    }

    fn look(&mut self) {
        for news in self.watches.read() {
            match news {
                None => self.look_at_all(),
                Some((folder, What::Entry { name, deed, is_folder })) => self.entry(folder, &name, deed, is_folder),
                Some((folder, What::Moved)) => {
                    let places = self.folders.get(&folder).into_iter().flatten();
                    let roots: Vec<(AppName, PathBuf)> = places
                        .filter(|place| self.is_root(&place.app, &place.path))
                        .map(|place| (place.app.clone(), place.path.to_path_buf()))
                        .collect();
                    for (app, root) in roots {
                        self.leave(|place| place.app == app && place.path.starts_with(&root));
                        self.lost_root(&app, &root);
                    }
                }
                Some((folder, What::Gone)) => {
                    for place in self.folders.remove(&folder).unwrap_or_default() {
                        let root = place.only.map_or(place.path.to_path_buf(), |name| place.path.join(name));
                        if self.is_root(&place.app, &root) {
                            self.lost_root(&place.app, &root);
                        }
                    }
                }
            }
        }
    }

    /// The kernel had no room for more news: anything may have changed.
    fn look_at_all(&mut self) {
        let tasks: BTreeMap<AppName, Task> =
            self.apps.iter().map(|(app, one)| (app.clone(), one.task.clone())).collect();
        self.follow(BTreeMap::new());
        self.follow(tasks.clone());
        for (app, task) in tasks {
            if let Some(root) = task.watch.paths.first() {
                self.changed(&app, root);
            }
        }
    }

    fn entry(&mut self, folder: Folder, name: &OsStr, deed: Deed, is_folder: bool) {
        let Some(places) = self.folders.get(&folder) else { return };
        let about = |place: &&Place| place.only.as_ref().is_none_or(|only| only == name);
        let seen: Vec<(AppName, PathBuf, bool)> = places
            .iter()
            .filter(about)
            .map(|place| (place.app.clone(), place.path.join(name), place.only.is_none()))
            .collect();
        for (app, path, enters) in seen {
            if self.apps.get(&app).is_none_or(|one| enters && one.passes_over(&path, is_folder)) {
                continue;
            }
            match (is_folder, deed) {
                (true, Deed::Created | Deed::MovedHere) if enters => {
                    if let (Some(file), _) = self.enter(&app, path) {
                        self.changed(&app, &file);
                    }
                }
                (true, Deed::MovedAway) if enters => {
                    self.leave(|place| place.app == app && place.path.starts_with(&path));
                    self.changed(&app, &path);
                }
                // What was in it has been told of.
                (true, _) => {}
                (false, Deed::Created) if !inotify::is_whole(&path) => {}
                (false, Deed::Created | Deed::Written | Deed::MovedHere | Deed::MovedAway | Deed::Deleted) => {
                    self.changed(&app, &path);
                }
            }
        }
    }

    fn is_root(&self, app: &AppName, path: &Path) -> bool {
        self.apps.get(app).is_some_and(|one| one.task.watch.paths.iter().any(|root| root == path))
    }

    /// It is looked for, and that it comes back is a change.
    fn lost_root(&mut self, app: &AppName, root: &Path) {
        if let Some(watched) = self.apps.get_mut(app)
            && !watched.missing.iter().any(|missing| missing == root)
        {
            watched.missing.push(root.to_owned());
            watched.look_again = clock::precise() + LOOK_AGAIN;
        }
    }

    fn changed(&mut self, app: &AppName, path: &Path) {
        let Some(watched) = self.apps.get_mut(app) else { return };
        let due = clock::precise() + Duration::from_millis(watched.task.watch.delay.0);
        match &mut watched.pending {
            Some((_, at)) => *at = due,
            None => watched.pending = Some((path.to_owned(), due)),
        }
    }

    fn due(&mut self, now: Duration) {
        let missing = |(app, one): (&AppName, &Watched)| {
            (!one.missing.is_empty() && one.look_again <= now).then(|| (app.clone(), one.missing.clone()))
        };
        let missing: Vec<(AppName, Vec<PathBuf>)> = self.apps.iter().filter_map(missing).collect();
        for (app, roots) in missing {
            for root in roots {
                if self.enter_root(&app, &root) {
                    self.changed(&app, &root);
                }
            }
        }
        for (app, watched) in &mut self.apps {
            if let Some((path, _)) = watched.pending.take_if(|(_, due)| *due <= now) {
                let shown = path.strip_prefix(&watched.task.cwd).ok().filter(|inside| !inside.as_os_str().is_empty());
                let path = shown.unwrap_or(&path).to_string_lossy().into_owned();
                let _ = self.told.send(Told::Changed { app: app.clone(), path });
            }
        }
    }
}
