//! `stead startup` and `stead unstartup`: the unit by which systemd starts stead at boot.

use crate::client::cli::{StartupArgs, UnitPlace, UnstartupArgs};
use crate::client::home::reason;
use crate::client::render::screen;
use crate::client::unit::{self, OURS, Unit};
use crate::client::{Context, Outcome};
use crate::core::clock::Millis;
use crate::core::command::Refusal;
use crate::core::depend::longest_stop;
use crate::os::systemd::{self, Scope};
use crate::os::{process, signal};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the unit stands, and who reads it.
struct Place {
    scope: Scope,
    /// Of an image: no systemd runs it now.
    root: Option<PathBuf>,
    path: PathBuf,
}

pub async fn run(context: &Context, args: &StartupArgs) -> Outcome {
    let home = &context.daemon.home;
    let place = Place::of(&args.place)?;
    let binary = binary()?;
    let stop = longest_stop(home.wanted().apps.iter().map(|app| &*app.spec));
    let unit = Unit { scope: place.scope, binary: &binary, home: Some(&home.path), stop };
    let text = unit.text(&place.head());
    if args.print {
        screen::print(&text)?;
        return Ok(0);
    }
    place.needs_systemd(&binary)?;
    let path = place.path.display();
    let before = place.read()?;
    place.is_ours(before.as_deref(), &home.path, args.force)?;
    for warning in doubts(&binary, place.scope) {
        screen::warn(&context.errors, &warning);
    }
    let is_new = before.as_deref() != Some(&text);
    if is_new {
        place.write(&text)?;
        screen::print(&format!("{path}: {}\n", if before.is_some() { "written anew" } else { "written" }))?;
        place.reload()?;
    } else {
        screen::print(&format!("{path}: is there, and as it should be\n"))?;
    }
    place.ask(&["enable", unit::NAME])?;
    let lingers = place.linger(context)?;
    screen::print(&format!(
        "systemd starts stead {}, and with it what is wanted up in {}; to stop all it has {} ({})\n",
        if lingers { "at boot" } else { "with your first login" },
        home.path.display(),
        Millis(unit.stop_seconds() * 1000),
        if stop.0 == 0 { "no app yet".to_owned() } else { format!("the apps may take {stop}") },
    ))?;
    if place.root.is_some() {
        return Ok(0);
    }
    let systemctl = place.scope.systemctl();
    let start = format!("{systemctl} start {}", unit::NAME);
    let running = home.is_held().then(|| home.holder()).flatten();
    match running {
        Some(pid) if systemd::is_in(pid, unit::NAME) => {
            let later = if is_new { "; what the unit changes of it holds when it is started next" } else { "" };
            screen::print(&format!("stead runs by it (pid {pid}){later}\n"))?;
        }
        Some(pid) if !args.now => screen::print(&format!(
            "stead runs already, but not by systemd (pid {pid}): it goes on until the next boot\n\
             to hand it over now: `stead startup --now`; its apps are stopped in an orderly way and started again\n"
        ))?,
        None if !args.now => screen::print(&format!("to start it now: `{start}`\n"))?,
        running => {
            if let Some(pid) = running {
                end(context, pid, stop).await?;
                screen::print(&format!("the stead that ran (pid {pid}) has stopped its apps and ended\n"))?;
            }
            systemd::ask(place.scope, &["start", unit::NAME]).map_err(|error| {
                Refusal::failed(format!("`{start}`: {}", reason(&error)))
                    .hint(format!("`{systemctl} status {}` says more", unit::NAME))
            })?;
            screen::print("stead runs by systemd\n")?;
        }
    }
    Ok(u8::from(!lingers))
}

