//! What the kernel's log says of a kill in a run's group, of a fault, and what killers for want of memory say there.

use crate::core::clock::{Millis, Wall};
use crate::core::health::OomVictim;
use crate::core::kernel_log::{self, Constraint, OomLine};
use crate::os::{clock, kmsg};
use std::collections::VecDeque;
use std::path::Path;

/// Of the newest kill in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OomKill {
    /// Was it for want of memory of the whole machine? `None`: the log does not say.
    pub host: Option<bool>,
    pub pid: Option<i32>,
    pub name: Option<String>,
    pub lines: Vec<String>,
}

/// Every kill that the log still knows, oldest first. `booted`: when the clock of the log was zero; `site`: the folder of our groups.
#[must_use]
pub fn kills(booted: Wall, site: &str) -> Vec<OomVictim> {
    victims(booted, site, &kmsg::read())
}

/// A kill is told by two lines, of which the first may be missing: the kernel limits its rate.
fn victims(booted: Wall, site: &str, records: &[impl AsRef<str>]) -> Vec<OomVictim> {
    let mut found: Vec<(OomVictim, bool)> = Vec::new();
    for line in records.iter().filter_map(|record| kernel_log::oom_line(record.as_ref())) {
        if line.victim_cgroup.is_none()
            && let Some((first, open)) = found.last_mut()
            && *open
            && first.pid == line.victim_pid
        {
            (first.bytes, *open) = (line.anon_rss_bytes, false);
            continue;
        }
        let at = Wall(booted.0.saturating_add_unsigned(line.at_usec / 1000));
        let group = line.victim_cgroup.as_deref().and_then(|path| path.rsplit_once('/'));
        let leaf = group.filter(|(folder, _)| folder.rsplit('/').next() == Some(site)).map(|(_, leaf)| leaf);
        let victim = OomVictim {
            at: Some(at),
            pid: line.victim_pid,
            name: line.victim_name,
            bytes: line.anon_rss_bytes,
            host: !matches!(line.constraint, Constraint::Cgroup { .. }),
            app: leaf.and_then(|leaf| leaf.rsplit_once('.')).map(|(instance, _)| instance.to_owned()),
        };
        found.push((victim, line.victim_cgroup.is_some()));
    }
    found.into_iter().map(|(victim, _)| victim).collect()
}

/// Records that speak of the ends of processes are kept, the newest of them.
const MOST: usize = 256;

/// A record is of an end where it was written this near to it: for a number is given to another process in time.
const NEAR: Millis = Millis(5_000);

/// Where syslog daemons write; a journal is read by nothing but its own program, which takes too long to ask here.
const SYSLOGS: [&str; 2] = ["/var/log/syslog", "/var/log/messages"];

/// The end of such a file that is looked at, in bytes.
const SYSLOG_TAIL: u64 = 16 << 10;

/// The log as far as it was read.
#[derive(Debug, Default)]
pub struct Log {
    reader: kmsg::Reader,
    records: VecDeque<String>,
}

impl Log {
    fn catch_up(&mut self) -> &mut VecDeque<String> {
        let records = &mut self.records;
        self.reader.read(|record| {
            let counts = kernel_log::oom_line(record).is_some()
                || kernel_log::fault(record).is_some()
                || kernel_log::earlyoom_victim(record).is_some();
            if counts {
                records.truncate(MOST - 1);
                records.push_front(record.to_owned());
            }
        });
        records
    }

    /// Looks for the newest kill in the group of this name.
    #[must_use]
    pub fn oom_kill(&mut self, group: &str) -> OomKill {
        let records: Vec<&str> = self.catch_up().iter().rev().map(String::as_str).collect();
        find(group, &records)
    }

    /// What the kernel says of a fault of a process that ended so long ago.
    #[must_use]
    pub fn fault(&mut self, pid: i32, ago: Millis) -> Option<String> {
        let is_its =
            |record: &&String| kernel_log::fault(record).is_some_and(|fault| fault.tid == pid) && is_near(record, ago);
        self.catch_up().iter().find(is_its).map(|record| text(record))
    }

    /// What earlyoom says of a process that ended so long ago, in the kernel's log or in that of a syslog daemon.
    #[must_use]
    pub fn earlyoom(&mut self, pid: i32, ago: Millis) -> Option<String> {
        let names = |line: &str| kernel_log::earlyoom_victim(line) == Some(pid);
        let is_its = |record: &&String| names(record) && is_near(record, ago);
        let in_kernel_log = self.catch_up().iter().find(is_its).map(|record| text(record));
        in_kernel_log.or_else(|| {
            let fresh = SYSLOGS.iter().filter_map(|path| syslog_tail(Path::new(path), ago));
            fresh.filter_map(|tail| tail.lines().rfind(|line| names(line)).map(str::to_owned)).next()
        })
    }
}

