//! The calendar, in UTC, from seconds since the Unix epoch: days are counted in eras of 400 years, which all have the
//! same number of days, with years that begin in March so that the leap day is the last.

/// What is asked of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::eval) enum Part {
    DaysInMonth,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Month,
    Year,
}

impl Part {
    /// The part of a time in seconds.
    pub(in crate::eval) fn of(self, seconds: i64) -> f64 {
        let days = seconds.div_euclid(86_400);
        let second = seconds.rem_euclid(86_400);
        let (year, month, day) = civil(days);
        let part = match self {
            Part::DaysInMonth => days_in_month(year, month),
            Part::DayOfMonth => day,
            Part::DayOfWeek => (days + 4).rem_euclid(7),
            Part::DayOfYear => (1..month).map(|month| days_in_month(year, month)).sum::<i64>() + day,
            Part::Hour => second / 3600,
            Part::Minute => second % 3600 / 60,
            Part::Month => month,
            Part::Year => year,
        };
        part as f64
    }
}

/// A time in milliseconds as `2006-01-02T15:04:05Z`.
pub(in crate::eval) fn rfc3339(ms: i64) -> String {
    let seconds = ms / 1000;
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second % 3600 / 60, second % 60)
}

/// Year, month and day of a number of days since the Unix epoch.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    // 719 468 days lie between 0000-03-01 and the Unix epoch.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (year + era * 400 + later, month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (19_782, (2024, 2, 29)),
            (19_783, (2024, 3, 1)),
            (-719_468, (0, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "{days}");
        }
        assert_eq!(rfc3339(1_136_239_445_000), "2006-01-02T22:04:05Z");
        assert_eq!(Part::DayOfWeek.of(0), 4.0);
        assert_eq!(Part::DayOfYear.of(1_136_239_445), 2.0);
    }
}
