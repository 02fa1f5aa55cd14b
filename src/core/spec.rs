//! The wish: what an app shall be. Everything is resolved; nothing in here is still text to be interpreted.

use super::clock::Millis;
use super::cron::Cron;
use super::name::AppName;
use super::record::Cause;
use super::watch::Watch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// Environment variables.
pub type Env = BTreeMap<String, String>;

/// An app. Two specs that are equal need no restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    pub name: AppName,
    pub namespace: String,
    /// `script` as the user wrote it, for people.
    pub script: String,
    /// The program and its arguments. The program is an absolute path, or a bare name for PATH.
    pub command: Vec<String>,
    pub cwd: PathBuf,
    /// What the file says: `env_file`, then `env`, then `env_<name>`.
    pub env: Env,
    /// `None`: one instance with the app's own name. `Some(n)`: `NAME-0` to `NAME-(n-1)`.
    pub instances: Option<u32>,
    /// The variable that carries an instance's number.
    pub instance_var: String,
    pub autostart: bool,
    pub policy: Policy,
    #[serde(default)]
    pub readiness: Readiness,
    /// Apps that must be there before it starts.
    #[serde(default)]
    pub depends_on: BTreeMap<AppName, Need>,
    pub stop: Stop,
    #[serde(default)]
    pub reload: Reload,
    pub identity: Option<Identity>,
    /// No setuid program gives its processes more rights (PR_SET_NO_NEW_PRIVS).
    #[serde(default)]
    pub no_new_privileges: bool,
    pub umask: Option<u32>,
    pub nice: Option<i32>,
    pub limits: BTreeMap<Resource, Limit>,
    pub logs: Logs,
    pub pid_file: Option<PathBuf>,
    /// The cap on the whole tree's memory: above it the run is ended gracefully.
    pub max_memory_restart: Option<Bytes>,
    #[serde(default)]
    pub allowance: Allowance,
    #[serde(default)]
    pub health: HealthRules,
    /// Whether the fleet's notifiers are told of it.
    #[serde(default = "yes")]
    pub notify: bool,
    /// Sockets that every run inherits from fd 3 on, in this order.
    pub listen: Vec<Listen>,
    /// Files whose change restarts it.
    #[serde(default)]
    pub watch: Option<Watch>,
    /// Exit records that are kept.
    #[serde(default = "journal_keep")]
    pub journal_keep: u32,
}

/// Exit records that are kept of an app that says nothing of it.
#[must_use]
pub fn journal_keep() -> u32 {
    1000
}

fn yes() -> bool {
    true
}

/// What the whole tree may take of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allowance {
    /// The wall: the kernel's hard limit. `None`: 1.25 times the cap, where there is one.
    pub memory_max: Option<Bytes>,
    /// `None`: nothing where there is a wall.
    pub memory_swap_max: Option<Bytes>,
    pub oom_policy: OomPolicy,
    pub oom_score_adj: Option<i32>,
    /// Of one CPU, in thousandths.
    pub cpu_max: Option<u32>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
}

/// When `stead health` calls an app not well; `None`: the fleet's rule, else the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthRules {
    /// Unplanned restarts in all.
    pub restarts: Option<u64>,
    /// Unplanned ends, 1 to 10.
    pub restarts_per_hour: Option<u32>,
    pub memory_warn: Option<Bytes>,
}

impl HealthRules {
    /// What is said here, else what is said there.
    #[must_use]
    pub fn or(&self, other: &HealthRules) -> HealthRules {
        HealthRules {
            restarts: self.restarts.or(other.restarts),
            restarts_per_hour: self.restarts_per_hour.or(other.restarts_per_hour),
            memory_warn: self.memory_warn.or(other.memory_warn),
        }
    }
}

/// What a kill at the wall takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OomPolicy {
    /// The whole app.
    #[default]
    Kill,
    /// The one process that the kernel chose: a worker may die under its master.
    Continue,
}

