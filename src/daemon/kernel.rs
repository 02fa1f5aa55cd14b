//! What the kernel's log says of a kill in a run's group.

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

/// The line that names the group comes first, the line that names the process right behind it.
fn find(group: &str, lines: &[String]) -> OomKill {
    let mark = format!("/{group},");
    let Some(at) = lines.iter().rposition(|line| line.starts_with("oom-kill:") && line.contains(&mark)) else {
        return OomKill::default();
    };
    let killed = lines[at..].iter().take(4).find(|line| line.contains("Killed process "));
    let mut found = OomKill {
        host: Some(lines[at].contains("constraint=CONSTRAINT_NONE") || lines[at].contains("global_oom")),
        ..OomKill::default()
    };
    found.lines.push(lines[at].clone());
    if let Some(line) = killed {
        found.lines.push(line.clone());
        let rest = line.split_once("Killed process ").map_or("", |(_, rest)| rest);
        found.pid = rest.split(' ').next().and_then(|pid| pid.parse().ok());
        found.name = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')')).map(|(name, _)| name.to_owned());
    }
    found
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
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,oom_memcg=/stead-1/web.7,task_memcg=/stead-1/web.7,task=python3,pid=42,uid=0\n\
             Memory cgroup out of memory: Killed process 42 (python3) total-vm:65908kB, anon-rss:55808kB\n\
             oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),global_oom,task_memcg=/stead-1/db.8,task=git,pid=7,uid=0\n\
             Out of memory: Killed process 7 (git) total-vm:1kB",
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
    fn garbage_says_nothing() {
        assert_eq!(find("web.7", &lines("oom-kill:\nKilled process (\n")), OomKill::default());
    }
}
