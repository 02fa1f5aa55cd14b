#!/usr/bin/env bash
# Runs shell commands in a guest with cgroup v2: a Linux kernel that is an ordinary process (user-mode Linux), needs no root,
# and sees this machine's files; what it writes is gone with it. In the guest `stead` is the program built last.
set -euo pipefail

usage() {
  cat <<END
usage: contrib/scripts/guest.sh [--memory MB] [--user | --systemd] [--disk FILE [--power-cut]] [--limit SECONDS] 'COMMANDS'

  --memory MB      the guest's RAM (512)
  --user           run as an ordinary user who owns the groups below user@1000.service, as systemd delegates them; else root
  --systemd        systemd is the guest's init and runs COMMANDS as a service, root's; when they have ended, the guest is shut down by
                   systemd. With --disk all that the guest writes outlives it, and the next boot finds it in its place
  --disk FILE      a file system at /disk that outlives the guest; made where there is no such file
  --power-cut      when COMMANDS have ended, what is not yet on the disk is lost, with all that still runs
  --limit SECONDS  the guest's life (60)

COMMANDS (of sh) run in /run/work, with STEAD_HOME in /run. The guest has commands of its own beside this machine's:
  in-scope NAME COMMAND...  run it in a new group, as \`systemd-run --scope -p Delegate=yes\` does
  eventually COMMAND...     run it until it succeeds, for 60 s at most

Exit status: that of COMMANDS; 124 if the limit came first, 125 if the guest did not boot or ended without a status,
126 if the CPU has registers (AMX) that its kernel is too old for.
END
}

fail() {
  echo "error: $1" >&2
  [ -z "${2:-}" ] || echo "hint: $2" >&2
  exit 125
}

memory=512 user=root systemd= disk= power_cut= limit=60
while [ $# -gt 1 ]; do
  case $1 in
    --memory) memory=$2; shift 2 ;;
    --user) user=ordinary; shift ;;
    --systemd) systemd=yes; shift ;;
    --disk) disk=$2; shift 2 ;;
    --power-cut) power_cut=yes; shift ;;
    --limit) limit=$2; shift 2 ;;
    *) break ;;
  esac
done
if [ $# -ne 1 ] || [ "$1" = --help ]; then
  usage
  [ "${1:-}" = --help ] && exit 0 || exit 125
fi
repository=$(cd "$(dirname "$0")/../.." && pwd -P)
"$repository/contrib/scripts/uml.sh" --is-there || exit 125

# STEAD names another program; a test gives the one that it was built with.
built=${CARGO_TARGET_DIR:-$repository/target}
stead=${STEAD:-$(ls -t "$built"/{release,debug}/stead 2>/dev/null | head -n 1 || true)}
[ -n "$stead" ] || fail "there is no stead in $built" "cargo build"

dir=$(mktemp -d "${TMPDIR:-/tmp}/stead-test-guest-XXXXXX")
# Ends the guest when its time is up, and clears away when we have ended, be it by SIGKILL: the pipe is at its end then. The
# kernel and all that it runs are one process group.
exec 3> >(
  trap '' INT TERM HUP
  exec >/dev/null 2>&1
  end_guest() {
    [ -z "${guest:-}" ] || kill -KILL -- "-$guest" "$guest" 2>/dev/null || true
  }
  if read -r guest; then
    ended=0
    read -r -t "$limit" _ || ended=$?
    if [ "$ended" -gt 128 ]; then
      touch "$dir/late"
      end_guest
      read -r _ || true
    fi
    end_guest
  fi
  rm -rf "$dir"
)
watch=$!
cleanup() {
  exec 3>&-
  wait "$watch" || true
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

printf '%s\n' "$1" >"$dir/script"
if [ -n "$disk" ]; then
  if [ ! -e "$disk" ]; then
    truncate -s 256M "$disk"
    PATH=$PATH:/usr/sbin mkfs.ext4 -q -F "$disk"
  fi
  disk=$(realpath "$disk")
fi
# A version manager's python3 is a script of many processes, which a guest runs slowly: the interpreter itself comes first.
python=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null || true)
printf '%s=%q\n' user "$user" systemd "$systemd" disk "$disk" power_cut "$power_cut" stead "$(realpath "$stead")" python "$python" path "$PATH" \
  >"$dir/options"
# The guest's RAM is a file without a name, in /dev/shm where there is room for it.
ram=/dev/shm
[ "$(df --output=avail --block-size=1M /dev/shm 2>/dev/null | tail -n 1)" -gt "$memory" ] 2>/dev/null || ram=$dir

# Through pipes, for the kernel would set a terminal of ours to raw. Its STEAD_HOME is how test.sh knows it as a test's.
exec 4> >(exec cat 3>&-) && out=$!
exec 5> >(exec cat >&2 3>&- 4>&-) && err=$!
TMPDIR=$ram STEAD_HOME=$dir linux.uml mem="${memory}M" ubd0="${disk:-/dev/null}" \
  rootfstype=hostfs rootflags=/ ro init="$repository/tests/v2/init" GUEST="$dir" cgroup_no_v1=all panic=-1 \
  con=null con0=null,fd:1 con1=null,fd:4 con2=null,fd:5 con3=null,fd:6 uml_dir="$dir" umid=guest \
  6>"$dir/status" >"$dir/console" 2>&1 </dev/null 3>&- &
guest=$!
echo "$guest" >&3
exec 4>&- 5>&-
ended=0
{ wait "$guest" || ended=$?; } 2>/dev/null
# What the kernel leaves when it crashes holds the pipes open.
kill -KILL -- "-$guest" 2>/dev/null || true
wait "$out" "$err" || true
status=$(tr -d '\r\n' <"$dir/status")
if [ -n "$status" ]; then
  exit "$status"
fi
grep -v '^epollctl add err' "$dir/console" | tail -n 40 >&2 || true
if [ -e "$dir/late" ]; then
  echo "error: the guest did not end within $limit s" >&2
  exit 124
fi
if grep -q 'ptrace set fp regs failed' "$dir/console"; then
  echo "error: this user-mode Linux cannot carry the registers of this CPU (it has AMX): no guest can boot here" >&2
  exit 126
fi
fail "the guest ended by itself, without a status (its kernel: $ended)"