pub async fn undo(context: &Context, args: &UnstartupArgs) -> Outcome {
    let home = &context.daemon.home;
    let place = Place::of(&args.place)?;
    place.needs_systemd(&binary()?)?;
    let path = place.path.display();
    let Some(text) = place.read()? else {
        screen::print(&format!("there is no {path}: nothing of `stead startup` is left to take away\n"))?;
        return Ok(0);
    };
    place.is_ours(Some(&text), &home.path, false)?;
    place.ask(&["disable", unit::NAME])?;
    let systemctl = place.scope.systemctl();
    let by_it = home.holder().filter(|pid| place.root.is_none() && home.is_held() && systemd::is_in(*pid, unit::NAME));
    match by_it {
        // Without its unit systemd would tell every app to end at once.
        Some(pid) if !args.now => {
            screen::print(&format!(
                "systemd starts stead at boot no more; the one that runs (pid {pid}) goes on, and its unit {path} stays until then\n\
                 to stop it and its apps, and take the unit away: `stead unstartup --now`\n"
            ))?;
            return Ok(0);
        }
        Some(_) => systemd::ask(place.scope, &["stop", unit::NAME])
            .map_err(|error| Refusal::failed(format!("`{systemctl} stop {}`: {}", unit::NAME, reason(&error))))?,
        None => {}
    }
    std::fs::remove_file(&place.path)
        .map_err(|error| Refusal::failed(format!("could not remove {path}: {}", reason(&error))))?;
    place.reload()?;
    let stopped = if by_it.is_some() { "stead has stopped its apps and ended; " } else { "" };
    screen::print(&format!("{stopped}{path}: removed; systemd starts stead at boot no more\n"))?;
    if by_it.is_some() {
        screen::print("what was wanted up comes back with the next `stead` command\n")?;
    }
    if place.scope == Scope::User && systemd::lingers(&systemd::user_name()) {
        screen::print(
            "lingering stays on, for other services of yours may need it: `loginctl disable-linger` ends it\n",
        )?;
    }
    Ok(0)
}

impl Place {
    fn of(args: &UnitPlace) -> Result<Place, Refusal> {
        let root = args.root.as_deref().map(std::path::absolute).transpose();
        let root = root.map_err(|error| Refusal::failed(format!("--root: {}", reason(&error))))?;
        if process::uid() == 0 && !args.user {
            let path = root.as_deref().unwrap_or(Path::new("/")).join("etc/systemd/system").join(unit::NAME);
            return Ok(Place { scope: Scope::System, root, path });
        }
        if root.is_some() {
            return Err(Refusal::failed("only root makes units for an image").hint("`sudo stead startup --root DIR`"));
        }
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = variable("XDG_CONFIG_HOME").or_else(|| {
            let home = variable("HOME").or_else(|| process::home_of(process::uid()).map(PathBuf::from))?;
            Some(home.join(".config"))
        });
        let config = config.ok_or_else(|| {
            Refusal::failed("no folder for units can be found: neither XDG_CONFIG_HOME nor HOME is set")
        })?;
        Ok(Place { scope: Scope::User, root, path: config.join("systemd/user").join(unit::NAME) })
    }

    /// Says whose the unit is, and that it is no place for changes.
    fn head(&self) -> String {
        let edit = self.scope.systemctl();
        format!(
            "{OURS}, which writes it anew: changes go into `{edit} edit {}`.\n# `stead unstartup` takes it away.\n",
            unit::NAME
        )
    }

    fn needs_systemd(&self, binary: &Path) -> Result<(), Refusal> {
        if self.root.is_some() || systemd::runs(self.scope) {
            return Ok(());
        }
        if self.scope == Scope::User && systemd::runs(Scope::System) {
            let me = systemd::user_name();
            return Err(Refusal::failed(format!("no systemd of the user {me} runs")).hint(format!(
                "`sudo loginctl enable-linger {me}` starts it; a login by ssh does too, `su` does not"
            )));
        }
        let binary = binary.display();
        Err(Refusal::failed("systemd does not run this machine").hint(format!(
            "let what starts your services at boot run `{binary} daemon` in the foreground, and end it by SIGTERM\n\
             in a container: `stead daemon FILE` as its command\n\
             by cron: `@reboot {binary} list`; any command starts stead, and stead what was wanted up"
        )))
    }

