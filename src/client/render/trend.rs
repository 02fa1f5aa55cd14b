//! `stead trend`: a line for each instance, leaks first.

use super::moment::local;
use super::screen::{Screen, Style};
use super::text;
use crate::core::clock::{Millis, Wall};
use crate::core::spec::Bytes;
use crate::core::view::TrendView;

#[must_use]
pub fn page(screen: &Screen, now: Wall, views: &[TrendView]) -> String {
    if views.is_empty() {
        return "no apps\n".into();
    }
    let mut sorted: Vec<&TrendView> = views.iter().collect();
    let until = |view: &TrendView| view.eta_seconds.unwrap_or(f64::INFINITY);
    sorted.sort_by(|a, b| b.leak.cmp(&a.leak).then(until(a).total_cmp(&until(b))));
    sorted.into_iter().map(|view| line(screen, now, view)).collect()
}

fn line(screen: &Screen, now: Wall, view: &TrendView) -> String {
    let name = view.name.as_deref().map(text::plain);
    let indent = name.as_ref().map_or(0, |name| text::width(name) + 2);
    let name = name.map(|name| screen.paint(Style::Bold, name) + ": ").unwrap_or_default();
    let (style, said) = if view.leak { (Style::Yellow, sentence(now, view)) } else { (Style::Plain, flat(view)) };
    format!("{name}{}\n", screen.paint(style, text::hang(screen, indent, &said)))
}

fn flat(view: &TrendView) -> String {
    format!("no leak: {}", view.reason)
}

/// `leaks +12M an hour for 6h, reaches 300M in about 9h, at 2026-11-24 03:40: it grows steadily`.
#[must_use]
pub fn sentence(now: Wall, view: &TrendView) -> String {
    let span = |seconds: f64| Millis((seconds.max(0.0) * 1000.0) as u64);
    let since = view.since_seconds.map_or(String::new(), |seconds| format!(" for {}", rounded(span(seconds))));
    let until = view.cap_bytes.map_or(String::new(), |cap| match view.eta_seconds {
        Some(seconds) => {
            let at = local(Wall(now.0.saturating_add(span(seconds).0.try_into().unwrap_or(i64::MAX))));
            // A forecast knows no seconds.
            let at = at.get(..16).unwrap_or(&at);
            format!(", reaches {} in about {}, at {at}", Bytes(cap), rounded(span(seconds)))
        }
        None => format!(", and is above {} already", Bytes(cap)),
    });
    let rate = Bytes(view.bytes_per_hour.max(0.0) as u64);
    format!("leaks +{rate} an hour{since}{until}: {}", view.reason)
}

/// To the larger unit alone: `9h`, `3d`.
fn rounded(span: Millis) -> Millis {
    let unit = match span.0 {
        0..120_000 => 1000,
        120_000..7_200_000 => 60_000,
        7_200_000..172_800_000 => 3_600_000,
        _ => 86_400_000,
    };
    Millis((span.0 + unit / 2) / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::plain;
    use super::*;

    fn leaking() -> TrendView {
        TrendView {
            name: Some("api".into()),
            leak: true,
            bytes_per_hour: 12.0 * 1_048_576.0,
            eta_seconds: Some(9.2 * 3600.0),
            since_seconds: Some(6.1 * 3600.0),
            reason: "it grows steadily".into(),
            cap_bytes: Some(300 << 20),
        }
    }

    #[test]
    fn a_leak_is_told_with_its_rate_and_its_end() {
        let shown = sentence(Wall(0), &leaking());
        assert!(shown.starts_with("leaks +12M an hour for 6h, reaches 300M in about 9h, at 1970-01-0"), "{shown}");
        assert!(shown.ends_with(": it grows steadily"), "{shown}");
        let above = TrendView { eta_seconds: None, ..leaking() };
        assert_eq!(
            sentence(Wall(0), &above),
            "leaks +12M an hour for 6h, and is above 300M already: it grows steadily"
        );
    }

    #[test]
    fn who_reaches_the_cap_first_comes_first() {
        let calm = TrendView {
            name: Some("calm".into()),
            leak: false,
            reason: "no growth beyond the noise".into(),
            ..leaking()
        };
        let soon = TrendView { name: Some("soon".into()), eta_seconds: Some(60.0), ..leaking() };
        let shown = page(&plain(200), Wall(0), &[calm, leaking(), soon]);
        let names: Vec<&str> = shown.lines().filter_map(|line| line.split(':').next()).collect();
        assert_eq!(names, ["soon", "api", "calm"]);
        assert!(shown.ends_with("calm: no leak: no growth beyond the noise\n"), "{shown}");
    }
}
