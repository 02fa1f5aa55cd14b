//! `stead why`: what ended the runs of an app, or of all.

use super::{print_json, usage};
use crate::client::cli::WhyArgs;
use crate::client::render::why::{EARLIER, asked, overview, page};
use crate::client::render::{moment, screen};
use crate::client::{Context, Outcome};
use crate::core::clock::Wall;
use crate::core::command::Refusal;
use crate::core::record::Cause;
use crate::core::view::WhyView;
use crate::core::why::Filter;
use crate::os::clock;

/// Ends that are told in full where nothing else is said.
const NEWEST: usize = 1;

pub async fn run(context: &Context, args: &WhyArgs) -> Outcome {
    let now = clock::now().wall;
    let (target, filter) = question(args, now)?;
    let fetched = match (args.last, args.json) {
        (Some(last), _) => Some(last),
        (None, true) => None,
        // A run has one end.
        (None, false) => Some(NEWEST + EARLIER),
    };
    let causes: Vec<&str> = filter.causes.iter().map(|cause| cause.word()).collect();
    let causes = (!causes.is_empty()).then(|| causes.join(","));
    let since = filter.since.map(|since| since.0.to_string());
    let last = fetched.map(|last| last.to_string());
    let mut query = vec![("target", target.as_deref().unwrap_or("all"))];
    query.extend(last.as_deref().map(|last| ("last", last)));
    query.extend(causes.as_deref().map(|causes| ("cause", causes)));
    query.extend(since.as_deref().map(|since| ("since", since)));
    query.extend(filter.run.as_deref().map(|run| ("run", run)));
    let mut views: Vec<WhyView> = context.about("/v1/why", &query).await?;
    if target.is_none() {
        let known = views.len();
        views.retain(|view| asked::unplanned(view, &filter) > 0);
        views.sort_by_key(|view| std::cmp::Reverse((asked::unplanned(view, &filter), asked::last(view))));
        if args.json {
            return print_json(&context.screen, &views);
        }
        screen::print(&overview(&context.screen, now, &filter, &views, known))?;
        return Ok(0);
    }
    if args.json {
        return match views.as_slice() {
            [one] => print_json(&context.screen, one),
            all => print_json(&context.screen, &all),
        };
    }
    let full = args.last.unwrap_or(NEWEST);
    let pages: Vec<String> = views.iter().map(|view| page(&context.screen, now, &filter, full, view)).collect();
    screen::print(&pages.join("\n"))?;
    Ok(0)
}

/// What is asked: of whom, and which ends.
fn question(args: &WhyArgs, now: Wall) -> Result<(Option<String>, Filter), Refusal> {
    let causes = args.cause.iter().map(|word| cause(word)).collect::<Result<_, _>>()?;
    let since = args.since.as_deref().map(|text| since(text, now)).transpose()?;
    let mut filter = Filter { causes, since, run: None };
    let of_target = args.target.as_deref().and_then(|target| Some((target, instance_of(target)?)));
    let mut target = args.target.clone();
    match (&args.run, of_target) {
        (Some(run), of_target) => {
            let bare = run.trim_start_matches('#');
            let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
            let instance = instance_of(run).filter(|name| !name.is_empty());
            if let Some((run, _)) = of_target {
                return Err(usage(format!("`{run}` is a run already, and --run names another"))
                    .hint("name the app, or leave out --run"));
            }
            if instance.is_none() && !is_number {
                return Err(usage(format!("`{run}` is no run"))
                    .hint("a run is written NAME#NUMBER, as `stead why NAME` shows it"));
            }
            if is_number && target.is_none() {
                return Err(usage(format!("run {bare} of which app?")).hint(format!("`stead why NAME --run {bare}`")));
            }
            target = target.or_else(|| instance.map(str::to_owned));
            filter.run = Some(run.clone());
        }
        (None, Some((run, instance))) => {
            filter.run = Some(run.to_owned());
            target = Some(instance.to_owned());
        }
        (None, None) => {}
    }
    Ok((target, filter))
}