    /// What stands there; `None`: nothing.
    fn read(&self) -> Result<Option<String>, Refusal> {
        match std::fs::read(&self.path) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Refusal::failed(format!("could not read {}: {}", self.path.display(), reason(&error)))),
        }
    }

    /// Nothing of others is overwritten or removed: neither a unit that somebody wrote nor that of another home.
    fn is_ours(&self, text: Option<&str>, home: &Path, force: bool) -> Result<(), Refusal> {
        let Some(text) = text.filter(|_| !force) else { return Ok(()) };
        let path = self.path.display();
        if !text.starts_with(OURS) {
            return Err(Refusal::failed(format!("{path} is there, and `stead startup` has not written it")).hint(
                "look at it; `stead startup --force` writes over it, and `stead startup --print` shows what it would write",
            ));
        }
        match unit::home_in(text) {
            Some(other) if Path::new(&other) != home => {
                Err(Refusal::failed(format!("{path} is that of another stead, with the home {other}"))
                    .hint(format!("`stead unstartup --home {other}` takes it away")))
            }
            _ => Ok(()),
        }
    }

    fn write(&self, text: &str) -> Result<(), Refusal> {
        let failed =
            |error: io::Error| Refusal::failed(format!("could not write {}: {}", self.path.display(), reason(&error)));
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        std::fs::create_dir_all(folder).map_err(failed)?;
        // A unit is for all to read, and a link that stands there is not followed.
        let draft = self.path.with_extension("service.new");
        std::fs::write(&draft, text).map_err(failed)?;
        std::fs::rename(&draft, &self.path).map_err(failed)
    }

    fn reload(&self) -> Result<(), Refusal> {
        if self.root.is_none() { self.ask(&["daemon-reload"]) } else { Ok(()) }
    }

    fn ask(&self, words: &[&str]) -> Result<(), Refusal> {
        let asked = match &self.root {
            Some(root) => systemd::ask_offline(root, words),
            None => systemd::ask(self.scope, words),
        };
        let shown = format!("{} {}", self.scope.systemctl(), words.join(" "));
        asked.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::failed(format!("`{shown}`: there is no systemctl here")),
            _ => Refusal::failed(format!("`{shown}`: {}", reason(&error))),
        })
    }

    /// A user's systemd ends with the last session unless the user lingers. `false`: it will.
    fn linger(&self, context: &Context) -> Result<bool, Refusal> {
        if self.scope == Scope::System {
            return Ok(true);
        }
        let me = systemd::user_name();
        if systemd::lingers(&me) {
            return Ok(true);
        }
        match systemd::linger() {
            Ok(()) => {
                screen::print(
                    "loginctl enable-linger: done, so it starts without a login and outlives the last one\n",
                )?;
                Ok(true)
            }
            Err(error) => {
                screen::complain(
                    &context.errors,
                    &Refusal::failed(format!(
                        "`loginctl enable-linger`: {}; without it stead does not start at boot, and ends with your last session",
                        reason(&error)
                    ))
                    .hint(format!("`sudo loginctl enable-linger {me}`")),
                );
                Ok(false)
            }
        }
    }
}

/// The program that runs now. Where it was replaced, what stands in its place.
fn binary() -> Result<PathBuf, Refusal> {
    let path = std::env::current_exe()
        .map_err(|error| Refusal::failed(format!("the place of stead's program cannot be told: {}", reason(&error))))?;
    let text = path.to_string_lossy();
    Ok(text.strip_suffix(" (deleted)").map_or_else(|| path.clone(), PathBuf::from))
}

/// Why the program might not be there at boot, or be another one then.
fn doubts(binary: &Path, scope: Scope) -> Vec<String> {
    let shown = binary.display();
    let mut doubts = Vec::new();
    let is_built = |folder: &Path| folder.ends_with("debug") || folder.ends_with("release");
    let install = "install it, as into /usr/local/bin, and run `stead startup` from there";
    if binary.parent().is_some_and(is_built) {
        doubts.push(format!("the unit starts {shown}, which the next build replaces or removes: {install}"));
    } else if binary.starts_with("/tmp") || binary.starts_with("/var/tmp") || binary.starts_with("/dev/shm") {
        doubts.push(format!("the unit starts {shown}, which may be gone at the next boot: {install}"));
    }
    if scope == Scope::System {
        if binary.starts_with("/home") {
            doubts.push(format!("the unit starts {shown}, in a home that may not be there yet at boot: {install}"));
        }
        let is_others =
            |path: &Path| std::fs::metadata(path).is_ok_and(|meta| meta.uid() != 0 || meta.mode() & 0o002 != 0);
        if let Some(other) = binary.ancestors().find(|path| is_others(path)).filter(|path| *path != Path::new("/tmp")) {
            doubts.push(format!("root's unit starts {shown}, and others than root may write {}", other.display()));
        }
    }
    doubts
}

/// Tells a keeper to end, as systemd would: the wishes stay.
async fn end(context: &Context, pid: i32, stop: Millis) -> Result<(), Refusal> {
    let asked = process::pidfd_open(pid).and_then(|pidfd| {
        if context.daemon.home.holder() == Some(pid) {
            process::pidfd_signal(pidfd.as_fd(), signal::TERM)
        } else {
            Ok(())
        }
    });
    asked.map_err(|error| Refusal::failed(format!("could not tell pid {pid} to end: {}", reason(&error))))?;
    let gone = async {
        while context.daemon.home.is_held() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let limit = Duration::from_millis(stop.0) + Duration::from_secs(30);
    tokio::time::timeout(limit, gone).await.map_err(|_| {
        Refusal::failed(format!("the stead that runs (pid {pid}) does not end; the unit is in place"))
            .hint(format!("{} may say why", context.daemon.home.path.join("stead.log").display()))
    })
}
