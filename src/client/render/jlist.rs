//! PM2's own shape of the list, so that scripts written for `pm2 jlist` go on working. Keys and words are those of PM2 7.

use crate::core::spec::KillMode;
use crate::core::view::{Description, Status};
use serde_json::{Value, json};
use std::path::Path;

/// The array that `pm2 jlist` prints.
#[must_use]
pub fn array(descriptions: &[Description]) -> Value {
    descriptions.iter().map(element).collect()
}

fn element(one: &Description) -> Value {
    let view = &one.view;
    let mut environment = facts(one);
    if let (Value::Object(all), Value::Object(more)) = (&mut environment, wishes(one)) {
        all.extend(more);
    }
    json!({
        "pid": view.pid.unwrap_or(0),
        "name": view.app,
        "pm_id": view.id,
        "monit": { "memory": view.memory_bytes.unwrap_or(0), "cpu": view.cpu_percent.unwrap_or(0.0) },
        "pm2_env": environment,
    })
}

/// What is.
fn facts(one: &Description) -> Value {
    let view = &one.view;
    json!({
        "name": view.app,
        "namespace": view.namespace,
        "pm_id": view.id,
        "status": status(view.status),
        "restart_time": view.restarts,
        "unstable_restarts": view.restarts_unplanned,
        "pm_uptime": one.started_at.map_or(0, |at| at.0),
        "created_at": one.created_at.0,
        "exit_code": view.last_exit.as_ref().and_then(|record| record.exit_code),
        "pm_out_log_path": one.out_file,
        "pm_err_log_path": one.error_file,
        "pm_log_path": one.log_file,
        "prev_restart_delay": 0,
        "version": "N/A",
        "axm_actions": [],
        "axm_monitor": {},
        "axm_options": {},
        "axm_dynamic": {},
    })
}

/// What shall be. PM2 tells the script from what stands before it (the interpreter) and behind it.
fn wishes(one: &Description) -> Value {
    let spec = &one.spec;
    let name = Path::new(&spec.script).file_name();
    // A command of several words goes to a shell, which PM2 takes for the script.
    let is_script = |word: &String| !spec.script.contains(' ') && Path::new(word).file_name() == name;
    let at = spec.command.iter().position(is_script).unwrap_or(0);
    let (before, script) = spec.command.split_at(at);
    json!({
        "exec_mode": "fork_mode",
        "pm_exec_path": script.first(),
        "pm_cwd": spec.cwd,
        "args": script.get(1..),
        "node_args": before.get(1..).unwrap_or_default(),
        "exec_interpreter": before.first().map_or("none", String::as_str),
        "pm_pid_path": spec.pid_file,
        "instances": spec.instances.unwrap_or(1),
        "autostart": spec.autostart,
        "autorestart": spec.policy.autorestart,
        "watch": false,
        "username": spec.identity.as_ref().map(|identity| &identity.user),
        "max_memory_restart": spec.max_memory_restart,
        "restart_delay": spec.policy.restart_delay,
        "min_uptime": spec.policy.min_uptime,
        "max_restarts": spec.policy.max_restarts,
        "kill_timeout": spec.stop.kill_timeout,
        "treekill": spec.stop.kill_mode != KillMode::Main,
        "merge_logs": spec.logs.merge,
        "env": spec.env,
    })
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Waiting => "waiting restart",
        other => other.word(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::describe::tests::description;
    use super::*;

    fn command(script: &str, command: &[&str]) -> Value {
        let mut one = description("web");
        one.spec.script = script.into();
        one.spec.command = command.iter().map(|word| (*word).to_owned()).collect();
        array(&[one])[0]["pm2_env"].take()
    }

    #[test]
    fn scripts_written_for_pm2_find_their_keys() {
        let all = array(&[description("web")]);
        assert_eq!(all[0]["name"], "web");
        assert_eq!(all[0]["pm_id"], 0);
        assert_eq!(all[0]["monit"]["memory"], 84 << 20);
        assert_eq!(all[0]["pm2_env"]["status"], "online");
        assert_eq!(all[0]["pm2_env"]["restart_time"], 0);
        let mut waiting = description("web");
        waiting.view.status = Status::Waiting;
        waiting.view.pid = None;
        let all = array(&[waiting]);
        assert_eq!((&all[0]["pm2_env"]["status"], &all[0]["pid"]), (&json!("waiting restart"), &json!(0)));
    }

    #[test]
    fn the_script_is_told_from_its_interpreter_and_arguments() {
        let env = command("./app.py", &["/usr/bin/python3", "-X", "dev", "/srv/app.py", "--port", "1"]);
        assert_eq!(env["pm_exec_path"], "/srv/app.py");
        assert_eq!(env["exec_interpreter"], "/usr/bin/python3");
        assert_eq!((&env["node_args"], &env["args"]), (&json!(["-X", "dev"]), &json!(["--port", "1"])));
        let env = command("gunicorn", &["/usr/bin/gunicorn", "app:app"]);
        assert_eq!((&env["exec_interpreter"], &env["args"]), (&json!("none"), &json!(["app:app"])));
        let env = command("echo hi", &["/usr/bin/bash", "-c", "echo hi"]);
        assert_eq!((&env["pm_exec_path"], &env["args"]), (&json!("/usr/bin/bash"), &json!(["-c", "echo hi"])));
    }
}
