//! `stead kill`: ends all apps, then stead itself.

use crate::client::cli::NoWait;
use crate::client::connect::Daemon;
use crate::client::render::screen;
use crate::client::{Context, Outcome};
use crate::core::command::{Command, Refusal};
use crate::os::process;
use std::os::fd::AsFd;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// From the last word of the daemon to the end of the keeper.
const LAST_STEPS: Duration = Duration::from_secs(10);

pub async fn run(context: &Context, wait: NoWait) -> Outcome {
    let daemon = Daemon { home: context.daemon.home.clone(), starts: false };
    let keeper = daemon.home.holder().and_then(|pid| process::pidfd_open(pid).ok()).filter(|_| daemon.home.is_held());
    let ended = match daemon.get("/v1/ping").await {
        Err(_) if !daemon.home.is_held() => {
            screen::print("stead is not running\n")?;
            return Ok(0);
        }
        Err(refusal) => return Err(refusal),
        Ok(_) if wait.no_wait => {
            let asking = daemon.command(Command::Kill, false);
            // Its answer comes when all has ended; that the daemon has the question is enough.
            timeout(Duration::from_millis(200), asking).await.map_or(Ok(()), |reply| reply.map(|_| ()))
        }
        Ok(_) => daemon.command(Command::Kill, true).await.map(|_| ()),
    };
    if wait.no_wait {
        ended?;
        screen::print("stead is ending\n")?;
        return Ok(0);
    }
    let gone = async {
        while daemon.home.is_held() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // Where the daemon ended before its answer had left, that the keeper is gone says it all.
    if timeout(LAST_STEPS, gone).await.is_err() {
        ended?;
        let who = daemon.home.holder().map_or("its keeper".to_owned(), |pid| format!("its keeper (pid {pid})"));
        return Err(Refusal::failed(format!("all apps have ended, but {who} is still there"))
            .hint(format!("{} may say why", daemon.home.path.join("stead.log").display())));
    }
    // It lets go of its home a moment before it is gone.
    if let Some(keeper) = keeper {
        process::wait_ended(&[keeper.as_fd()], LAST_STEPS);
    }
    screen::print("all apps are stopped, and stead has ended\n")?;
    Ok(0)
}
