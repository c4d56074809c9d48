//! Points and spans of time: our own timestamp, ranges, and the text form of durations.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Result};

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// A point in time: microseconds since 1970-01-01T00:00:00Z, proleptic Gregorian, no leap seconds.
///
/// Text form: RFC 3339 in UTC with 0, 3 or 6 fractional digits. Reading accepts any offset; without one it is UTC.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest timestamp that has a text form: 0001-01-01T00:00:00Z.
    pub const MIN: Self = Self(-62_135_596_800 * MICROS_PER_SECOND);
    /// The latest timestamp that has a text form: 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(253_402_300_800 * MICROS_PER_SECOND - 1);
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// Wraps microseconds since the epoch, clamped to [`Self::MIN`] and [`Self::MAX`].
    pub const fn from_micros(micros: i64) -> Self {
        if micros < Self::MIN.0 {
            Self::MIN
        } else if micros > Self::MAX.0 {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// Wraps milliseconds since the epoch, clamped.
    pub const fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1_000))
    }

    /// Wraps seconds since the epoch, clamped.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(MICROS_PER_SECOND))
    }

    /// Returns microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Returns whole seconds since the epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(MICROS_PER_SECOND)
    }

    /// Adds a span, clamped to [`Self::MAX`].
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(micros(span)))
    }

    /// Subtracts a span, clamped to [`Self::MIN`].
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(micros(span)))
    }

    /// Returns the span since `earlier`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Rounds down to a multiple of `span` since the epoch; a zero span changes nothing.
    #[must_use]
    pub fn floor(self, span: Duration) -> Self {
        let span = micros(span);
        if span == 0 { self } else { Self::from_micros(self.0.div_euclid(span).saturating_mul(span)) }
    }
}

/// Returns a duration in whole microseconds, saturating.
pub fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The longest text of a time: `2026-01-31T09:30:00.123456Z`.
const TEXT_BYTES: usize = 27;

impl Timestamp {
    /// Writes the text without the machinery of formatting: answers have a time for each event. A timestamp is in the years 1 to 9999.
    fn write(self, buffer: &mut [u8; TEXT_BYTES]) -> &str {
        fn digits(place: &mut [u8], mut number: u64) {
            for digit in place.iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
        let seconds = self.as_seconds();
        let (year, month, day) = civil_from_days(seconds.div_euclid(SECONDS_PER_DAY));
        let time = seconds.rem_euclid(SECONDS_PER_DAY).unsigned_abs();
        let fraction = self.0.rem_euclid(MICROS_PER_SECOND).unsigned_abs();
        *buffer = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut buffer[..4], year.unsigned_abs());
        digits(&mut buffer[5..7], month.unsigned_abs());
        digits(&mut buffer[8..10], day.unsigned_abs());
        digits(&mut buffer[11..13], time / 3_600);
        digits(&mut buffer[14..16], time / 60 % 60);
        digits(&mut buffer[17..19], time % 60);
        let end = if fraction == 0 {
            19
        } else if fraction.is_multiple_of(1_000) {
            digits(&mut buffer[20..23], fraction / 1_000);
            23
        } else {
            digits(&mut buffer[20..26], fraction);
            26
        };
        buffer[end] = b'Z';
        std::str::from_utf8(&buffer[..=end]).expect("digits and letters of ASCII are text")
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write(&mut [0; TEXT_BYTES]))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_rfc3339(text.as_bytes()).ok_or_else(|| {
            Error::invalid(
                "timestamp.parse",
                "",
                "invalid_timestamp",
                "must be an RFC 3339 date and time such as 2026-01-31T09:30:00Z",
            )
        })
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.write(&mut [0; TEXT_BYTES]))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(|error: Error| serde::de::Error::custom(error.message()))
    }
}

