//! Ecosystem files and what becomes of them.

mod accept;
mod programs;
mod refuse;
mod robust;
mod schema;

use super::{Ecosystem, Problems, Surroundings, read, script};
use crate::core::spec::{Identity, Spec};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory with an app or two, its own PATH, and a machine of four CPUs.
struct World {
    dir: tempfile::TempDir,
    uid: u32,
}

const ELF: &[u8] = b"\x7fELF\0";

impl World {
    fn new() -> World {
        let world = World { dir: tempfile::tempdir().unwrap(), uid: 1000 };
        for program in ["python3", "bash", "node", "ruby", "php", "perl", "tool"] {
            world.program(&format!("bin/{program}"), ELF);
        }
        let python = format!("#!{}\n", world.path("bin/python3").display());
        world.program("bin/gunicorn", python.as_bytes());
        world.program(".venv/bin/flask", python.as_bytes());
        world.program("run", b"#!/bin/sh\n");
        world.file("app.py", "print()\n");
        world.file("api/main.py", "print()\n");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn program(&self, name: &str, content: &[u8]) {
        self.file(name, content);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn around<T>(&self, ask: impl FnOnce(&Surroundings<'_>) -> T) -> T {
        let executable = |path: &Path| {
            path.is_file() && fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o111 != 0)
        };
        let user = |name: &str| match name {
            "me" | "1000" => Ok(Identity { user: "me".into(), uid: 1000, gid: 1000, groups: vec![1000, 27] }),
            "www" | "33" => Ok(Identity { user: "www".into(), uid: 33, gid: 33, groups: vec![33] }),
            _ => Err(format!("no user `{name}`")),
        };
        let group = |name: &str| match name {
            "adm" | "4" => Ok(4),
            "me" | "1000" => Ok(1000),
            _ => Err(format!("no group `{name}`")),
        };
        ask(&Surroundings {
            cwd: self.dir.path().to_owned(),
            path: Some(self.path("bin").display().to_string()),
            home_dir: Some(self.path("home").display().to_string()),
            cpus: 4,
            uid: self.uid,
            user: &user,
            group: &group,
            executable: &executable,
        })
    }

    fn read_file(&self, name: &str, env_name: Option<&str>) -> Result<Ecosystem, Problems> {
        self.around(|around| read(Path::new(name), env_name, around))
    }

    fn read(&self, text: &str) -> Result<Ecosystem, Problems> {
        self.file("ecosystem.yaml", text);
        self.read_file("ecosystem.yaml", None)
    }

    fn script(&self, attributes: serde_json::Value) -> Result<Ecosystem, Problems> {
        let attributes = attributes.as_object().unwrap().clone().into_iter().collect();
        self.around(|around| script(attributes, around))
    }

    /// The only app of a file whose app has these lines.
    fn app(&self, lines: &str) -> Spec {
        let found = self.read(&app(lines));
        let Ecosystem { mut specs, warnings, .. } = found.unwrap_or_else(|problems| panic!("{lines}\n{problems}"));
        assert_eq!(warnings, [], "{lines}");
        assert_eq!(specs.len(), 1);
        specs.remove(0)
    }

    /// What is wrong with it, the world's directory being `/srv`.
    fn errors(&self, text: &str) -> String {
        self.told(&self.read(text).expect_err(text).to_string())
    }

    fn warnings(&self, text: &str) -> Vec<String> {
        let read = self.read(text).unwrap_or_else(|problems| panic!("{problems}"));
        read.warnings.iter().map(|problem| self.told(&problem.to_string())).collect()
    }

    fn told(&self, text: &str) -> String {
        text.replace(&self.dir.path().display().to_string(), "/srv")
    }

    fn command(&self, lines: &str) -> Vec<String> {
        self.app(lines).command.iter().map(|word| self.told(word)).collect()
    }
}

/// A file with one app of these lines; `script: app.py` unless they name one.
fn app(lines: &str) -> String {
    let named =
        lines.lines().any(|line| ["script:", "cmd:", "command:", "exec:"].iter().any(|key| line.starts_with(key)));
    let script = if named { "" } else { "    script: app.py\n" };
    let body: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("apps:\n  - name: web\n{script}{body}")
}

/// An app of these lines has this one error, `ecosystem.yaml` before it; they begin in line 4, or 3 where they name a script.
fn check_app(world: &World, cases: &[(&str, &str)]) {
    for (lines, error) in cases {
        assert_eq!(world.errors(&app(lines)), format!("ecosystem.yaml{error}"), "{lines}");
    }
}