/// Was the record written near an end so long ago?
fn is_near(record: &str, ago: Millis) -> bool {
    let now = clock::precise().as_millis() as u64;
    kernel_log::written_at(record).is_some_and(|at| now.saturating_sub(at / 1000).abs_diff(ago.0) <= NEAR.0)
}

/// The end of a log that was written to since shortly before an end so long ago.
fn syslog_tail(path: &Path, ago: Millis) -> Option<String> {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    let written = clock::wall(meta.modified().ok()?);
    let age = clock::now().wall.0 - written.0;
    if age > (ago.0 + NEAR.0) as i64 {
        return None;
    }
    let length = meta.len().min(SYSLOG_TAIL);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, meta.len() - length).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The line that names the group comes first, the line with the victim's memory right behind it.
fn find(group: &str, records: &[&str]) -> OomKill {
    let read: Vec<(&str, OomLine)> =
        records.iter().filter_map(|record| Some((*record, kernel_log::oom_line(record)?))).collect();
    let is_in = |line: &OomLine| line.victim_cgroup.as_deref().and_then(|path| path.rsplit('/').next()) == Some(group);
    let Some(at) = read.iter().rposition(|(_, line)| is_in(line)) else { return OomKill::default() };
    let (record, line) = &read[at];
    let behind =
        read.get(at + 1).filter(|(_, next)| next.victim_cgroup.is_none() && next.victim_pid == line.victim_pid);
    OomKill {
        host: Some(!matches!(line.constraint, Constraint::Cgroup { .. })),
        pid: Some(line.victim_pid),
        name: Some(line.victim_name.clone()),
        lines: std::iter::once(*record).chain(behind.map(|(record, _)| *record)).map(text).collect(),
    }
}

/// A record without its head.
fn text(record: &str) -> String {
    record.split_once(';').map_or(record, |(_, text)| text).lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<&str> {
        text.lines().collect()
    }

    #[test]
    fn the_kill_in_a_group_is_told_from_others() {
        let log = lines(
            "6,1,10,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,oom_memcg=/stead-1/web.7,task_memcg=/stead-1/web.7,task=python3,pid=42,uid=0\n\
             3,2,11,-;Memory cgroup out of memory: Killed process 42 (python3) total-vm:65908kB, anon-rss:55808kB\n\
             6,3,12,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task_memcg=/stead-1/db.8,task=git,pid=7,uid=0\n\
             3,4,13,-;Out of memory: Killed process 7 (git) total-vm:1kB",
        );
        let web = find("web.7", &log);
        assert_eq!((web.host, web.pid, web.name.as_deref()), (Some(false), Some(42), Some("python3")));
        assert_eq!(web.lines.len(), 2);
        let db = find("db.8", &log);
        assert_eq!((db.host, db.pid, db.name.as_deref()), (Some(true), Some(7), Some("git")));
        assert_eq!(find("web.70", &log), OomKill::default());
        assert_eq!(find("eb.7", &log), OomKill::default());
    }

    #[test]
    fn every_kill_is_told_with_its_size_and_whose_it_was() {
        let log = lines(
            "6,1,10000000,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,oom_memcg=/a/stead-1/web-0.7,task_memcg=/a/stead-1/web-0.7,task=python3,pid=42,uid=0\n\
             3,2,10000001,-;Memory cgroup out of memory: Killed process 42 (python3) total-vm:65908kB, anon-rss:55808kB, file-rss:0kB\n\
             3,4,20000000,-;Out of memory: Killed process 7 (git) total-vm:1kB, anon-rss:7065600kB, file-rss:0kB",
        );
        let [web, git] = victims(Wall(1_000_000), "stead-1", &log).try_into().unwrap();
        assert_eq!(
            (web.name.as_str(), web.bytes, web.host, web.app.as_deref()),
            ("python3", Some(55_808 << 10), false, Some("web-0"))
        );
        assert_eq!((git.name.as_str(), git.bytes, git.host, git.app), ("git", Some(7_065_600 << 10), true, None));
        assert_eq!((web.at, git.at), (Some(Wall(1_010_000)), Some(Wall(1_020_000))));
        assert_eq!(victims(Wall(0), "stead-1", &lines("oom-kill:\nx;Killed process")), []);
    }

    #[test]
    fn a_record_has_a_head_and_a_text() {
        assert_eq!(text("6,823,2317096882,-;oom-kill:x;y\n SUBSYSTEM=mem\n"), "oom-kill:x;y");
    }

    #[test]
    fn a_syslog_counts_while_it_is_fresh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("syslog");
        std::fs::write(&path, "x".repeat(40 << 10) + "\nhost earlyoom[1]: Killing process 7 git\n").unwrap();
        assert!(syslog_tail(&path, Millis(0)).unwrap().ends_with("process 7 git\n"));
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        assert_eq!(syslog_tail(&path, Millis(0)), None);
    }

    #[test]
    fn garbage_says_nothing() {
        assert_eq!(find("web.7", &lines("oom-kill:\nKilled process (\n6,1,10,-;oom-kill:\n")), OomKill::default());
    }
}
