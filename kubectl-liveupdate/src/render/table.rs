//! A table as kubectl prints it; where the terminal is narrow, the least important columns go.

use super::{Canvas, Tone, harmless};

/// A column's title and how long it stays when there is little room: the lowest number stays longest.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// In capitals.
    pub title: &'static str,
    /// 0 never goes.
    pub rank: u8,
}

/// Draws the table; cells beyond the columns are left out.
#[must_use]
pub fn draw(columns: &[Column], rows: &[Vec<(String, Tone)>], canvas: Canvas) -> String {
    let width_of = |index: usize| {
        let cells = rows.iter().filter_map(|row| row.get(index)).map(|(text, _)| text.chars().count());
        cells.chain([columns[index].title.chars().count()]).max().unwrap_or(0)
    };
    let mut shown: Vec<(usize, usize)> = (0..columns.len()).map(|index| (index, width_of(index))).collect();
    let total = |shown: &[(usize, usize)]| shown.iter().map(|(_, width)| width + 3).sum::<usize>();
    while total(&shown).saturating_sub(3) > canvas.width {
        let least = shown.iter().map(|(index, _)| columns[*index].rank).max().unwrap_or(0);
        if least == 0 {
            break;
        }
        if let Some(position) = shown.iter().rposition(|(index, _)| columns[*index].rank == least) {
            shown.remove(position);
        }
    }
    let mut out = String::new();
    let header: Vec<_> = columns.iter().map(|column| (column.title.to_owned(), Tone::Faint)).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (position, (index, width)) in shown.iter().enumerate() {
            let (text, tone) = row.get(*index).map_or(("", Tone::Plain), |(text, tone)| (text, *tone));
            line.push_str(&tone.paint(&harmless(text), canvas));
            if position + 1 < shown.len() {
                line.extend(std::iter::repeat_n(' ', width + 3 - text.chars().count()));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_important_columns_go_first() {
        let columns = [("NAME", 0), ("TARGET", 2), ("AGE", 1)].map(|(title, rank)| Column { title, rank });
        let row = vec!["a", "7.3.5-lu2", "3m"].into_iter().map(|text| (text.into(), Tone::Plain)).collect();
        let at = |width| draw(&columns, std::slice::from_ref(&row), Canvas { width, ..Canvas::plain() });
        assert_eq!(at(80), "NAME   TARGET      AGE\na      7.3.5-lu2   3m\n");
        assert_eq!(at(12), "NAME   AGE\na      3m\n");
        assert_eq!(at(3), "NAME\na\n");
    }

    #[test]
    fn no_cell_steers_the_terminal() {
        let columns = [("A", 0), ("B", 0)].map(|(title, rank)| Column { title, rank });
        let rows = vec![vec![("x\u{1b}[2J\n".to_owned(), Tone::Plain), ("y".to_owned(), Tone::Plain)]];
        assert_eq!(draw(&columns, &rows, Canvas::plain()), "A        B\nx [2J    y\n");
    }

    #[test]
    fn rows_that_are_too_short_are_filled() {
        let columns = [("A", 0), ("B", 0)].map(|(title, rank)| Column { title, rank });
        let rows = vec![vec![("x".to_owned(), Tone::Plain)]];
        assert_eq!(draw(&columns, &rows, Canvas::plain()), "A   B\nx\n");
    }
}
