//! What can be typed.

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The client's command line.
#[derive(Debug, Parser)]
#[command(
    name = "stead",
    version,
    about = "Starts apps, keeps them up, and knows why each run of them ended",
    after_help = "NAME is an app, an instance (NAME-0), a namespace, an id, or `all`.\n\
                  Exit status: 0 done, 1 failed, 2 usage or config error, 3 no such app.",
    max_term_width = 100
)]
pub struct Cli {
    /// Where this stead lives [default: $STEAD_HOME, else ~/.local/state/stead; root: /var/lib/stead]
    #[arg(long, global = true, value_name = "DIR", help_heading = "Everywhere")]
    pub home: Option<PathBuf>,
    /// No colours (as with NO_COLOR set, or when piped)
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub no_color: bool,
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// All verbs and flags, for what is made from them.
    #[must_use]
    pub fn definition() -> clap::Command {
        Cli::command()
    }
}

/// PM2's verbs that are other words here, or not there.
const OTHER_WORDS: &[(&str, &str)] = &[
    ("monit", "`stead list` shows all apps, `stead logs -f` what they write"),
    ("dashboard", "`stead list` shows all apps, `stead logs -f` what they write"),
    ("env", "`stead describe NAME --show-env`"),
    ("id", "`stead list` shows the ids"),
    ("pid", "`stead list --json` has the pids"),
    ("prettylist", "`stead list --json`"),
    ("reloadLogs", "`kill -HUP` to the keeper (`stead ping` names it) reopens the logs"),
    ("startOrRestart", "`stead start FILE` starts what is new and restarts what changed"),
    ("startOrReload", "`stead start FILE` starts what is new and restarts what changed"),
    ("startOrGracefulReload", "`stead start FILE` starts what is new and restarts what changed"),
    ("update", "`stead upgrade` puts the new binary in the place of the running stead; no app is restarted"),
    ("ecosystem", "ecosystem.yaml.example shows every key"),
    ("init", "ecosystem.yaml.example shows every key"),
    ("cleardump", "`stead save --force` with an empty list"),
];

