//! What the kernel's log says of a kill for want of memory: records of /dev/kmsg (Documentation/ABI/testing/dev-kmsg), texts of
//! mm/oom_kill.c and mm/memcontrol.c since Linux 4.19.

/// One line about an OOM kill. The kernel writes two per kill: `oom-kill:` names the groups and is rate limited; `Killed process`
/// always comes, names no group, and has the victim's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomLine {
    /// Since boot, in microseconds of the kernel's log clock (CLOCK_MONOTONIC but for its drift).
    pub at_usec: u64,
    pub constraint: Constraint,
    /// In the pid namespace of the init process.
    pub victim_pid: i32,
    /// At most 15 bytes of it, as in /proc/PID/comm; control characters replaced.
    pub victim_name: String,
    /// The victim's memory cgroup, from the root of its hierarchy.
    pub victim_cgroup: Option<String>,
    /// Anonymous memory in its page tables.
    pub anon_rss_bytes: Option<u64>,
}

/// Whose memory was at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// A cgroup's limit: that of this group (`oom-kill:` says which), the victim's own or one above it.
    Cgroup { path: Option<String> },
    /// The machine's.
    Host,
    /// That of the NUMA nodes the victim may use (cpuset, mempolicy).
    Nodes,
}

/// A process that the CPU refused to go on with: what a kernel says of it where `debug.exception-trace` is set, as it is by default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at_usec: u64,
    /// Of the thread, in the pid namespace of the init process.
    pub tid: i32,
}

/// The kernel's facility is 0; what a process writes into /dev/kmsg always has another, so it can't be taken for the kernel's word.
const KERNEL_PRIORITIES: u32 = 8;

/// TASK_COMM_LEN without its zero byte.
const NAME: usize = 15;

/// Reads one record, `prio,seq,usec,flags;text`, with or without its end of line and its dictionary lines. `None`: it is cut off, or
/// of something else.
#[must_use]
pub fn oom_line(record: &str) -> Option<OomLine> {
    let (head, text) = split(record)?;
    let at_usec = head.by_kernel.then_some(head.at_usec)?;
    oom_kill(text, at_usec).or_else(|| killed_process(text, at_usec))
}

/// Reads `python3[7]: segfault at 0 ip …` and `traps: a.out[7] general protection fault ip:…` (arch/x86/mm/fault.c, kernel/traps.c).
#[must_use]
pub fn fault(record: &str) -> Option<Fault> {
    let (head, text) = split(record)?;
    let at = ["]: segfault at ", "] general protection", "] trap "].iter().find_map(|words| text.find(words))?;
    let (_, tid) = text[..at].rsplit_once('[')?;
    let tid = tid.parse().ok().filter(|tid| *tid > 0)?;
    head.by_kernel.then_some(Fault { at_usec: head.at_usec, tid })
}

/// Whom earlyoom says that it signals: `earlyoom[12]: sending SIGTERM to process 7 uid 0 "python3": …`, in older versions `Killing process
/// 7 python3` (its `kill.c`). A line of syslog or of /dev/kmsg; anybody who may write there can claim as much.
#[must_use]
pub fn earlyoom_victim(line: &str) -> Option<i32> {
    let (_, said) = line.split_once("earlyoom")?;
    let said = said.split_once(": ")?.1;
    let rest = match said.strip_prefix("sending SIG") {
        Some(rest) => rest.split_once(" to process ")?.1,
        None => said.strip_prefix("Killing process ")?,
    };
    rest.split(' ').next()?.parse().ok().filter(|pid| *pid > 0)
}

/// When a record was written, in microseconds of the kernel's log clock.
#[must_use]
pub fn written_at(record: &str) -> Option<u64> {
    split(record).map(|(head, _)| head.at_usec)
}

struct Head {
    by_kernel: bool,
    at_usec: u64,
}