impl Spec {
    /// An app that wishes nothing special, with no program yet.
    #[must_use]
    pub fn plain(name: AppName) -> Spec {
        Spec {
            name,
            namespace: "default".into(),
            script: String::new(),
            command: Vec::new(),
            cwd: "/".into(),
            env: Env::new(),
            instances: None,
            instance_var: "NODE_APP_INSTANCE".into(),
            autostart: true,
            policy: Policy::default(),
            readiness: Readiness::default(),
            depends_on: BTreeMap::new(),
            stop: Stop::default(),
            reload: Reload::default(),
            identity: None,
            no_new_privileges: false,
            umask: None,
            nice: None,
            limits: BTreeMap::new(),
            logs: Logs::default(),
            pid_file: None,
            max_memory_restart: None,
            allowance: Allowance::default(),
            health: HealthRules::default(),
            notify: true,
            listen: Vec::new(),
            watch: None,
            journal_keep: journal_keep(),
        }
    }

    /// The hard limit of the tree's memory.
    #[must_use]
    pub fn wall(&self) -> Option<Bytes> {
        self.allowance.memory_max.or(self.max_memory_restart.map(|cap| Bytes(cap.0 / 4 * 5)))
    }
}

/// When a run that ended is followed by another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub autorestart: bool,
    pub restart_delay: Millis,
    /// First delay of the exponential backoff; it replaces `restart_delay`.
    pub exp_backoff_restart_delay: Option<Millis>,
    pub min_uptime: Millis,
    pub max_restarts: u32,
    pub stop_exit_codes: BTreeSet<i32>,
    /// A planned restart at these times; without `autorestart` the times at which a job runs.
    #[serde(default)]
    pub cron_restart: Option<Cron>,
    /// Up to so much is added to each delay and each time of `cron_restart`.
    #[serde(default)]
    pub jitter: Millis,
    /// What holds for some ends, whatever else is said.
    #[serde(default)]
    pub restart_on: BTreeMap<EndKind, Reaction>,
}

impl Policy {
    /// A job that runs by the clock.
    #[must_use]
    pub fn schedule(&self) -> Option<&Cron> {
        self.cron_restart.as_ref().filter(|_| !self.autorestart)
    }
}

/// A key of `restart_on`: an exit code, or an unplanned cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EndKind {
    Code(i32),
    Cause(Cause),
}

impl EndKind {
    /// Reads an exit code or the word of a cause.
    ///
    /// # Errors
    /// A sentence that names the text.
    pub fn parse(text: &str) -> Result<EndKind, String> {
        if let Ok(code) = text.parse::<i32>() {
            return match code {
                0..=255 => Ok(EndKind::Code(code)),
                _ => Err(format!("exit code {code} is out of range (0 to 255)")),
            };
        }
        match Cause::UNPLANNED.iter().find(|cause| cause.word() == text) {
            Some(cause) => Ok(EndKind::Cause(*cause)),
            None => Err(format!("`{text}` is neither an exit code nor a cause of an unplanned end")),
        }
    }
}

impl fmt::Display for EndKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndKind::Code(code) => write!(f, "{code}"),
            EndKind::Cause(cause) => f.write_str(cause.word()),
        }
    }
}

impl TryFrom<String> for EndKind {
    type Error = String;
    fn try_from(text: String) -> Result<EndKind, String> {
        EndKind::parse(&text)
    }
}

impl From<EndKind> for String {
    fn from(kind: EndKind) -> String {
        kind.to_string()
    }
}

/// A value of `restart_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reaction {
    /// It stays down.
    Never,
    /// Restarted with the ordinary delay, and not counted towards `max_restarts`.
    Always,
    /// Restarted with a delay that grows.
    Backoff,
}

impl Reaction {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Reaction::Never => "never",
            Reaction::Always => "always",
            Reaction::Backoff => "backoff",
        }
    }
}

