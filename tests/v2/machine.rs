//! The guest itself: what the tests of memory rely on.

use crate::guest::Guest;

/// Takes memory until something stops it.
const HOG: &str = "taken = []\nwhile True:\n    taken.append(b'x' * (1 << 20))\n";

/// Makes a group with a limit below the scope that it runs in, and runs the hog there.
const LIMITED: &str = r#"#!/bin/sh
set -eu
scope=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir $scope/main $scope/hog
echo $$ >$scope/main/cgroup.procs
echo +memory +pids +cpu >$scope/cgroup.subtree_control
echo 48M >$scope/hog/memory.max
echo 0 >$scope/hog/memory.swap.max
status=0
sh -c "echo 0 >$scope/hog/cgroup.procs; exec python3 hog.py" || status=$?
echo "hog: $status"
cat $scope/hog/memory.events
"#;

#[test]
fn root_has_cgroup_v2_alone_and_the_kernel_kills_past_a_limit() {
    let Some(guest) = Guest::new() else { return };
    let said = guest.file("hog.py", HOG).file("limited.sh", LIMITED).ok("
        id -u
        cat /sys/fs/cgroup/cgroup.controllers /sys/fs/cgroup/cgroup.subtree_control
        grep cgroup /proc/self/mountinfo
        in-scope app ./limited.sh
    ");
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[0], "0");
    for controllers in &lines[1..3] {
        assert!(["memory", "pids", "cpu"].iter().all(|one| controllers.split(' ').any(|it| it == *one)), "{said:?}");
    }
    assert!(lines[3].ends_with(" - cgroup2 cgroup2 rw"), "{said:?}");
    assert_eq!(lines[4], "hog: 137", "and no other cgroup is mounted: {said:?}");
    assert!(lines.contains(&"oom_kill 1"), "{said:?}");
}

#[test]
fn an_ordinary_user_owns_what_is_delegated_and_nothing_above_it() {
    let Some(guest) = Guest::new() else { return };
    let said = guest.delegated().file("hog.py", HOG).file("limited.sh", LIMITED).ok("
        id -u
        sed -n 's/^0:://p' /proc/self/cgroup
        manager=/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service
        for mine in $manager $manager/app.slice; do test -w $mine/cgroup.procs; done
        for not_mine in $manager/memory.max $manager/../cgroup.procs; do ! test -w $not_mine; done
        in-scope app ./limited.sh
    ");
    let lines: Vec<&str> = said.stdout.lines().collect();
    let scope = "/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope";
    assert_eq!(lines[..3], ["1000", scope, "hog: 137"], "{said:?}");
    assert!(lines.contains(&"oom_kill 1"), "{said:?}");
}

#[test]
fn a_script_s_output_and_status_come_out_whole() {
    let Some(guest) = Guest::new() else { return };
    let said = guest.run("seq 1 20000; printf 'no newline' >&2; sleep 1000 & exit 7");
    let lines: Vec<String> = (1..=20000).map(|number| number.to_string()).collect();
    assert_eq!((said.status, said.stderr.as_str()), (7, "no newline"));
    assert!(said.stdout.lines().eq(lines), "{} bytes", said.stdout.len());
}

#[test]
fn a_guest_of_little_memory_runs_out_of_it_as_a_whole() {
    let Some(guest) = Guest::new() else { return };
    let said = guest.memory_mb(128).file("hog.py", HOG).ok("
        status=0
        in-scope hog python3 hog.py || status=$?
        echo \"hog: $status\"
        cat /sys/fs/cgroup/hog.scope/memory.events
        grep oom_kill /proc/vmstat
    ");
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!((lines[0], lines.last()), ("hog: 137", Some(&"oom_kill 1")), "{said:?}");
    assert!(lines.contains(&"oom 0"), "no limit of the group's own was reached: {said:?}");
}