/// Ends with what clap says, or, for a verb of PM2 that is another word here, with that word.
pub fn explain(error: clap::Error) -> std::process::ExitCode {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && let Some((_, hint)) = OTHER_WORDS.iter().find(|(known, _)| known == word)
    {
        let refusal = crate::core::command::Refusal::failed(format!("there is no verb `{word}`")).hint(*hint);
        super::render::screen::complain(&super::render::screen::Screen::stderr(false), &refusal);
        return std::process::ExitCode::from(2);
    }
    // Help and version are no failures, and clap knows where each is to be written.
    let _ = error.print();
    std::process::ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start what a file says, a script, or apps that were stopped
    Start(Box<StartArgs>),
    /// Stop apps; they stay in the list
    Stop(Targets),
    /// Stop and start apps
    Restart(RestartArgs),
    /// Replace apps by a new run; with `listen` it starts beside the old one and no request is lost
    Reload(Targets),
    /// Stop apps and forget them
    #[command(visible_alias = "del")]
    Delete(Targets),
    /// Show all apps: state, memory, restarts, last cause
    #[command(visible_aliases = ["ls", "status"], aliases = ["l", "ps"])]
    List(ListArgs),
    /// Show all about an app
    #[command(visible_alias = "show", aliases = ["desc", "info"])]
    Describe(DescribeArgs),
    /// Say why runs ended, with evidence
    Why(WhyArgs),
    /// Say what is not well: apps, the machine, stead itself
    Health(HealthArgs),
    /// Try those who are told when something happens
    Notify(NotifyArgs),
    /// Say whether memory leaks, how fast, and when it reaches the cap
    Trend(TrendArgs),
    /// Show the last lines of output
    #[command(alias = "log")]
    Logs(LogsArgs),
    /// Empty log files
    Flush(FlushArgs),
    /// Keep the list for `resurrect`
    #[command(alias = "dump")]
    Save(SaveArgs),
    /// Start what `save` kept
    Resurrect(NoWait),
    /// Change an app's number of instances
    Scale(ScaleArgs),
    /// Set counters back to zero; an app that gave up is started again
    Reset(ResetArgs),
    /// Send a signal to an app's main process
    #[command(alias = "sendSignal")]
    Signal(SignalArgs),
    /// Print the list as PM2 does, for scripts written for `pm2 jlist`
    Jlist(JlistArgs),
    /// Read an ecosystem file and say all that is wrong with it
    Check(CheckArgs),
    /// Print a JSON Schema of the ecosystem file, by which editors complete it
    Schema,
    /// Stop all apps and end stead itself
    Kill(NoWait),
    /// Say whether stead runs; starts nothing
    Ping(PingArgs),
    /// Put this binary in the place of the running stead; no app is restarted
    Upgrade(UpgradeArgs),
    /// Run stead in the foreground, for systemd and containers
    Daemon(DaemonArgs),
    /// Have systemd start stead at boot, and with it all that was wanted up
    Startup(StartupArgs),
    /// Take back what `startup` did
    Unstartup(UnstartupArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

/// Apps.
#[derive(Debug, Args)]
pub struct Targets {
    /// Apps, instances, namespaces, ids, or `all`
    #[arg(required = true, value_name = "NAME")]
    pub targets: Vec<String>,
    #[command(flatten)]
    pub wait: NoWait,
}

/// Whether to wait.
#[derive(Clone, Copy, Debug, Args)]
pub struct NoWait {
    /// Return when it is begun rather than when it is done
    #[arg(long)]
    pub no_wait: bool,
}

/// `stead start`.
#[derive(Debug, Args)]
#[command(after_help = "\
A file says what shall be: what is new is started, what changed is restarted, the
rest is left alone. What is gone from the file runs on, and is named; --prune
deletes it.

  stead start                       what ./ecosystem.yaml says
  stead start --dry-run             only what that would do
  stead start fleet.yaml --only web,worker
  stead start app.py --name api --max-memory-restart 300M -- --port 5000
  stead start api                   an app that was stopped")]
pub struct StartArgs {
    /// Ecosystem files, scripts, or apps that are known [default: ./ecosystem.yaml]
    #[arg(value_name = "FILE|SCRIPT|NAME")]
    pub targets: Vec<String>,
    /// Only these apps of the file
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Use each app's `env_NAME` of the file
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
    /// Known apps take this shell's environment
    #[arg(long)]
    pub update_env: bool,
    /// Only say what would be done
    #[arg(long, conflicts_with = "no_wait")]
    pub dry_run: bool,
    /// Delete apps that came from the file earlier and are not in it any more
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    pub wait: NoWait,
    /// The script's arguments
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<String>,
    #[command(flatten)]
    pub script: ScriptArgs,
}

/// What is said of a script; each is an attribute of the ecosystem file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Of a script (as in an ecosystem file)")]
pub struct ScriptArgs {
    /// Its name [default: the script's, without extension]
    #[arg(long, short = 'n')]
    pub name: Option<String>,
    /// A group of apps, to be named instead of each of them
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// What runs it [default: by extension]; `none` for a program
    #[arg(long, value_name = "PROGRAM")]
    pub interpreter: Option<String>,
    /// Arguments before the script
    #[arg(long, visible_alias = "node-args", value_name = "ARGS", allow_hyphen_values = true)]
    pub interpreter_args: Option<String>,
    /// Where it runs [default: here]
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// A file of NAME=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<String>,
    /// A number, or `max` for one per CPU
    #[arg(long, short = 'i', value_name = "N", allow_hyphen_values = true)]
    pub instances: Option<String>,
    /// Restart it gracefully when its whole tree uses more (300M, 1G)
    #[arg(long, value_name = "SIZE")]
    pub max_memory_restart: Option<String>,
    /// Let it end
    #[arg(long)]
    pub no_autorestart: bool,
    /// Let it end when it exits with one of these
    #[arg(long, value_name = "CODE,…", value_delimiter = ',', num_args = 1..)]
    pub stop_exit_codes: Vec<i64>,
    /// Wait before each restart (milliseconds, or 5s)
    #[arg(long, value_name = "TIME")]
    pub restart_delay: Option<String>,
    /// First wait; it grows by half up to 15 s
    #[arg(long, value_name = "TIME")]
    pub exp_backoff_restart_delay: Option<String>,
    /// A run shorter than this counts towards giving up
    #[arg(long, value_name = "TIME")]
    pub min_uptime: Option<String>,
    /// Give up after so many short runs
    #[arg(long, value_name = "N")]
    pub max_restarts: Option<String>,
    /// How it is told to end [default: SIGINT]
    #[arg(long, value_name = "SIGNAL")]
    pub kill_signal: Option<String>,
    /// From that signal to SIGKILL
    #[arg(long, value_name = "TIME")]
    pub kill_timeout: Option<String>,
    /// File of its standard output
    #[arg(long, short = 'o', alias = "out-file", value_name = "FILE")]
    pub output: Option<String>,
    /// File of its standard error
    #[arg(long, short = 'e', alias = "error-file", value_name = "FILE")]
    pub error: Option<String>,
    /// A file that gets both as well
    #[arg(long, short = 'l', alias = "log-file", value_name = "FILE")]
    pub log: Option<String>,
    /// Put the time before each line
    #[arg(long)]
    pub time: bool,
    /// Put the time in this format before each line
    #[arg(long, value_name = "FORMAT")]
    pub log_date_format: Option<String>,
    /// Instances share their log files
    #[arg(long)]
    pub merge_logs: bool,
    /// Run it as this user
    #[arg(long, visible_alias = "uid", value_name = "USER")]
    pub user: Option<String>,
    /// Run it as this group
    #[arg(long, visible_alias = "gid", value_name = "GROUP")]
    pub group: Option<String>,
    /// HOST:PORT or a path of a socket that stead holds for it (fd 3 and on); may be given again
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
}

/// `stead restart`.
#[derive(Debug, Args)]
pub struct RestartArgs {
    #[command(flatten)]
    pub targets: Targets,
    /// Take this shell's environment
    #[arg(long)]
    pub update_env: bool,
}

/// `stead list`.
#[derive(Debug, Args)]
#[command(after_help = "\
restarts  all of them, and in parentheses those that nobody asked for
last end  why the last run ended; `stead why NAME` says more")]
pub struct ListArgs {
    /// For programs: an array, one element per instance
    #[arg(long, short)]
    pub json: bool,
}

/// `stead describe`.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// App, instance, namespace, id, or `all`
    #[arg(value_name = "NAME")]
    pub target: String,
    /// For programs: an array, one element per instance
    #[arg(long, short)]
    pub json: bool,
    /// Show the values of environment variables too
    #[arg(long)]
    pub show_env: bool,
}

/// `stead jlist`.
#[derive(Debug, Args)]
pub struct JlistArgs {
    /// Show the values of environment variables too, as PM2 does
    #[arg(long)]
    pub show_env: bool,
}

/// `stead why`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without NAME: a line for each app that ended and nobody asked for it, the worst first.
What is asked narrows the records and the table of causes; the sums in the first line
always tell of all ends since the last `stead reset`. Parts hold together:

  stead why flask-app --cause oom-kill,exit-code --since 1h
  stead why flask-app --last 20
  stead why flask-app#3             this run alone

docs/causes.md explains each cause.")]
pub struct WhyArgs {
    /// App, instance, namespace, id, `all`, or a run such as flask-app#3
    #[arg(value_name = "NAME")]
    pub target: Option<String>,
    /// For programs: an object; an array where NAME means several apps or is not given
    #[arg(long, short)]
    pub json: bool,
    /// So many of the newest ends in full [default: 1, and five more in a line each; with --json all]
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,
    /// Only what ended since then: a span (30m, 1h, 2d), a date, or a date and time of day
    #[arg(long, value_name = "1h|DATE")]
    pub since: Option<String>,
    /// Only what ended by this cause; several with commas between them
    #[arg(long, value_name = "CAUSE", value_delimiter = ',')]
    pub cause: Vec<String>,
    /// Only this run: flask-app#3, or 3 of NAME
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
}

/// `stead health`.
#[derive(Debug, Args)]
#[command(after_help = "Exit status: 0 ok, 1 warning, 2 critical, 3 unknown.")]
pub struct HealthArgs {
    /// For programs
    #[arg(long, short, conflicts_with = "report")]
    pub json: bool,
    /// The full report as Markdown: tables, causes, trends, the machine, what to do first
    #[arg(long)]
    pub report: bool,
}

/// `stead notify`.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    #[command(subcommand)]
    pub what: NotifyVerb,
}

