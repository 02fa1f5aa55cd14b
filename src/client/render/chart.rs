//! Memory over time as text: bars, the cap and the wall as lines, restarts marked below.

use super::moment::local;
use super::screen::{Screen, Style};
use crate::core::clock::{Millis, Wall};
use crate::core::spec::Bytes;
use crate::core::view::HistoryView;

const ROWS: usize = 6;
/// Wider than this shows no more.
const WIDEST: usize = 72;
/// Of the labels.
const MARGIN: usize = 8;
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The chart of the last `span`, up to now; `None` where nothing was noted in it.
#[must_use]
pub fn memory(screen: &Screen, now: Wall, span: Millis, history: &HistoryView) -> Option<String> {
    let width = screen.width.saturating_sub(MARGIN + 2).clamp(16, WIDEST);
    let begin = now.0.saturating_sub_unsigned(span.0);
    let column = |at: Wall| ((at.0 - begin) * width as i64 / span.0.max(1) as i64).clamp(0, width as i64 - 1) as usize;
    let within = history.readings.iter().filter(|one| one.at.0 > begin && one.at <= now);
    let (mut bars, mut restarts, mut run) = (vec![None::<u64>; width], vec![false; width], None);
    for one in within {
        let at = column(one.at);
        bars[at] = bars[at].max(Some(one.memory_bytes));
        restarts[at] |= run.is_some_and(|before| before != one.run);
        run = Some(one.run);
    }
    run?;
    let highest = bars.iter().flatten().max().copied().unwrap_or(0);
    // A wall far above all that was used would press the bars flat.
    let lines: Vec<(u64, &str)> = [(history.cap_bytes, "cap"), (history.wall_bytes, "wall")]
        .into_iter()
        .filter_map(|(bytes, name)| Some((bytes?, name)))
        .filter(|(bytes, name)| *name == "cap" || *bytes <= highest.max(history.cap_bytes.unwrap_or(0)) / 4 * 5)
        .collect();
    let top = lines.iter().map(|(bytes, _)| *bytes).chain([highest]).max().unwrap_or(1).max(1);
    let row_of = |bytes: u64| ((bytes as f64 / top as f64 * ROWS as f64).ceil() as usize).clamp(1, ROWS);
    let mut shown = String::new();
    for row in (1..=ROWS).rev() {
        let line = lines.iter().find(|(bytes, _)| row_of(*bytes) == row);
        let label = match (line, row) {
            (Some((bytes, name)), _) => format!("{name} {}", Bytes(*bytes)),
            (None, ROWS) => Bytes(top).to_string(),
            (None, _) => String::new(),
        };
        let bars: String = bars
            .iter()
            .map(|bar| {
                let filled = bar.map_or(0.0, |bytes| bytes as f64 / top as f64 * ROWS as f64 - (row - 1) as f64);
                match (filled * 8.0).round().clamp(0.0, 8.0) as usize {
                    0 if row == 1 && bar.is_some() => EIGHTHS[1],
                    0 if line.is_some() => '╌',
                    eighths => EIGHTHS[eighths],
                }
            })
            .collect();
        let label = screen.paint(Style::Dim, format!("{label:>0$}", MARGIN + 1));
        shown.push_str(&format!("{label} {}\n", bars.trim_end()));
    }
    if restarts.contains(&true) {
        let marks: String = restarts.iter().map(|restart| if *restart { '^' } else { ' ' }).collect();
        let label = screen.paint(Style::Dim, format!("{:>1$}", "restarts", MARGIN + 1));
        shown.push_str(&format!("{label} {}\n", screen.paint(Style::Yellow, marks.trim_end())));
    }
    let hour = |at: Wall| local(at).get(11..16).unwrap_or_default().to_owned();
    let (from, to) = (hour(Wall(begin)), hour(now));
    let gap = width.saturating_sub(from.len() + to.len());
    shown.push_str(&format!("{:1$}{2}\n", "", MARGIN + 2, screen.paint(Style::Dim, format!("{from}{:gap$}{to}", ""))));
    Some(shown)
}

