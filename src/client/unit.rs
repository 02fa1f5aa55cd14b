//! The text of stead's systemd unit.

use crate::core::clock::Millis;
use crate::os::systemd::Scope;
use std::fmt::Write;
use std::path::Path;

/// The name of it, one per systemd.
pub const NAME: &str = "stead.service";

/// By its first words `startup` knows a unit as its own.
pub const OURS: &str = "# Written by `stead startup`";

/// systemd's own default. What is shorter brings nothing: stead ends by itself when all apps have.
const SHORTEST_STOP: Millis = Millis(90_000);

/// For what comes after the last SIGKILL: pipes are drained, records are written.
const LAST_STEPS: Millis = Millis(15_000);

/// What a unit says.
#[derive(Clone, Copy, Debug)]
pub struct Unit<'a> {
    pub scope: Scope,
    pub binary: &'a Path,
    /// `None`: stead's default.
    pub home: Option<&'a Path>,
    /// The longest that all apps may take to stop.
    pub stop: Millis,
}

impl Unit<'_> {
    /// `TimeoutStopSec`: stead keeps each app's `kill_timeout` itself, so this is for a stead that hangs.
    #[must_use]
    pub fn stop_seconds(&self) -> u64 {
        self.stop.0.saturating_add(LAST_STEPS.0).max(SHORTEST_STOP.0).div_ceil(1000)
    }

    /// The unit, below a first line or more that say where it comes from.
    #[must_use]
    pub fn text(&self, head: &str) -> String {
        let binary = quoted(&self.binary.to_string_lossy());
        let mut text = format!("{head}\n[Unit]\nDescription=stead, which starts apps and keeps them up\n");
        if self.scope == Scope::System {
            text.push_str("Wants=network-online.target\nAfter=network-online.target\n");
        }
        text.push_str("# It is never given up.\nStartLimitIntervalSec=0\n\n[Service]\n");
        text.push_str(
            "# Ready when stead answers, alive while its daemon is.\nType=notify\nNotifyAccess=main\nWatchdogSec=120\n",
        );
        let _ = writeln!(text, "ExecStart={binary} daemon\nExecReload={binary} upgrade");
        if let Some(home) = self.home {
            let _ = writeln!(text, "Environment={}", quoted(&format!("STEAD_HOME={}", home.display())));
        }
        text.push_str(
            "# `stead kill` and SIGTERM end it with 0, and it stays down.\nRestart=on-failure\nRestartSec=2\n",
        );
        text.push_str("# stead alone is told to end, and stops each app as its kill_signal and kill_timeout say.\nKillMode=mixed\n");
        let _ = writeln!(
            text,
            "# Above twice the longest kill_timeout (of apps that depend on each other: their sum).\nTimeoutStopSec={}",
            self.stop_seconds()
        );
        text.push_str("# stead makes a group for each run, and caps its memory there.\nDelegate=yes\n");
        text.push_str("# An app that the kernel kills for its memory is stead's to restart.\nOOMPolicy=continue\n");
        text.push_str("# All apps count as tasks of this unit.\nTasksMax=infinity\n");
        let wanted_by = match self.scope {
            Scope::System => "multi-user.target",
            Scope::User => "default.target",
        };
        let _ = write!(text, "\n[Install]\nWantedBy={wanted_by}\n");
        text
    }
}

/// The home that a unit of ours names.
#[must_use]
pub fn home_in(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("Environment="))?;
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let mut plain = String::new();
    let mut letters = inner.chars().peekable();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => letters.next().unwrap_or('\\'),
            '%' if letters.peek() == Some(&'%') => letters.next().unwrap_or('%'),
            other => other,
        });
    }
    plain.strip_prefix("STEAD_HOME=").map(str::to_owned)
}

/// One word of a unit (systemd.syntax(7)): `%` begins a specifier.
fn quoted(word: &str) -> String {
    let doubled = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=,:@%".contains(letter);
    if doubled.chars().all(is_plain) { doubled } else { format!("\"{doubled}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKAGED: &str = "\
# For a package. `stead startup` writes one that fits the machine: the binary's place, the home, the apps' time to stop.
";

    fn unit(scope: Scope) -> Unit<'static> {
        let home = (scope == Scope::System).then_some(Path::new("/var/lib/stead"));
        // Nobody knows the apps yet: a kill_timeout of two minutes is safe.
        Unit { scope, binary: Path::new("/usr/bin/stead"), home, stop: Millis(285_000) }
    }

    #[test]
    fn the_units_of_contrib_are_what_startup_writes() {
        for (file, scope) in [("stead.service", Scope::System), ("user/stead.service", Scope::User)] {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd").join(file);
            let text = unit(scope).text(PACKAGED);
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &text).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "UPDATE=1 writes {}", path.display());
        }
    }

    #[test]
    fn the_time_to_stop_is_systemds_own_where_apps_take_less() {
        for (stop, seconds) in [(0, 90), (3_200, 90), (75_000, 90), (75_001, 91), (600_000, 615)] {
            assert_eq!(Unit { stop: Millis(stop), ..unit(Scope::User) }.stop_seconds(), seconds);
        }
    }

    #[test]
    fn paths_of_any_letters_are_quoted_and_read_back() {
        for home in ["/var/lib/stead", "/srv/my apps/100%", "/a\"b\\c", "/é"] {
            let text = Unit { home: Some(Path::new(home)), ..unit(Scope::System) }.text(OURS);
            assert_eq!(home_in(&text).as_deref(), Some(home), "{text}");
        }
        assert_eq!(quoted("/usr/bin/stead"), "/usr/bin/stead");
        assert_eq!(quoted("/my apps/50%"), "\"/my apps/50%%\"");
        assert_eq!(home_in("[Service]\nExecStart=/bin/true\n"), None);
    }
}
