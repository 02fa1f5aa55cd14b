//! A table that fits: the least important columns are left out first, then long names are cut, never numbers.

use super::screen::{Screen, Style};
use super::text;

/// Blanks between columns.
const GAP: usize = 2;

/// A column and all its cells.
#[derive(Clone, Debug)]
pub struct Column {
    pub title: &'static str,
    /// 0 is shown always; the higher, the sooner it is left out.
    pub rank: u8,
    pub numbers: bool,
    /// How far it may be cut; `None`: never.
    pub cut: Option<Cut>,
    pub cells: Vec<Cell>,
}

/// How a column of words may be cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Down to this width, in columns of the terminal, for the sake of columns up to this rank.
    pub least: usize,
    pub rank: u8,
    /// For the sake of others: no further than to this.
    pub ample: usize,
}

/// What stands in a row. The text is already neutral.
#[derive(Clone, Debug)]
pub struct Cell {
    pub text: String,
    pub style: Style,
}

/// A cell.
#[must_use]
pub fn cell(text: impl Into<String>, style: Style) -> Cell {
    Cell { text: text.into(), style }
}

impl Column {
    fn full(&self) -> usize {
        self.cells.iter().map(|cell| text::width(&cell.text)).chain([text::width(self.title)]).max().unwrap_or(0)
    }

    fn least(&self, rank: u8) -> usize {
        let full = self.full();
        self.cut.map_or(full, |cut| {
            let least = if rank <= cut.rank { cut.least } else { cut.ample };
            least.max(text::width(self.title)).min(full)
        })
    }
}

/// The table's lines, the header first.
#[must_use]
pub fn render(screen: &Screen, columns: &[Column]) -> String {
    let (shown, widths) = choose(columns, screen.width);
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let mut lines = String::new();
    let mut line = |cells: &[Cell]| {
        let last = cells.len() - 1;
        for (at, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let cut = text::fit(&cell.text, *width);
            let padding = " ".repeat(width - text::width(&cut));
            let painted = screen.paint(cell.style, &cut);
            match (shown[at].numbers, at == last) {
                (true, _) => lines.push_str(&(padding + &painted)),
                (false, true) => lines.push_str(&painted),
                (false, false) => lines.push_str(&(painted + &padding)),
            }
            if at != last {
                lines.push_str(&" ".repeat(GAP));
            }
        }
        lines.push('\n');
    };
    line(&shown.iter().map(|column| cell(column.title, Style::Bold)).collect::<Vec<_>>());
    for row in 0..rows {
        line(&shown.iter().map(|column| column.cells[row].clone()).collect::<Vec<_>>());
    }
    lines
}

/// The columns that are shown, and how wide each is.
fn choose(columns: &[Column], width: usize) -> (Vec<&Column>, Vec<usize>) {
    let mut ranks: Vec<u8> = columns.iter().map(|column| column.rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let within = |rank: u8| columns.iter().filter(|column| column.rank <= rank).collect::<Vec<_>>();
    let room = |rank: u8| within(rank).iter().map(|column| column.least(rank) + GAP).sum::<usize>() <= width + GAP;
    let rank = ranks.into_iter().take_while(|rank| *rank == 0 || room(*rank)).last().unwrap_or(0);
    let shown = within(rank);
    let mut widths: Vec<usize> = shown.iter().map(|column| column.full()).collect();
    let mut over = (widths.iter().sum::<usize>() + GAP * (widths.len().max(1) - 1)).saturating_sub(width);
    // The last one first: it is the longest sentence, the first one is the name.
    for (column, wide) in shown.iter().zip(&mut widths).rev() {
        let cut = over.min(*wide - column.least(0));
        *wide -= cut;
        over -= cut;
    }
    (shown, widths)
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::plain;
    use super::*;

    fn column(title: &'static str, rank: u8, numbers: bool, cut: Option<usize>, cells: [&str; 2]) -> Column {
        let cut = cut.map(|least| Cut { least, rank: 2, ample: 99 });
        Column { title, rank, numbers, cut, cells: cells.map(|text| cell(text, Style::Plain)).to_vec() }
    }

    fn columns() -> Vec<Column> {
        vec![
            column("name", 0, false, Some(8), ["signal-timeline", "web"]),
            column("pid", 1, true, None, ["7", "12345"]),
            column("why", 2, false, Some(6), ["exited with code 1", "-"]),
        ]
    }

    #[test]
    fn a_wide_screen_shows_all() {
        let expected = "\
name               pid  why
signal-timeline      7  exited with code 1
web              12345  -
";
        assert_eq!(render(&plain(80), &columns()), expected);
    }

    #[test]
    fn sentences_are_cut_before_names_and_columns_go_before_numbers_do() {
        let expected = "\
name               pid  why
signal-timeline      7  exited w…
web              12345  -
";
        assert_eq!(render(&plain(33), &columns()), expected);
        let expected = "\
name        pid  why
signal-…      7  exite…
web       12345  -
";
        assert_eq!(render(&plain(23), &columns()), expected);
        let expected = "\
name        pid
signal-…      7
web       12345
";
        assert_eq!(render(&plain(15), &columns()), expected);
        let expected = "name\nsignal-…\nweb\n";
        assert_eq!(render(&plain(3), &columns()), expected);
    }
}
