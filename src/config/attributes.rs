//! Every attribute of an app, by PM2's names.

/// What is known of an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: &'static str,
    /// PM2's other names. The camelCase form of every name is accepted too.
    pub aliases: &'static [&'static str],
    /// What holds where it is not given, in words.
    pub default: &'static str,
    /// One line.
    pub meaning: &'static str,
    pub standing: Standing,
}

/// What stead does with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Used,
    /// Not supported yet: where it turns something on there is a warning.
    Later,
    /// PM2's own affair: a warning, whatever the value.
    Foreign,
}

use Standing::{Foreign, Later, Used};

const fn attribute(
    name: &'static str,
    aliases: &'static [&'static str],
    default: &'static str,
    standing: Standing,
    meaning: &'static str,
) -> Attribute {
    Attribute { name, aliases, default, meaning, standing }
}

/// All of them, in the order of a manual.
#[rustfmt::skip]
pub const ATTRIBUTES: &[Attribute] = &[
    attribute("name", &[], "the script's file name without its extension", Used, "the app's name"),
    attribute("name_prefix", &[], "none", Used, "text that is put before the name"),
    attribute("append_env_to_name", &[], "false", Used, "with `--env NAME`, put `-NAME` behind the name"),
    attribute("namespace", &[], "default", Used, "a word by which several apps are addressed together"),
    attribute("script", &["cmd", "command", "exec"], "required", Used,
        "the program: a file relative to `cwd`, a name in PATH, or (with a blank in it) a line for `bash -c`"),
    attribute("args", &[], "none", Used, "arguments of the script: a list, or one text that is split as a shell splits it"),
    attribute("interpreter", &["exec_interpreter"], "by the script's extension (.py .sh .rb .php .pl .js .ts), else none", Used,
        "the program that runs the script: a name in PATH, a path relative to `cwd` or to the file, or `none`"),
    attribute("interpreter_args", &["node_args"], "none", Used, "arguments of the interpreter, before the script"),
    attribute("cwd", &[], "the directory of the file", Used, "the working directory, relative to the file"),
    attribute("env", &[], "none", Used, "environment variables; null takes away what `env_file` sets"),
    attribute("env_file", &[], "none", Used, "a file of KEY=VALUE lines, or a list of such files; `env` goes before it"),
    attribute("instances", &[], "one instance, with the app's own name", Used,
        "how many run: a number, `max` or 0 for one per CPU, -1 for one less than that"),
    attribute("instance_var", &[], "NODE_APP_INSTANCE", Used, "the variable that holds the instance's number"),
    attribute("exec_mode", &[], "fork", Used, "`fork` or `fork_mode`; PM2's cluster is refused"),
    attribute("listen", &[], "none", Used,
        "sockets that stead holds for the app, passed from fd 3 on: `HOST:PORT`, `:PORT` (all IPv4 addresses) or a path"),
    attribute("autostart", &[], "true", Used, "start it with the file"),
    attribute("autorestart", &[], "true", Used, "start it again when it ends"),
    attribute("restart_delay", &[], "0", Used, "time between an end and the next start"),
    attribute("exp_backoff_restart_delay", &[], "none", Used,
        "the first delay; each next one is half as long again, up to 15 s; 30 s of life begin anew"),
    attribute("min_uptime", &[], "1s", Used, "an end before this counts as a crash"),
    attribute("max_restarts", &[], "16", Used, "so many crashes in a row and it is given up"),
    attribute("stop_exit_codes", &[], "none", Used, "exit codes after which it is not started again"),
    attribute("max_memory_restart", &[], "none", Used, "the cap of the whole process tree: it is restarted above; `300M`, a number is bytes"),
    attribute("kill_signal", &[], "SIGINT", Used, "the signal that asks it to stop"),
    attribute("kill_timeout", &[], "1600", Used, "time from that signal to SIGKILL"),
    attribute("kill_mode", &[], "tree", Used,
        "`tree`: both signals to all its processes; `mixed`: the first to the main process only; `main`: both to it only"),
    attribute("treekill", &[], "true", Used, "false is `kill_mode: main`"),
    attribute("reload_signal", &[], "SIGTERM", Used,
        "with `listen`: the signal to the old run's main process once the new run of a reload has taken over"),
    attribute("reload_timeout", &[], "30s", Used, "how long that run may take to end; then it is stopped as by `kill_signal`"),
    attribute("user", &["uid"], "the user who runs stead", Used, "the user to run as, by name or number"),
    attribute("group", &["gid"], "the user's", Used, "the group to run as, by name or number"),
    attribute("umask", &[], "stead's", Used, "file mode mask, in octal digits"),
    attribute("nice", &[], "stead's", Used, "-20 to 19"),
    attribute("limits", &[], "stead's", Used,
        "resource limits, `nofile: 65536`: a number, `unlimited` or `{soft, hard}`"),
    attribute("out_file", &["out", "output", "out_log"], "$STEAD_HOME/logs/NAME.out.log", Used, "where standard output goes"),
    attribute("error_file", &["error", "err", "err_file", "err_log"], "$STEAD_HOME/logs/NAME.err.log", Used,
        "where standard error goes"),
    attribute("log_file", &["log"], "none", Used, "a file that gets both as well"),
    attribute("merge_logs", &["combine_logs"], "false", Used, "all instances write to one file"),
    attribute("disable_logs", &[], "false", Used, "write no logs"),
    attribute("time", &[], "false", Used, "put the time before each line"),
    attribute("log_date_format", &[], "none", Used, "the form of that time: `YYYY-MM-DD HH:mm:ss` as in PM2, or a strftime format"),
    attribute("log_max_size", &[], "50M", Used, "a log that grows above is rotated; 0 or false: never"),
    attribute("log_keep", &[], "5", Used, "how many rotated logs are kept"),
    attribute("log_max_age", &[], "none", Used, "rotated logs that were last written to longer ago are removed: `14d`"),
    attribute("pid_file", &["pid"], "none", Used, "a file that holds the pid of the main process"),

    attribute("watch", &[], "false", Used,
        "restart it when files change: `true` for all of `cwd`, or a list of folders and files, relative to `cwd`"),
    attribute("ignore_watch", &[], "none beside what is never watched", Used,
        "patterns of what is not watched, as in a .gitignore; `!` takes back"),
    attribute("watch_delay", &[], "200", Used, "how long nothing may change before the restart"),
    attribute("cron_restart", &["cron"], "none", Used, "times at which it is restarted; a job without autorestart runs then"),
    attribute("wait_ready", &[], "false", Used,
        "online when the app says so: `READY=1` to `$NOTIFY_SOCKET`, as sd_notify(3) and systemd-notify(1) do"),
    attribute("listen_timeout", &[], "3s", Used,
        "how long `wait_ready` waits; then the run is stopped, cause `start-timeout`"),
    attribute("health_check", &[], "none", Used,
        "`http: URL`, `tcp: HOST:PORT` or `command: LINE`, with `interval` (30s), `timeout` (30s), `retries` (3), `start_period` (0): online when well, restarted after so many failures in a row"),
    attribute("depends_on", &[], "none", Used,
        "apps that must be there before it starts, and that stop after it: `[db]`, or `{db: started | healthy | done}`"),
    attribute("restart_on", &[], "none", Used, "never, always or backoff after some causes or exit codes"),
    attribute("jitter", &[], "none", Used, "up to so much more before each restart, by chance"),
    attribute("memory_max", &[], "1.25 times max_memory_restart", Used, "the hard limit of the process tree"),
    attribute("memory_swap_max", &[], "0 where capped", Used, "swap of the process tree"),
    attribute("memory_warn", &[], "none", Used, "memory above this is a warning of `stead health`"),
    attribute("oom_policy", &[], "kill", Used, "whether one process that the kernel kills ends the app"),
    attribute("oom_score_adj", &[], "0", Used, "how readily the kernel kills it"),
    attribute("cpu_max", &[], "none", Used, "the share of CPU time"),
    attribute("pids_max", &[], "none", Used, "how many processes"),
    attribute("journal_keep", &[], "1000", Used, "how many exit records are kept for `stead why`; its counts are never lost"),
    attribute("log_type", &[], "raw", Later, "PM2's logs in JSON"),
    attribute("no_new_privileges", &[], "false", Used, "no setuid program that it runs gives it more rights than it has"),
    attribute("health", &[], "the file's `health`", Used,
        "rules of `stead health`: `restarts` (50), `restarts_per_hour` (6), `memory_warn`; beside `apps` also `memory`, `swap`, `disk`, `data`"),
    attribute("notify", &[], "true", Used,
        "false: nobody is told of it; beside `apps` the list of those who are: `command` or `webhook`, `on`, `timeout`"),
    attribute("filter_env", &[], "false", Later, "keep variables of the shell from the app"),
    attribute("increment_var", &[], "none", Later, "a variable that is one more in each instance"),

    attribute("automation", &[], "", Foreign, "PM2's agent"),
    attribute("deep_monitoring", &[], "", Foreign, "PM2's agent"),
    attribute("disable_source_map_support", &[], "", Foreign, "Node.js"),
    attribute("event_loop_inspector", &[], "", Foreign, "PM2's agent"),
    attribute("execute_command", &[], "", Foreign, "PM2's command line"),
    attribute("force", &[], "", Foreign, "PM2's command line"),
    attribute("install_url", &[], "", Foreign, "PM2's modules"),
    attribute("instance_id", &[], "", Foreign, "PM2's agent"),
    attribute("io", &[], "", Foreign, "PM2's agent"),
    attribute("kill_retry_time", &[], "", Foreign, "how often PM2 looks whether a process is gone"),
    attribute("pmx", &[], "", Foreign, "PM2's agent"),
    attribute("port", &[], "", Foreign, "PM2's static server"),
    attribute("post_update", &[], "", Foreign, "PM2's pull"),
    attribute("shutdown_with_message", &[], "", Foreign, "Node.js IPC"),
    attribute("source_map_support", &[], "", Foreign, "Node.js"),
    attribute("trace", &[], "", Foreign, "PM2's agent"),
    attribute("username", &[], "", Foreign, "PM2's own"),
    attribute("v8", &[], "", Foreign, "Node.js"),
    attribute("vizion", &[], "", Foreign, "PM2's look at git"),
    attribute("watch_options", &[], "", Foreign, "options of PM2's watcher"),
    attribute("windowsHide", &[], "", Foreign, "Windows"),
    attribute("write", &[], "", Foreign, "PM2's command line"),
];

