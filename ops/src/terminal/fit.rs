//! Columns of a table that has to fit into a terminal: how wide each may be, and where a cell is broken. Nothing is left out.

/// Between two columns.
const GAP: usize = 2;
/// No column is made narrower than this for another's sake.
const NARROWEST: usize = 8;

/// The width of each column, so that all of them fit into `width` if they can: the widest give way first.
pub(crate) fn column_widths(rows: &[Vec<String>], width: usize) -> Vec<usize> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let mut widths: Vec<usize> = (0..columns)
        .map(|i| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or_default())
        .collect();
    let room = width.saturating_sub(GAP * columns.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    widths
}

/// The lines of a cell, none wider than `width`: broken between words, else within one.
pub(crate) fn wrap(cell: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = cell.chars().collect();
    while rest.len() > width.max(1) {
        let space = rest[..=width].iter().rposition(|c| *c == ' ').filter(|at| *at > 0);
        // A separator stays with what is before it.
        let joint = || rest[..width].iter().rposition(|c| matches!(c, '-' | '/' | ',' | '=')).map(|at| at + 1);
        let end = space.or_else(joint).unwrap_or(width);
        lines.push(rest[..end].iter().collect::<String>().trim_end().to_owned());
        rest.drain(..end + usize::from(space.is_some()));
    }
    lines.push(rest.into_iter().collect());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_columns_give_way_and_nothing_is_lost() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let rows = [row(&["A", "WHO", "WHY"]), row(&["2026-11-20 09:30:00Z", "ada@bastion", &"word ".repeat(40)])];
        assert_eq!(column_widths(&rows, usize::MAX), [20, 11, 200]);
        let widths = column_widths(&rows, 80);
        assert_eq!(widths, [20, 11, 45]);
        assert_eq!(column_widths(&rows, 30).iter().sum::<usize>() + 4, 30);
        for (cell, width) in rows[1].iter().zip(widths) {
            let lines = wrap(cell, width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{lines:?}");
            assert_eq!(
                lines.join(" ").split_whitespace().collect::<Vec<_>>(),
                cell.split_whitespace().collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_long_word_is_broken_behind_a_separator_or_where_the_room_ends() {
        assert_eq!(wrap("registry-credential-refused", 12), ["registry-", "credential-", "refused"]);
        assert_eq!(wrap("0123456789", 4), ["0123", "4567", "89"]);
        assert_eq!(wrap("äöü äöü", 3), ["äöü", "äöü"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("x", 0), ["x"]);
    }
}