/// Days since the epoch to year, month, day: the era arithmetic of H. Hinnant, "chrono-compatible low-level date algorithms".
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil_from_days`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_index = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * month_index + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes
        .iter()
        .try_fold(0_i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

fn parse_rfc3339(text: &[u8]) -> Option<Timestamp> {
    if text.len() < 19 || text.len() > 40 {
        return None;
    }
    let separators = (text[4], text[7], text[13], text[16]);
    if separators != (b'-', b'-', b':', b':') || !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let (year, month, day) = (digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..10])?);
    let (hour, minute, second) = (digits(&text[11..13])?, digits(&text[14..16])?, digits(&text[17..19])?);
    if year < 1 || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    // A leap second is read as the first instant of the next minute, as POSIX time counts it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut fraction = 0;
    if let [b'.' | b',', tail @ ..] = rest {
        let length = tail.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        let digits = tail[..length].iter().map(|digit| i64::from(digit - b'0'));
        fraction = digits.chain(std::iter::repeat(0)).take(6).fold(0, |value, digit| value * 10 + digit);
        rest = &tail[length..];
    }
    let offset_seconds = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), tail @ ..] => {
            let (hours, minutes) = match tail {
                [_, _, b':', _, _] => (digits(&tail[..2])?, digits(&tail[3..])?),
                [_, _, _, _] => (digits(&tail[..2])?, digits(&tail[2..])?),
                [_, _] => (digits(tail)?, 0),
                _ => return None,
            };
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 3_600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day);
    let seconds = days * SECONDS_PER_DAY + hour * 3_600 + minute * 60 + second - offset_seconds;
    let micros = seconds * MICROS_PER_SECOND + fraction;
    (Timestamp::MIN.0..=Timestamp::MAX.0).contains(&micros).then_some(Timestamp(micros))
}

/// A half-open range of time: `start` is in, `end` is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimeRange {
    /// The first instant inside.
    pub start: Timestamp,
    /// The first instant after.
    pub end: Timestamp,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { start: Timestamp::MIN, end: Timestamp::MAX };

    /// Creates the range from `start` up to, not including, `end`.
    pub const fn new(start: Timestamp, end: Timestamp) -> Self {
        Self { start, end }
    }

    /// Creates the range of length `span` that ends at `end`.
    pub fn last(span: Duration, end: Timestamp) -> Self {
        Self { start: end.minus(span), end }
    }

    /// Returns whether `at` lies inside.
    pub fn contains(&self, at: Timestamp) -> bool {
        self.start <= at && at < self.end
    }

    /// Returns the length, zero for an empty range.
    pub fn span(&self) -> Duration {
        self.end.since(self.start)
    }

    /// Returns whether nothing can lie inside.
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

/// Reads a duration such as `90s`, `5m`, `1h30m`, `7d` or `250ms`.
///
/// Units: `ms`, `s`, `m`, `h`, `d` (24 h), `w` (7 d), largest first or in any order, whole numbers.
///
/// # Errors
/// `Invalid` for another form, and above 100 years.
pub fn parse_duration(text: &str) -> Result<Duration> {
    const MAX_MILLIS: u64 = 100 * 366 * 86_400_000;
    let refuse = || {
        Error::invalid(
            "duration.parse",
            "",
            "invalid_duration",
            "must be a duration such as 30s, 5m, 1h30m or 7d",
        )
        .with_context("duration", text.chars().take(40).collect::<String>())
    };
    let mut rest = text.trim();
    let mut total_millis = 0_u64;
    if rest.is_empty() {
        return Err(refuse());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let value: u64 = rest[..digits].parse().map_err(|_| refuse())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = match &rest[..letters] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return Err(refuse()),
        };
        rest = &rest[letters..];
        total_millis = value
            .checked_mul(unit)
            .and_then(|millis| total_millis.checked_add(millis))
            .filter(|total| *total <= MAX_MILLIS)
            .ok_or_else(refuse)?;
    }
    Ok(Duration::from_millis(total_millis))
}

/// Writes a duration in the form that [`parse_duration`] reads, whole milliseconds, shortest units: `1h30m`.
pub fn format_duration(span: Duration) -> String {
    let mut millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, length) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        if millis >= length {
            text.push_str(&format!("{}{unit}", millis / length));
            millis %= length;
        }
    }
    text
}

/// Serde form of a [`Duration`] as text such as `5m`, for `#[serde(with = "duration_text")]`.
pub mod duration_text {
    use super::{Deserialize, Deserializer, Duration, Serializer, format_duration, parse_duration};

    /// Writes the text form.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(*span))
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// A text that is no duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        parse_duration(&text).map_err(|error| serde::de::Error::custom(error.message()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for text in [
            "2026-01-31T09:30:00Z",
            "1969-12-31T23:59:59.999Z",
            "2024-02-29T00:00:00.000001Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn every_time_is_written_as_it_is_read() {
        let (first, last) = (Timestamp::MIN.as_micros(), Timestamp::MAX.as_micros());
        let step = (last - first) / 9_973;
        for number in 0..9_973 {
            for round in [1, 1_000, 1_000_000] {
                let at = Timestamp::from_micros((first + number * step) / round * round);
                let text = at.to_string();
                assert_eq!(text.parse::<Timestamp>().unwrap(), at, "{text}");
                assert_eq!(serde_json::to_string(&at).unwrap(), format!("\"{text}\""));
            }
        }
    }

    #[test]
    fn offsets_and_their_absence() {
        let utc: Timestamp = "2026-01-31T09:30:00Z".parse().unwrap();
        for text in ["2026-01-31T10:30:00+01:00", "2026-01-31 09:30:00", "2026-01-31T04:30:00.0-0500"] {
            assert_eq!(text.parse::<Timestamp>().unwrap(), utc, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["", "2026-02-30T00:00:00Z", "2026-01-31", "2026-01-31T25:00:00Z", "2026-01-31T09:30:00Q"]
        {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn agrees_with_jiff_over_centuries() {
        for days in (-700_000..2_900_000).step_by(997) {
            let at = Timestamp::from_seconds(days * SECONDS_PER_DAY);
            let expected = jiff::Timestamp::from_second(at.as_seconds()).unwrap().to_string();
            assert_eq!(at.to_string(), expected);
            assert_eq!(expected.parse::<Timestamp>().unwrap(), at);
        }
    }

    #[test]
    fn durations_round_trip_and_refuse() {
        for text in ["5m", "1h30m", "7d", "250ms", "1d2h3m4s5ms", "0s"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for text in ["", "5", "m", "5y", "-5m", "1.5h", "99999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn floor_goes_down_before_the_epoch_too() {
        let hour = Duration::from_secs(3_600);
        assert_eq!(Timestamp::from_seconds(-1).floor(hour), Timestamp::from_seconds(-3_600));
    }
}