/// The instance of a run that is written `flask-app#3`.
fn instance_of(run: &str) -> Option<&str> {
    let (instance, number) = run.rsplit_once('#')?;
    number.parse::<u64>().is_ok().then_some(instance)
}

fn cause(word: &str) -> Result<Cause, Refusal> {
    Cause::parse(word).map_err(|near| {
        let hint = near.map_or_else(
            || format!("causes are {}", Cause::ALL.map(Cause::word).join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        usage(format!("unknown cause `{word}`")).hint(hint)
    })
}

fn since(text: &str, now: Wall) -> Result<Wall, Refusal> {
    let at = moment::parse(text, now).ok_or_else(|| {
        usage(format!("`{text}` is no time"))
            .hint("a span such as `30m`, `1h` or `2d`, `2026-11-23`, `2026-11-23 20:30`, or `20:30`")
    })?;
    if at > now {
        return Err(usage(format!("`{text}` is still to come")));
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall(1_795_465_809_123);

    fn args(target: Option<&str>) -> WhyArgs {
        let target = target.map(str::to_owned);
        WhyArgs { target, json: false, last: None, since: None, cause: Vec::new(), run: None }
    }

    fn of_run(target: Option<&str>, run: &str) -> Result<(Option<String>, Filter), Refusal> {
        question(&WhyArgs { run: Some(run.to_owned()), ..args(target) }, NOW)
    }

    fn by_cause(word: &str) -> Result<(Option<String>, Filter), Refusal> {
        question(&WhyArgs { cause: vec![word.to_owned()], ..args(Some("web")) }, NOW)
    }

    fn from(text: &str) -> Result<(Option<String>, Filter), Refusal> {
        question(&WhyArgs { since: Some(text.to_owned()), ..args(Some("web")) }, NOW)
    }

    #[test]
    fn a_run_names_its_instance_too() {
        let ways = [question(&args(Some("web-1#3")), NOW), of_run(None, "web-1#3"), of_run(Some("web-1"), "web-1#3")];
        for way in ways {
            let (target, filter) = way.unwrap();
            assert_eq!((target.as_deref(), filter.run.as_deref()), (Some("web-1"), Some("web-1#3")));
        }
        assert_eq!(of_run(Some("web"), "3").unwrap().1.run.as_deref(), Some("3"));
        assert_eq!(question(&args(Some("a#b")), NOW).unwrap(), (Some("a#b".into()), Filter::default()));
    }

    #[test]
    fn parts_are_put_together() {
        assert_eq!(by_cause("EXIT_CODE").unwrap().1.causes, [Cause::ExitCode]);
        assert_eq!(from("1h").unwrap().1.since, Some(Wall(NOW.0 - 3_600_000)));
    }

    #[test]
    fn what_is_no_question_is_refused_with_a_hint() {
        for (refused, error, hint) in [
            (by_cause("oomkill"), "unknown cause `oomkill`", "did you mean `oom-kill`?"),
            (by_cause("zzz"), "unknown cause `zzz`", "causes are success, exit-code"),
            (from("yesterday-ish"), "`yesterday-ish` is no time", "a span such as `30m`"),
            (from("2999-01-01"), "`2999-01-01` is still to come", ""),
            (of_run(Some("web"), "web"), "`web` is no run", "a run is written NAME#NUMBER"),
            (of_run(Some("web"), "#"), "`#` is no run", "a run is written"),
            (of_run(None, "3"), "run 3 of which app?", "`stead why NAME --run 3`"),
            (of_run(Some("web#3"), "web#4"), "`web#3` is a run already", "name the app"),
        ] {
            let refusal = refused.unwrap_err();
            assert!(refusal.error.starts_with(error), "{refusal:?}");
            assert!(refusal.hint.unwrap_or_default().starts_with(hint), "{error}");
        }
    }
}
