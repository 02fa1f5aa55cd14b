//! PM2's own shape of the list, so that scripts written for `pm2 jlist` go on working. Keys and words are those of PM2 7.

use crate::core::spec::{KillMode, Spec};
use crate::core::view::{Description, Status};
use serde_json::{Value, json};

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
        "name": view.name,
        "pm_id": view.id,
        "monit": { "memory": view.memory_bytes.unwrap_or(0), "cpu": view.cpu_percent.unwrap_or(0.0) },
        "pm2_env": environment,
    })
}

/// What is.
fn facts(one: &Description) -> Value {
    let view = &one.view;
    json!({
        "name": view.name,
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

/// What shall be.
fn wishes(one: &Description) -> Value {
    let spec = &one.spec;
    let interpreted = spec.command.first().is_some_and(|program| !program.ends_with(&spec.script));
    json!({
        "exec_mode": "fork_mode",
        "pm_exec_path": spec.cwd.join(&spec.script),
        "pm_cwd": spec.cwd,
        "args": arguments(spec),
        "node_args": [],
        "exec_interpreter": if interpreted { spec.command.first().map_or("none", String::as_str) } else { "none" },
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

/// What stands behind the script in the command line.
fn arguments(spec: &Spec) -> &[String] {
    let command = &spec.command;
    let script = command.iter().position(|word| word.ends_with(&spec.script)).unwrap_or(0);
    command.get(script + 1..).unwrap_or_default()
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Waiting => "waiting restart",
        other => other.word(),
    }
}
