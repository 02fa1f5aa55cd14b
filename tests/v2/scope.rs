//! A start from a shell on a host whose init is systemd: the keeper gets a scope of its own, or says why not.

use crate::guest::Guest;

/// What systemd-run does with a command, without systemd: options end with `--`, and a delegated group has the controllers.
const SYSTEMD_RUN: &str = "\
#!/bin/sh
echo \"$@\" >/run/asked
root=/sys/fs/cgroup
group=$root/system.slice/run-1.scope
mkdir -p $group
for above in $root $root/system.slice; do echo '+memory +pids +cpu' >$above/cgroup.subtree_control; done
echo 0 >$group/cgroup.procs || exit
while [ \"$1\" != -- ]; do shift; done
shift
exec \"$@\"
";

const PREPARE: &str = "\
mkdir -p /run/systemd/system /run/bin
mv systemd-run /run/bin
mkdir -p /sys/fs/cgroup/system.slice
for folder in /sys/fs/cgroup /sys/fs/cgroup/system.slice; do
    echo '+memory +pids' >$folder/cgroup.subtree_control
done
export PATH=/run/bin:$PATH
";

#[test]
fn a_start_from_a_shell_puts_the_keeper_into_a_scope_of_its_own() {
    let Some(guest) = Guest::new() else { return };
    let said = guest.file("systemd-run", SYSTEMD_RUN).ok(&format!(
        "{PREPARE}
        in-scope session-1 stead start 'sleep 1000' --name one --max-memory-restart 50M
        grep -c -e '--scope --system .*--property=Delegate=yes' /run/asked
        keeper=$(stead ping --json | sed 's/.*\"keeper_pid\":\\([0-9]*\\).*/\\1/')
        grep -c '0::/system.slice/run-1.scope/' /proc/$keeper/cgroup
        stead list --json
        stead kill
        ! ls -d /sys/fs/cgroup/system.slice/run-1.scope/stead-* 2>/dev/null"
    ));
    let list = &said.json()[2];
    assert_eq!(list[0]["memory_enforcement"], "cgroup2", "{said:?}");
    assert!(said.stderr.is_empty() || !said.stderr.contains("warning"), "{said:?}");
}

#[test]
fn a_systemd_run_that_fails_is_said_and_stead_starts_all_the_same() {
    let Some(guest) = Guest::new() else { return };
    let said = guest.file("systemd-run", "#!/bin/sh\nexit 1\n").ok(&format!(
        "{PREPARE}
        in-scope session-1 stead start 'sleep 1000' --name one >&2
        stead list --json
        grep 'no scope of its own' $STEAD_HOME/stead.log
        stead kill"
    ));
    assert_eq!(said.json()[0][0]["status"], "online", "{said:?}");
    assert!(said.stdout.contains("WARN /run/bin/systemd-run gave stead no scope of its own"), "{said:?}");
    assert!(said.stderr.contains("warning: /run/bin/systemd-run gave stead no scope of its own"), "{said:?}");
}
