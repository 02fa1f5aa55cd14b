//! What the kernel's log says of a kill in a run's group.

use crate::core::kernel_log::{self, Constraint, OomLine};
use crate::os::kmsg;

/// Of the newest kill in a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OomKill {
    /// Was it for want of memory of the whole machine? `None`: the log does not say.
    pub host: Option<bool>,
    pub pid: Option<i32>,
    pub name: Option<String>,
    pub lines: Vec<String>,
}

/// Looks for the newest kill in the group of this name.
#[must_use]
pub fn oom_kill(group: &str) -> OomKill {
    find(group, &kmsg::read())
}

/// The line that names the group comes first, the line with the victim's memory right behind it.
fn find(group: &str, records: &[String]) -> OomKill {
    let read: Vec<(&String, OomLine)> =
        records.iter().filter_map(|record| Some((record, kernel_log::oom_line(record)?))).collect();
    let is_in = |line: &OomLine| line.victim_cgroup.as_deref().and_then(|path| path.rsplit('/').next()) == Some(group);
    let Some(at) = read.iter().rposition(|(_, line)| is_in(line)) else { return OomKill::default() };
    let (record, line) = &read[at];
    let behind =
        read.get(at + 1).filter(|(_, next)| next.victim_cgroup.is_none() && next.victim_pid == line.victim_pid);
    OomKill {
        host: Some(!matches!(line.constraint, Constraint::Cgroup { .. })),
        pid: Some(line.victim_pid),
        name: Some(line.victim_name.clone()),
        lines: std::iter::once(*record).chain(behind.map(|(record, _)| *record)).map(|one| text(one)).collect(),
    }
}

/// A record without its head.
fn text(record: &str) -> String {
    record.split_once(';').map_or(record, |(_, text)| text).lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.lines().map(str::to_owned).collect()
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
    fn a_record_has_a_head_and_a_text() {
        assert_eq!(text("6,823,2317096882,-;oom-kill:x;y\n SUBSYSTEM=mem\n"), "oom-kill:x;y");
    }

    #[test]
    fn garbage_says_nothing() {
        assert_eq!(find("web.7", &lines("oom-kill:\nKilled process (\n6,1,10,-;oom-kill:\n")), OomKill::default());
    }
}
