//! Evidence that only a v2 tree can hold: the mark of systemd-oomd, and the group of a process that left its session.

use crate::guest::Guest;
use serde_json::json;

const APPS: &str = "apps:
  - {name: marked, script: /bin/sleep, args: '1000', restart_delay: 1h}
  - {name: killed, script: /bin/sleep, args: '1000', restart_delay: 1h}
  - {name: parent, script: ./parent.py, interpreter: python3, restart_delay: 1h}
  - {name: fault, script: ./fault.py, interpreter: python3, restart_delay: 1h, limits: {core: 0}}
";

/// What systemd-oomd does to a group: it counts in an attribute, then kills.
const OOMD: &str = "import os, signal, sys
pid = int(sys.argv[1])
group = [line[3:].strip() for line in open(f'/proc/{pid}/cgroup') if line.startswith('0::')][0]
os.setxattr('/sys/fs/cgroup' + group, 'user.oomd_ooms', b'1')
os.kill(pid, signal.SIGKILL)
";

/// Its grandchild is in a session of its own when it dies.
const PARENT: &str = "import os, sys, time
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    child = os.getpid()
    if os.fork() == 0:
        while os.getppid() == child: time.sleep(0.01)
        os.write(w, str(os.getpid()).encode())
        os._exit(7)
    os._exit(0)
os.wait()
pid = int(os.read(r, 20))
while os.path.exists(f'/proc/{pid}'): time.sleep(0.01)
sys.exit(5)
";

#[test]
fn a_mark_of_systemd_oomd_and_an_orphan_in_another_session_are_seen() {
    let Some(guest) = Guest::new() else { return };
    let guest = guest
        .file("apps.yaml", APPS)
        .file("oomd.py", OOMD)
        .file("parent.py", PARENT)
        .file("fault.py", "import ctypes\nctypes.string_at(0)\n")
        .file("have-ended", "#!/bin/sh\ntest \"$(grep -c ' ended run=' $STEAD_HOME/stead.log)\" = $1\n");
    let said = guest.ok("
        stead start apps.yaml >&2 || true
        python3 oomd.py $(pgrep -f 'sleep 1000' | head -1)
        kill -9 $(pgrep -f 'sleep 1000' | head -1)
        eventually ./have-ended 4
        for app in marked killed parent fault; do stead why $app --json; done
        stead kill >&2");
    let [marked, killed, parent, fault] = &said.json()[..] else { panic!("{said:#?}") };
    let record = |why: &serde_json::Value| why["records"][0].clone();
    // Which of the two was found first does not matter.
    let (marked, killed) = match &record(marked)["evidence"]["sender"] {
        serde_json::Value::Null => (record(killed), record(marked)),
        _ => (record(marked), record(killed)),
    };
    assert_eq!(
        (&marked["cause"], &marked["confidence"], &marked["evidence"]["sender"]["command"]),
        (&json!("signal"), &json!("certain"), &json!("systemd-oomd")),
        "{marked:#}"
    );
    assert_eq!((&killed["cause"], &killed["evidence"]["sender"]), (&json!("signal"), &json!(null)), "{killed:#}");
    let parent = record(parent);
    assert_eq!(parent["evidence"]["children"][0]["exit_code"], 7, "{parent:#}");
    assert!(parent["summary"].as_str().unwrap().ends_with("exited with code 7"), "{parent:#}");
    let fault = record(fault);
    assert_eq!((&fault["cause"], &fault["signal"]), (&json!("signal"), &json!("SIGSEGV")), "{fault:#}");
    assert!(fault["evidence"]["kernel_log"][0].as_str().unwrap_or_default().contains("]: segfault at 0"), "{fault:#}");
}
