//! `stead trend`: whether memory leaks, by the history of an app or by a file of readings.

use super::{print_json, usage};
use crate::client::cli::TrendArgs;
use crate::client::home::reason;
use crate::client::render::{screen, trend as lines};
use crate::client::{Context, Outcome};
use crate::config::size_of;
use crate::core::command::Refusal;
use crate::core::trend::{Reading, judge};
use crate::core::view::TrendView;
use crate::os::clock;
use std::io::Read;
use std::path::Path;

/// A longer line is no reading.
const LONGEST_LINE: usize = 200;

pub async fn run(context: &Context, args: &TrendArgs) -> Outcome {
    let file = args.target.as_deref().filter(|target| *target == "-" || target.ends_with(".csv"));
    let views: Vec<TrendView> = match (file, &args.target) {
        (Some(file), _) => {
            let cap = args.cap.as_deref().map(size_of).transpose().map_err(|error| usage(format!("--cap: {error}")))?;
            let cap = cap.map(|cap| cap.0);
            vec![TrendView::new(None, &judge(&readings(file)?, cap), cap)]
        }
        (None, _) if args.cap.is_some() => {
            let error = "--cap is for a file; an app's cap is its max_memory_restart";
            return Err(usage(error).hint("a file of readings ends in .csv, or is `-`"));
        }
        (None, Some(target)) => context.about("/v1/trend", &[("target", target)]).await?,
        (None, None) => context.about("/v1/trend", &[]).await?,
    };
    if args.json {
        return match (views.as_slice(), &args.target) {
            ([one], Some(_)) => print_json(&context.screen, one),
            (all, _) => print_json(&context.screen, &all),
        };
    }
    screen::print(&lines::page(&context.screen, clock::now().wall, &views))?;
    Ok(0)
}

/// # Errors
/// A file that cannot be read, and the first line that is no reading.
fn readings(file: &str) -> Result<Vec<Reading>, Refusal> {
    let mut text = Vec::new();
    let read = if file == "-" {
        std::io::stdin().lock().read_to_end(&mut text)
    } else {
        std::fs::File::open(Path::new(file)).and_then(|mut open| open.read_to_end(&mut text))
    };
    read.map_err(|error| Refusal::failed(format!("could not read {file}: {}", reason(&error))))?;
    parse(&text).map_err(|(line, text)| {
        usage(format!("{file}:{line}: `{text}` is no reading"))
            .hint("a line is `seconds,bytes`, for example `60,104857600`")
    })
}

/// The readings, or the number and the text of the first line that is none. The first line may be a heading.
fn parse(text: &[u8]) -> Result<Vec<Reading>, (usize, String)> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut found = Vec::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(&line[..line.len().min(LONGEST_LINE)]);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match reading(line) {
            Some(reading) => found.push(reading),
            None if index == 0 && line.chars().any(char::is_alphabetic) => {}
            None => return Err((index + 1, line.to_owned())),
        }
    }
    Ok(found)
}

fn reading(line: &str) -> Option<Reading> {
    let (seconds, bytes) = line.split_once([',', ';', '\t', ' '])?;
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
    Some(Reading { seconds: number(seconds)?, bytes: number(bytes).filter(|bytes| *bytes >= 0.0)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_seconds_and_bytes_are_readings() {
        let found = parse(b"\xef\xbb\xbfseconds,bytes\r\n0,1048576\r\n# a gap\n\n60.5, 2e6\n").unwrap();
        let expected = [Reading { seconds: 0.0, bytes: 1_048_576.0 }, Reading { seconds: 60.5, bytes: 2e6 }];
        assert_eq!(found, expected);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn what_is_no_reading_is_named_with_its_line() {
        for (text, line) in [
            ("0,1\n60\n", 2),
            ("0,1\n60,many\n", 2),
            ("0,1\n60,-5\n", 2),
            ("0,1\nnan,5\n", 2),
            ("0,1\nseconds,bytes\n", 2),
            ("0;1\n\n1,inf\n", 3),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().0, line, "{text}");
        }
    }
}