/// What is done with notifiers.
#[derive(Debug, Subcommand)]
pub enum NotifyVerb {
    /// Send a test by each of `notify`, and say what came of it; 1 if one failed
    Test {
        /// For programs: an array, one element per notifier
        #[arg(long, short)]
        json: bool,
    },
}

/// `stead trend`.
#[derive(Debug, Args)]
#[command(after_help = "\
A FILE has lines of `seconds,bytes`, in any order, with gaps; `-` is standard input.

  stead trend                       every app
  stead trend api
  stead trend memory.csv --cap 300M")]
pub struct TrendArgs {
    /// App, instance, namespace, or id; or a file of readings [default: all apps]
    #[arg(value_name = "NAME|FILE.csv")]
    pub target: Option<String>,
    /// Of a file: tell when it reaches this (300M, 1G)
    #[arg(long, value_name = "SIZE")]
    pub cap: Option<String>,
    /// For programs: an object; an array where NAME means several instances
    #[arg(long, short)]
    pub json: bool,
}

/// `stead logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Apps, instances, namespaces, or ids [default: all]
    #[arg(value_name = "NAME")]
    pub targets: Vec<String>,
    /// Go on showing what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Lines of each app to begin with
    #[arg(long, short = 'n', value_name = "N", default_value_t = 15)]
    pub lines: usize,
    /// Only standard error
    #[arg(long, conflicts_with = "out")]
    pub err: bool,
    /// Only standard output
    #[arg(long)]
    pub out: bool,
    /// The bytes as they are: no names, nothing neutralised
    #[arg(long)]
    pub raw: bool,
    /// PM2's word for what is the default here.
    #[arg(long, hide = true, conflicts_with = "follow")]
    pub nostream: bool,
}