impl Default for Policy {
    /// PM2's defaults.
    fn default() -> Policy {
        Policy {
            autorestart: true,
            restart_delay: Millis(0),
            exp_backoff_restart_delay: None,
            min_uptime: Millis(1000),
            max_restarts: 16,
            stop_exit_codes: BTreeSet::new(),
            cron_restart: None,
            jitter: Millis(0),
            restart_on: BTreeMap::new(),
        }
    }
}

/// When a run is up, and how it is asked whether it is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// It says so itself: `READY=1` to `$NOTIFY_SOCKET`, as sd_notify(3) does.
    pub wait_ready: bool,
    /// How long it may take to say so.
    pub listen_timeout: Millis,
    pub health_check: Option<HealthCheck>,
}

impl Default for Readiness {
    /// PM2's defaults.
    fn default() -> Readiness {
        Readiness { wait_ready: false, listen_timeout: Millis(3_000), health_check: None }
    }
}

impl Readiness {
    /// It is up as soon as it runs.
    #[must_use]
    pub fn is_immediate(&self) -> bool {
        !self.wait_ready && self.health_check.is_none()
    }
}

/// A question that a run that is well answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub probe: Probe,
    /// From an answer to the next question.
    pub interval: Millis,
    /// No answer within it is a failure.
    pub timeout: Millis,
    /// So many failures in a row, and the run is ended.
    pub retries: u32,
    /// From the start of the run: failures in it do not count, unless it was well before.
    pub start_period: Millis,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// `http://HOST:PORT/PATH`; a status from 200 to 399 is well.
    Http(String),
    /// `HOST:PORT`; a connection is well.
    Tcp(String),
    /// A program and its arguments; exit code 0 is well.
    Command(Vec<String>),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Http(url) => f.write_str(url),
            Probe::Tcp(address) => write!(f, "tcp {address}"),
            // Of a line for the shell only the line is worth reading.
            Probe::Command(words) => match words.as_slice() {
                [_, flag, line] if flag == "-c" => write!(f, "`{line}`"),
                words => write!(f, "`{}`", words.join(" ")),
            },
        }
    }
}

/// What a dependent needs of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    /// Online, or a job that ended with success.
    Started,
    /// Online, and its last health check was good; or a job that ended with success.
    Healthy,
    /// A job that ended with success.
    Done,
}

/// How a run is ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    pub kill_signal: Signal,
    /// From the first signal to SIGKILL.
    pub kill_timeout: Millis,
    pub kill_mode: KillMode,
}

impl Default for Stop {
    /// PM2's defaults: SIGINT to the tree, SIGKILL after 1.6 s.
    fn default() -> Stop {
        Stop { kill_signal: Signal::INT, kill_timeout: Millis(1600), kill_mode: KillMode::Tree }
    }
}

/// How the old run of a reload is ended once its successor is proven; then as by [`Stop`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// To the main process only.
    pub reload_signal: Signal,
    /// From that signal to the kill signal.
    pub reload_timeout: Millis,
}

impl Default for Reload {
    /// SIGTERM is what the servers of this world take as "finish what you have and end"; 30 s is gunicorn's own patience.
    fn default() -> Reload {
        Reload { reload_signal: Signal::TERM, reload_timeout: Millis(30_000) }
    }
}

/// Who gets the signals of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KillMode {
    /// The kill signal and SIGKILL to every process of the tree.
    Tree,
    /// The kill signal to the main process, SIGKILL to the tree.
    Mixed,
    /// Both to the main process only (`treekill: false`).
    Main,
}

/// A user to become, with every supplementary group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub user: String,
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logs {
    /// `None`: `$STEAD_HOME/logs/<name>.out.log`.
    pub out: Option<PathBuf>,
    /// `None`: `$STEAD_HOME/logs/<name>.err.log`.
    pub err: Option<PathBuf>,
    /// A file that gets both streams as well.
    pub combined: Option<PathBuf>,
    /// Instances share one file; else `-<n>` is put before `.log`.
    pub merge: bool,
    pub disabled: bool,
    /// A strftime format that is put before each line.
    pub timestamp: Option<String>,
    pub max_size: Bytes,
    pub keep: u32,
    /// Rotated logs that were last written to longer ago are removed.
    #[serde(default)]
    pub max_age: Option<Millis>,
}