/// What people write who come from elsewhere, and what they mean.
const ELSEWHERE: &[(&str, &str)] = &[
    ("max_size", "log_max_size"),
    ("max_memory", "max_memory_restart"),
    ("memory_limit", "max_memory_restart"),
    ("retain", "log_keep"),
    ("working_directory", "cwd"),
    ("directory", "cwd"),
    ("environment", "env"),
    ("restart", "autorestart"),
    ("workers", "instances"),
    ("numprocs", "instances"),
    ("replicas", "instances"),
    ("stopsignal", "kill_signal"),
    ("stop_signal", "kill_signal"),
    ("stop_timeout", "kill_timeout"),
    ("stopwaitsecs", "kill_timeout"),
    ("stdout_logfile", "out_file"),
    ("stderr_logfile", "error_file"),
    ("healthcheck", "health_check"),
];

/// For a file in which PM2, which runs it as JavaScript, sees a comment.
pub(super) const COMMENT: &str = "a comment begins with `#`";

pub(super) fn is_comment(key: &str) -> bool {
    key.starts_with("//") || key.starts_with("/*")
}

/// The attribute of that name or alias, in snake_case or camelCase.
#[must_use]
pub fn find(key: &str) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|attribute| names(attribute).any(|name| snake(name).eq(snake(key))))
}

