//! Dates as HTTP writes them (RFC 9110 §5.6.7). Time comes in as seconds; there is no clock here.

use core::fmt;

/// A date as fields give it: `Sun, 06 Nov 1994 08:49:37 GMT` (IMF-fixdate, RFC 9110 §5.6.7).
///
/// # Examples
/// ```
/// let date = stentor_protocol::h1::date::ImfFixdate::from_unix(784_111_777);
/// assert_eq!(date.as_str(), "Sun, 06 Nov 1994 08:49:37 GMT");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ImfFixdate([u8; 29]);

/// 9999-12-31 23:59:59, the last date that four digits can name.
const LAST_UNIX_SECOND: u64 = 253_402_300_799;

impl ImfFixdate {
    /// The date `seconds` after 1970-01-01 00:00:00 UTC. What is after the year 9999 becomes its last second.
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(LAST_UNIX_SECOND);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        // 1970-01-01 was a Thursday.
        let weekday = *name_at(b"SunMonTueWedThuFriSat", (days + 4) % 7);
        let month = *name_at(b"JanFebMarAprMayJunJulAugSepOctNovDec", month - 1);
        let mut text = *b"Sun, 06 Nov 1994 08:49:37 GMT";
        put(&mut text, 0, &weekday);
        put(&mut text, 5, &two_digits(day));
        put(&mut text, 8, &month);
        put(&mut text, 12, &two_digits(year / 100));
        put(&mut text, 14, &two_digits(year % 100));
        put(&mut text, 17, &two_digits(second / 3600));
        put(&mut text, 20, &two_digits(second / 60 % 60));
        put(&mut text, 23, &two_digits(second % 60));
        Self(text)
    }

    /// The date as text.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).expect("a date is ASCII")
    }
}

impl AsRef<str> for ImfFixdate {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for ImfFixdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ImfFixdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Year, month (1 to 12) and day (1 to 31) of the Gregorian calendar, `days` after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years are counted from 1 March, so that the day of the leap year is the last: 0000-03-01 is 719,468
    // days before 1970-01-01, and 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // The months from March on have 31, 30, 31, 30, 31 days again and again: 153 in five months.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

fn name_at<const N: usize>(names: &[u8; N], index: u64) -> &[u8; 3] {
    names.as_chunks().0.get(index as usize).expect("an index within the week or year")
}

fn two_digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

fn put(text: &mut [u8; 29], at: usize, part: &[u8]) {
    text[at..at + part.len()].copy_from_slice(part);
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    #[test]
    fn known_dates() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            // RFC 9110 §5.6.7.
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (LAST_UNIX_SECOND, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (seconds, text) in cases {
            assert_eq!(ImfFixdate::from_unix(seconds).as_str(), text);
        }
    }

    #[test]
    fn every_day_of_five_centuries_follows_the_one_before() {
        let has = |year: u64, divisor| year.is_multiple_of(divisor);
        let is_leap = |year| has(year, 4) && (!has(year, 100) || has(year, 400));
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let weekdays = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        let mut days = 0;
        for year in 1970..2470 {
            let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            for (month, length) in months.iter().zip(lengths) {
                for day in 1..=length {
                    let weekday = weekdays[days as usize % 7];
                    let expected = format!("{weekday}, {day:02} {month} {year} 12:34:56 GMT");
                    assert_eq!(ImfFixdate::from_unix(days * 86_400 + 45_296).as_str(), expected);
                    days += 1;
                }
            }
        }
    }
}