impl Default for Logs {
    fn default() -> Logs {
        Logs {
            out: None,
            err: None,
            combined: None,
            merge: false,
            disabled: false,
            timestamp: None,
            max_size: Bytes(50 << 20),
            keep: 5,
            max_age: None,
        }
    }
}

/// A number of bytes. `M` is MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    /// `512 B`, `4.0K`, `80M`, `1.5G`: three figures at most.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        for unit in ["K", "M", "G", "T", "P"] {
            value /= 1024.0;
            if value < 9.95 {
                let text = format!("{value:.1}");
                return write!(f, "{}{unit}", text.strip_suffix(".0").unwrap_or(&text));
            }
            if value < 1023.5 || unit == "P" {
                return write!(f, "{value:.0}{unit}");
            }
        }
        Ok(())
    }
}

/// A resource of setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// Soft and hard limit; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// A socket that stead holds for an app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listen {
    /// `HOST:PORT`; the host is resolved when the socket is bound.
    Tcp(String),
    Unix(PathBuf),
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(address) => f.write_str(address),
            Listen::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A signal, by its Linux number (x86-64, arm64, riscv64: the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(pub i32);

/// signal(7), in order from 1.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

impl Signal {
    pub const HUP: Signal = Signal(1);
    pub const INT: Signal = Signal(2);
    pub const KILL: Signal = Signal(9);
    pub const TERM: Signal = Signal(15);

    /// Reads `SIGTERM`, `term`, or `15`.
    ///
    /// # Errors
    /// A sentence that names the text.
    pub fn parse(text: &str) -> Result<Signal, String> {
        let upper = text.trim().to_ascii_uppercase();
        let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Ok(number) = bare.parse::<i32>() {
            if (1..=64).contains(&number) {
                return Ok(Signal(number));
            }
            return Err(format!("no signal has the number {number} (1 to 64)"));
        }
        if let Some(offset) =
            bare.strip_prefix("RTMIN").and_then(|rest| rest.trim_start_matches('+').parse::<i32>().ok())
            && (0..=30).contains(&offset)
        {
            return Ok(Signal(34 + offset));
        }
        match SIGNALS.iter().position(|name| *name == bare) {
            Some(index) => Ok(Signal(index as i32 + 1)),
            None if bare == "POLL" => Ok(Signal(29)),
            None => Err(format!("unknown signal `{text}` (for example SIGINT, SIGTERM, SIGQUIT, SIGHUP)")),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match usize::try_from(self.0 - 1).ok().and_then(|index| SIGNALS.get(index)) {
            Some(name) => write!(f, "SIG{name}"),
            None if self.0 >= 34 => write!(f, "SIGRTMIN+{}", self.0 - 34),
            None => write!(f, "SIG{}", self.0),
        }
    }
}

impl TryFrom<String> for Signal {
    type Error = String;
    fn try_from(text: String) -> Result<Signal, String> {
        Signal::parse(&text)
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> String {
        signal.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        assert_eq!(Signal::parse("sigterm"), Ok(Signal::TERM));
        assert_eq!(Signal::parse("INT"), Ok(Signal::INT));
        assert_eq!(Signal::parse("9"), Ok(Signal::KILL));
        assert_eq!(Signal(11).to_string(), "SIGSEGV");
        assert_eq!(Signal::parse("RTMIN+3").unwrap().to_string(), "SIGRTMIN+3");
        assert!(Signal::parse("SIGFOO").is_err());
        assert!(Signal::parse("0").is_err());
    }

    #[test]
    fn sizes_have_three_figures_at_most() {
        for (bytes, words) in [
            (512, "512 B"),
            (4096, "4K"),
            (83_886_080, "80M"),
            (1_610_612_736, "1.5G"),
            (1 << 30, "1G"),
            (1_073_741_823, "1G"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), words);
        }
    }
}