/// `stead flush`.
#[derive(Debug, Args)]
pub struct FlushArgs {
    /// Apps, instances, namespaces, or ids [default: all]
    #[arg(value_name = "NAME")]
    pub targets: Vec<String>,
}

/// `stead save`.
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// Also an empty list
    #[arg(long, short)]
    pub force: bool,
}

/// `stead scale`.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// The app
    #[arg(value_name = "NAME")]
    pub app: String,
    /// How many, or +N more, or -N fewer
    #[arg(value_name = "N", allow_hyphen_values = true)]
    pub count: String,
    #[command(flatten)]
    pub wait: NoWait,
}

/// `stead reset`.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Apps, instances, namespaces, ids, or `all`
    #[arg(required = true, value_name = "NAME")]
    pub targets: Vec<String>,
}

/// `stead signal`.
#[derive(Debug, Args)]
pub struct SignalArgs {
    /// SIGHUP, usr1, 10 …
    pub signal: String,
    /// Apps, instances, namespaces, ids, or `all`
    #[arg(required = true, value_name = "NAME")]
    pub targets: Vec<String>,
}

/// `stead check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file [default: ./ecosystem.yaml]
    pub file: Option<PathBuf>,
    /// With each app's `env_NAME`
    #[arg(long, value_name = "NAME")]
    pub env: Option<String>,
}