/// One line: the highest of each of `width` parts of the time, against the highest of all or the cap.
#[must_use]
pub fn spark(now: Wall, span: Millis, width: usize, history: &HistoryView) -> Option<String> {
    let begin = now.0.saturating_sub_unsigned(span.0);
    let mut parts = vec![None::<u64>; width];
    for one in history.readings.iter().filter(|one| one.at.0 > begin && one.at <= now) {
        let at = ((one.at.0 - begin) * width as i64 / span.0.max(1) as i64).clamp(0, width as i64 - 1) as usize;
        parts[at] = parts[at].max(Some(one.memory_bytes));
    }
    let highest = parts.iter().flatten().max().copied()?;
    let top = highest.max(history.cap_bytes.unwrap_or(0)).max(1);
    let bar = |bytes: u64| EIGHTHS[((bytes as f64 / top as f64 * 8.0).round() as usize).clamp(1, 8)];
    Some(parts.iter().map(|part| part.map_or(' ', bar)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::plain;
    use super::*;
    use crate::core::view::ReadingView;

    const NOW: Wall = Wall(1_795_465_800_000);

    fn history(readings: impl Iterator<Item = (i64, u64, u16)>) -> HistoryView {
        HistoryView {
            name: "api".into(),
            cap_bytes: Some(100 << 20),
            wall_bytes: Some(125 << 20),
            readings: readings
                .map(|(minutes_ago, mib, run)| ReadingView {
                    at: Wall(NOW.0 - minutes_ago * 60_000),
                    memory_bytes: mib << 20,
                    cpu_percent: 1.0,
                    processes: 3,
                    run,
                })
                .collect(),
        }
    }

    #[test]
    fn a_leak_climbs_to_its_cap_and_begins_anew() {
        let readings =
            (0..60).rev().map(|ago| (ago, if ago >= 20 { 130 - ago as u64 * 2 } else { 20 }, u16::from(ago < 20)));
        let shown = memory(&plain(60), NOW, Millis(3_600_000), &history(readings)).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), ROWS + 2, "{shown}");
        assert!(lines[0].starts_with("wall 125M ╌"), "{shown}");
        assert!(lines[1].starts_with(" cap 100M ╌"), "{shown}");
        assert!(lines[ROWS].trim_start().starts_with("restarts"), "{shown}");
        assert_eq!(lines[ROWS].matches('^').count(), 1, "{shown}");
        assert!(lines[ROWS - 1].contains('█'), "{shown}");
        assert!(lines.iter().all(|line| line.chars().count() <= 60), "{shown}");
    }

    #[test]
    fn a_day_is_one_line() {
        let readings = (0..1200).rev().map(|ago| (ago, 20 + (1200 - ago as u64) / 15, 1));
        let line = spark(NOW, Millis(86_400_000), 24, &history(readings)).unwrap();
        assert_eq!(line, "    ▂▂▂▃▃▃▄▄▄▅▅▅▆▆▆▇▇▇██");
        assert_eq!(spark(NOW, Millis(1000), 24, &history(std::iter::empty())), None);
    }

    #[test]
    fn nothing_noted_is_no_chart_and_little_is_a_small_one() {
        let screen = plain(80);
        assert_eq!(memory(&screen, NOW, Millis(3_600_000), &history(std::iter::empty())), None);
        assert_eq!(memory(&screen, NOW, Millis(60_000), &history([(30, 5, 1)].into_iter())), None);
        let far = HistoryView { wall_bytes: Some(8 << 30), ..history([(30, 5, 1)].into_iter()) };
        let shown = memory(&screen, NOW, Millis(3_600_000), &far).unwrap();
        assert_eq!(shown.matches('▂').count() + shown.matches('▁').count(), 1, "{shown}");
        assert!(!shown.contains("wall"), "{shown}");
    }
}