/// The head of a record, and the first line of its text.
fn split(record: &str) -> Option<(Head, &str)> {
    let (head, text) = record.split_once(';')?;
    let text = text.lines().next()?;
    let mut head = head.split(',');
    let by_kernel = head.next()?.parse::<u32>().ok()? < KERNEL_PRIORITIES;
    head.next()?.parse::<u64>().ok()?;
    let at_usec = head.next()?.parse().ok()?;
    head.next()?;
    Some((Head { by_kernel, at_usec }, text))
}

/// `oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,task_memcg=/a/b,task=python3,pid=7,uid=0`;
/// where the machine was at its end, `global_oom` stands in the place of `oom_memcg=`.
fn oom_kill(text: &str, at_usec: u64) -> Option<OomLine> {
    let rest = text.strip_prefix("oom-kill:constraint=")?;
    let (constraint, rest) = rest.split_once(',')?;
    // The end is read from its end: names and paths may hold commas.
    let (rest, uid) = rest.rsplit_once(",uid=")?;
    uid.trim_end().parse::<u32>().ok()?;
    let (rest, pid) = rest.rsplit_once(",pid=")?;
    let (rest, cgroup) = rest.split_once(",task_memcg=")?;
    let (at, _) =
        cgroup.match_indices(",task=").find(|(at, word)| unescape(&cgroup[at + word.len()..]).len() <= NAME)?;
    let constraint = match constraint {
        "CONSTRAINT_MEMCG" => {
            Constraint::Cgroup { path: rest.split_once(",oom_memcg=").map(|(_, path)| text_of(path)) }
        }
        "CONSTRAINT_NONE" => Constraint::Host,
        "CONSTRAINT_CPUSET" | "CONSTRAINT_MEMORY_POLICY" => Constraint::Nodes,
        _ => return None,
    };
    Some(OomLine {
        at_usec,
        constraint,
        victim_pid: pid.parse().ok().filter(|pid| *pid > 0)?,
        victim_name: name_of(&cgroup[at + ",task=".len()..]),
        victim_cgroup: Some(text_of(&cgroup[..at])),
        anon_rss_bytes: None,
    })
}

/// `Memory cgroup out of memory: Killed process 7 (python3) total-vm:65908kB, anon-rss:55808kB, file-rss:6640kB, …`
fn killed_process(text: &str, at_usec: u64) -> Option<OomLine> {
    let (reason, rest) = text.split_once(": Killed process ")?;
    let constraint = match reason {
        "Memory cgroup out of memory" => Constraint::Cgroup { path: None },
        _ if reason.starts_with("Out of memory") => Constraint::Host,
        _ => return None,
    };
    let (pid, rest) = rest.split_once(" (")?;
    // Some kernels have `, UID 0,` between name and sizes.
    let end = rest.rfind(") total-vm:").or_else(|| rest.rfind("), UID "))?;
    let anon_rss = rest[end..].split_once("anon-rss:").and_then(|(_, rest)| rest.split_once("kB"));
    Some(OomLine {
        at_usec,
        constraint,
        victim_pid: pid.parse().ok().filter(|pid| *pid > 0)?,
        victim_name: name_of(&rest[..end]),
        victim_cgroup: None,
        anon_rss_bytes: anon_rss.and_then(|(size, _)| size.parse::<u64>().ok()?.checked_mul(1024)),
    })
}

/// The kernel writes bytes that can't be printed, and backslashes, as `\x1b`.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some(first) = rest.first() {
        let escaped = (rest.starts_with(b"\\x"))
            .then(|| rest.get(2..4).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()))
            .flatten();
        out.push(escaped.unwrap_or(*first));
        rest = &rest[if escaped.is_some() { 4 } else { 1 }..];
    }
    out
}

fn text_of(escaped: &str) -> String {
    String::from_utf8_lossy(&unescape(escaped)).into_owned()
}

