//! What commands write: results to standard output, reasons to standard error, tables with aligned columns.

use std::io::{self, Write};
use std::process::ExitCode;

/// Standard output. Every write may fail, since it may be a pipe whose reader has left.
pub(crate) fn out() -> io::StdoutLock<'static> {
    io::stdout().lock()
}

/// Says why it did not go well.
pub(crate) fn failure(error: &anyhow::Error) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "weir: {error:#}");
    ExitCode::FAILURE
}

/// Help, the version, or why the command line cannot be read.
pub(crate) fn usage(error: &clap::Error) -> ExitCode {
    // As above.
    let _ = error.print();
    u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The reader of standard output has left, which is its right: `weir query … | head`.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Rows of cells.
#[derive(Debug, Default)]
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(header: impl IntoIterator<Item = S>) -> Self {
        Table { header: header.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Columns two spaces apart; numbers to the right, everything else to the left.
    pub(crate) fn write_aligned(&self, out: &mut impl Write) -> io::Result<()> {
        let all = || std::iter::once(&self.header).chain(&self.rows);
        let width =
            |column: usize| all().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.header.len()).map(width).collect();
        let is_number = |column: usize| {
            !self.rows.is_empty() && self.rows.iter().all(|r| r.get(column).is_some_and(|c| c.parse::<f64>().is_ok()))
        };
        let right: Vec<bool> = (0..self.header.len()).map(is_number).collect();
        for row in all() {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
                let (left, after) = if right[column] { (pad.as_str(), "") } else { ("", pad.as_str()) };
                if column > 0 {
                    line.push_str("  ");
                }
                line.push_str(left);
                line.push_str(cell);
                line.push_str(after);
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// As RFC 4180 has it, with plain line ends.
    pub(crate) fn write_csv(&self, out: &mut impl Write) -> io::Result<()> {
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let cells: Vec<String> = row.iter().map(|cell| csv_cell(cell)).collect();
            writeln!(out, "{}", cells.join(","))?;
        }
        Ok(())
    }
}

fn csv_cell(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.to_owned() }
}

/// A Unix time in seconds as `2026-11-24T12:00:00.250Z`, with milliseconds only where there are some.
pub(crate) fn rfc3339(seconds: f64) -> String {
    let ms = (seconds * 1e3).round() as i64;
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = model::time::civil(days);
    let (h, m, s, milli) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60, of_day % 1000);
    let fraction = if milli == 0 { String::new() } else { format!(".{milli:03}") };
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}{fraction}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "VALUE"]);
        table.push(vec!["a".to_owned(), "1.5".to_owned()]);
        table.push(vec!["long, \"name\"".to_owned(), "NaN".to_owned()]);
        table
    }

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let mut out = Vec::new();
        table().write_aligned(&mut out).expect("written");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "NAME          VALUE\na               1.5\nlong, \"name\"    NaN\n"
        );
    }

    #[test]
    fn csv_quotes_what_needs_it() {
        let mut out = Vec::new();
        table().write_csv(&mut out).expect("written");
        assert_eq!(String::from_utf8(out).expect("text"), "NAME,VALUE\na,1.5\n\"long, \"\"name\"\"\",NaN\n");
    }

    #[test]
    fn times_are_written_in_utc() {
        for (seconds, text) in [
            (0.0, "1970-01-01T00:00:00Z"),
            (951_782_400.25, "2000-02-29T00:00:00.250Z"),
            (1_790_000_000.0, "2026-09-21T14:13:20Z"),
            (-1.0, "1969-12-31T23:59:59Z"),
            (4_107_542_400.0, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
