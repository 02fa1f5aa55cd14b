//! stead's own log: `$STEAD_HOME/stead.log`, and stderr where the daemon runs in the foreground.

use crate::core::spec::Bytes;
use crate::os::file;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tracing_subscriber::fmt::MakeWriter;

/// Longer than this, the log becomes `stead.log.1` and a new one begins.
const LONGEST: Bytes = Bytes(10 << 20);

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Human,
    Json,
}

/// Begins to log. `foreground`: to stderr as well.
pub fn begin(home: &Path, format: Format, foreground: bool) {
    let writer = Log { file: Mutex::new(Rotating { path: home.join("stead.log"), open: None }), foreground };
    let level = match std::env::var("STEAD_LOG").as_deref() {
        Ok("debug") => tracing::Level::DEBUG,
        Ok("trace") => tracing::Level::TRACE,
        _ => tracing::Level::INFO,
    };
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(writer).with_target(false);
    let set = match format {
        Format::Human => tracing::subscriber::set_global_default(builder.with_ansi(false).finish()),
        Format::Json => tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish()),
    };
    // Only a second call fails; the first one's choice stays.
    let _ = set;
}

struct Log {
    file: Mutex<Rotating>,
    foreground: bool,
}

#[derive(Debug)]
struct Rotating {
    path: PathBuf,
    open: Option<(File, u64)>,
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Log;
    fn make_writer(&'a self) -> &'a Log {
        self
    }
}

impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.foreground {
            let _ = io::stderr().write_all(line);
        }
        // A full disk or a home that is gone must not stop anything.
        if let Ok(mut file) = self.file.lock() {
            let _ = file.write(line);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|(_, size)| *size >= LONGEST.0) {
            // Where it cannot be renamed it goes on.
            if std::fs::rename(&self.path, self.path.with_extension("log.1")).is_ok() {
                self.open = None;
            }
        }
        if self.open.is_none() {
            let file = file::private_append(&self.path)?;
            let size = file.metadata()?.len();
            self.open = Some((file, size));
        }
        let Some((file, size)) = &mut self.open else { return Ok(()) };
        match file.write_all(line) {
            Ok(()) => *size += line.len() as u64,
            // Where its folder was replaced, the next line opens it anew.
            Err(_) => self.open = None,
        }
        Ok(())
    }
}