fn name_of(escaped: &str) -> String {
    let visible = |char: char| if char.is_control() { '\u{fffd}' } else { char };
    text_of(escaped).chars().map(visible).take(NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MEMCG: &str = "6,823,2317096882,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/stead/web-0,task_memcg=/stead/web-0/run,task=python3,pid=20295,uid=0";
    const KILLED: &str = "3,824,2317096899,-;Memory cgroup out of memory: Killed process 20295 (python3) total-vm:65908kB, anon-rss:55808kB, file-rss:6640kB, shmem-rss:0kB, UID:0 pgtables:168kB oom_score_adj:0";
    const HOST: &str = "6,901,99,-;oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/t,task=d1,pid=723,uid=1000";
    const HOST_KILLED: &str = "3,902,100,-;Out of memory: Killed process 723 (d1) total-vm:6904kB, anon-rss:128kB, file-rss:0kB, shmem-rss:0kB, UID:1000 pgtables:44kB oom_score_adj:0";

    fn line(
        constraint: Constraint,
        at_usec: u64,
        pid: i32,
        name: &str,
        cgroup: Option<&str>,
        anon: Option<u64>,
    ) -> OomLine {
        OomLine {
            at_usec,
            constraint,
            victim_pid: pid,
            victim_name: name.to_owned(),
            victim_cgroup: cgroup.map(str::to_owned),
            anon_rss_bytes: anon,
        }
    }

    #[test]
    fn a_kill_at_a_groups_limit_names_the_group() {
        let constraint = Constraint::Cgroup { path: Some("/stead/web-0".into()) };
        assert_eq!(
            oom_line(MEMCG),
            Some(line(constraint, 2_317_096_882, 20295, "python3", Some("/stead/web-0/run"), None))
        );
        let constraint = Constraint::Cgroup { path: None };
        assert_eq!(oom_line(KILLED), Some(line(constraint, 2_317_096_899, 20295, "python3", None, Some(55_808 << 10))));
    }

    #[test]
    fn a_kill_by_the_machines_end_is_told_from_it() {
        assert_eq!(oom_line(HOST), Some(line(Constraint::Host, 99, 723, "d1", Some("/t"), None)));
        assert_eq!(oom_line(HOST_KILLED), Some(line(Constraint::Host, 100, 723, "d1", None, Some(128 << 10))));
        let nodes = HOST.replace("CONSTRAINT_NONE", "CONSTRAINT_CPUSET");
        assert_eq!(oom_line(&nodes).unwrap().constraint, Constraint::Nodes);
    }

    #[test]
    fn names_may_hold_anything() {
        for name in
            ["a b", "a,pid=1", "a) total-vm:1", "(sd-pam)", ",task=x,uid=0", "kworker/u4:0", "größe", "Web Content"]
        {
            let record = MEMCG.replace("task=python3", &format!("task={name}"));
            let found = oom_line(&record).unwrap();
            assert_eq!((found.victim_name.as_str(), found.victim_pid), (name, 20295), "{record}");
            assert_eq!(found.victim_cgroup.as_deref(), Some("/stead/web-0/run"));
            let found = oom_line(&KILLED.replace("(python3)", &format!("({name})"))).unwrap();
            assert_eq!((found.victim_name.as_str(), found.victim_pid), (name, 20295));
            assert_eq!(found.anon_rss_bytes, Some(55_808 << 10));
        }
    }

    #[test]
    fn escaped_bytes_are_read_and_neutralised_in_names() {
        let record = MEMCG.replace("task=python3", r"task=a\x1b[31m").replace("/stead/web-0", r"/a\x5cx2db.slice");
        let found = oom_line(&record).unwrap();
        assert_eq!(found.victim_name, "a\u{fffd}[31m");
        assert_eq!(found.victim_cgroup.as_deref(), Some(r"/a\x2db.slice/run"));
    }

    #[test]
    fn continuation_lines_and_newer_fields_change_nothing() {
        let record = MEMCG.replace(",-;", ",-,caller=T20295;") + "\n SUBSYSTEM=memory\n DEVICE=+x:y\n";
        assert_eq!(oom_line(&record), oom_line(MEMCG));
        let older = KILLED.replace(") total-vm", "), UID 0, total-vm");
        assert_eq!(oom_line(&older), oom_line(KILLED));
    }

    #[test]
    fn only_the_kernel_itself_is_believed() {
        assert_eq!(oom_line(&KILLED.replacen("3,", "11,", 1)), None, "facility 1: a process wrote it");
    }

    #[test]
    fn what_is_cut_off_or_of_something_else_is_none() {
        for record in [
            "",
            ";",
            "6,1,2,-;",
            "6,1,2,-;usb 1-1: new device",
            "garbage",
            "6,1,x,-;Out of memory: Killed process 1 (a)",
        ] {
            assert_eq!(oom_line(record), None, "{record}");
        }
        for whole in [MEMCG, HOST] {
            // A record ends with its uid; cut within its digits, it still is a uid.
            let digits = whole.len() - whole.rfind('=').unwrap() - 1;
            for end in 0..=whole.len() - digits {
                assert_eq!(oom_line(&whole[..end]), None, "{}", &whole[..end]);
            }
        }
        for bad in ["pid=0", "pid=-4", "pid=99999999999", "pid=x", "pid="] {
            assert_eq!(oom_line(&MEMCG.replace("pid=20295", bad)), None);
        }
        let huge = KILLED.replace("anon-rss:55808kB", "anon-rss:18446744073709551615kB");
        assert_eq!(oom_line(&huge).unwrap().anon_rss_bytes, None);
    }

    #[test]
    fn a_fault_is_the_kernels_word_alone() {
        let crash = "6,9,77,-;python3[4711]: segfault at 0 ip 00007f2b sp 00007ffd error 4 in libc.so.6[7f2b+155000] likely on CPU 1";
        assert_eq!(fault(crash), Some(Fault { at_usec: 77, tid: 4711 }));
        let trap = "6,9,78,-;traps: a [b][12] general protection fault ip:55d1 sp:7ffd error:0 in a[55d1+1000]";
        assert_eq!(fault(trap), Some(Fault { at_usec: 78, tid: 12 }));
        for other in [
            "14,9,77,-;python3[4711]: segfault at 0 ip 0",
            "6,9,77,-;python3[x]: segfault at 0",
            "6,9,77,-;]: segfault at 0",
            "6,9,77,-;eth0: link up",
        ] {
            assert_eq!(fault(other), None, "{other}");
        }
    }

    #[test]
    fn earlyoom_names_its_victim_wherever_it_writes() {
        for line in [
            "sys earlyoom[812]: sending SIGTERM to process 4711 uid 1000 \"python3\": oom_score 800, VmRSS 600 MiB",
            "12,901,99,-;earlyoom: sending SIGKILL to process 4711 uid 0 \"git\": badness 900",
            "Nov 24 10:00:00 host earlyoom[1]: Killing process 4711 git",
        ] {
            assert_eq!(earlyoom_victim(line), Some(4711), "{line}");
        }
        for line in
            ["earlyoom: mem avail: 1 of 2", "x: sending SIGTERM to process 4711", "earlyoom: Killing process ", ""]
        {
            assert_eq!(earlyoom_victim(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_record_panics(text in any::<String>(), at in 0usize..200, from in 0usize..4) {
            let _ = oom_line(&text);
            let whole = [MEMCG, KILLED, HOST, HOST_KILLED][from];
            let at = at.min(whole.len());
            let found = oom_line(&format!("{}{text}{}", &whole[..at], &whole[at..]));
            if let Some(found) = found {
                prop_assert!(found.victim_name.chars().count() <= NAME);
                prop_assert!(found.victim_pid > 0);
            }
        }
    }
}