/// The known name that is most like `key`.
#[must_use]
pub fn nearest(key: &str) -> Option<&'static str> {
    let key = snake(key).take(40).collect::<String>().replace('-', "_");
    let words = ELSEWHERE.iter().map(|(word, _)| *word);
    let near = like(&key, ATTRIBUTES.iter().flat_map(names).chain(words))?;
    Some(ELSEWHERE.iter().find(|(word, _)| *word == near).map_or(near, |(_, meant)| meant))
}

/// The one of `known` that is most like `word`, if it is like it at all.
pub(super) fn like<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(word, name);
    let scored = known.into_iter().map(|name| (likeness(name), name));
    scored.filter(|(score, _)| *score >= 0.6).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

fn names(attribute: &'static Attribute) -> impl Iterator<Item = &'static str> {
    std::iter::once(attribute.name).chain(attribute.aliases.iter().copied())
}

/// `killTimeout` is `kill_timeout`.
fn snake(key: &str) -> impl Iterator<Item = char> + '_ {
    key.chars().enumerate().flat_map(|(index, c)| {
        let underscore = (c.is_ascii_uppercase() && index > 0).then_some('_');
        underscore.into_iter().chain([c.to_ascii_lowercase()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_and_means_one_thing() {
        let all: Vec<&str> = ATTRIBUTES.iter().flat_map(names).collect();
        for (index, name) in all.iter().enumerate() {
            assert!(!all[..index].contains(name), "{name} twice");
            assert!(names(find(name).unwrap()).any(|known| known == *name));
        }
        for (camel, name) in [
            ("maxMemoryRestart", "max_memory_restart"),
            ("interpreterArgs", "interpreter_args"),
            ("errFile", "error_file"),
            ("windows_hide", "windowsHide"),
        ] {
            assert_eq!(find(camel).unwrap().name, name);
        }
        assert_eq!(find("Name").unwrap().name, "name");
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_word() {
        for (slip, meant) in [
            ("max_memory_restat", Some("max_memory_restart")),
            ("max-memory-restart", Some("max_memory_restart")),
            ("scirpt", Some("script")),
            ("enviroment", Some("env")),
            ("retain", Some("log_keep")),
            ("autoRestart_", Some("autorestart")),
            ("interpeter", Some("interpreter")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(slip), meant, "{slip}");
        }
        assert_eq!(nearest(&"x".repeat(1_000_000)), None);
    }
}