/// `stead ping`.
#[derive(Debug, Args)]
pub struct PingArgs {
    /// For programs
    #[arg(long, short)]
    pub json: bool,
}

/// `stead upgrade`.
#[derive(Debug, Args)]
#[command(after_help = "\
The new binary is asked first whether it can read what the running stead holds; where it
cannot, nothing has changed. Apps, their pids, sockets and output are not touched. Where the
new daemon does not come up, the previous stead goes on.")]
pub struct UpgradeArgs {
    /// The new stead [default: the one that you call]
    #[arg(long, value_name = "PATH")]
    pub binary: Option<PathBuf>,
}

/// `stead daemon`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// An ecosystem file to start with
    pub file: Option<PathBuf>,
    /// How stead logs what it does
    #[arg(long, value_enum, default_value_t = LogFormat::Human)]
    pub log_format: LogFormat,
    /// Whether what apps write comes out here too
    #[arg(long, value_enum, default_value_t = AppLogs::Auto)]
    pub app_logs: AppLogs,
}

/// What `stead daemon` copies to its own stdout and stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AppLogs {
    /// As `named`; `off` where it would go to systemd's journal or /dev/null
    Auto,
    /// Each line with the app's name before it
    Named,
    /// Each line as the app wrote it
    Raw,
    /// Log files alone
    Off,
}

impl AppLogs {
    /// As it is typed.
    #[must_use]
    pub fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The opposite of [`AppLogs::word`].
    #[must_use]
    pub fn of(word: &str) -> Option<AppLogs> {
        AppLogs::from_str(word, false).ok()
    }
}

/// The form of stead's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Human,
    Json,
}

/// `stead startup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Writes a unit, stead.service: root's into /etc/systemd/system, a user's own into
~/.config/systemd/user, where it starts at boot by `loginctl enable-linger`.
docs/operations.md tells more.")]
pub struct StartupArgs {
    /// Start it now; a stead that runs already is stopped first, and its apps with it
    #[arg(long, conflicts_with_all = ["print", "root"])]
    pub now: bool,
    /// Only print the unit
    #[arg(long, visible_alias = "dry-run")]
    pub print: bool,
    /// Write over a unit of that name that is not of stead's making
    #[arg(long, short)]
    pub force: bool,
    #[command(flatten)]
    pub place: UnitPlace,
}

/// `stead unstartup`.
#[derive(Debug, Args)]
pub struct UnstartupArgs {
    /// Stop it now, and its apps with it
    #[arg(long, conflicts_with = "root")]
    pub now: bool,
    #[command(flatten)]
    pub place: UnitPlace,
}

/// Where a unit stands.
#[derive(Debug, Args)]
pub struct UnitPlace {
    /// Root's own user manager instead of the system's
    #[arg(long, conflicts_with = "root")]
    pub user: bool,
    /// Write below this folder, the root of an image, and ask no running systemd
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// `stead completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn start(words: &[&str]) -> StartArgs {
        match Cli::parse_from(["stead", "start"].iter().chain(words)).command {
            Command::Start(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_two_dashes_is_the_scripts() {
        let args = start(&["app.py", "--name", "x", "-i", "-1", "--", "--port", "5000"]);
        assert_eq!(args.targets, ["app.py"]);
        assert_eq!(args.args, ["--port", "5000"]);
        assert_eq!((args.script.name.as_deref(), args.script.instances.as_deref()), (Some("x"), Some("-1")));
        assert_eq!(start(&["--only", "a,b"]).only, ["a", "b"]);
    }

    #[test]
    fn words_of_pm2_go_on_working() {
        for words in ["ls", "status", "show x", "del x", "sendSignal HUP x", "logs --nostream", "scale x -1", "save -f"]
        {
            let words = ["stead"].into_iter().chain(words.split(' '));
            assert!(Cli::try_parse_from(words.clone()).is_ok(), "{:?}", words.collect::<Vec<_>>());
        }
    }
}
