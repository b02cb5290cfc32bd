//! Dates and times in requests: ISO 8601 text to numpy's nanoseconds without a time zone.

use time::{Date, Month, PrimitiveDateTime, Time};

/// numpy's "not a time".
pub(crate) const MISSING: i64 = i64::MIN;

/// Reads `2026-11-21`, `2026-11-21T10:00`, `2026-11-21 10:00:00.123456789+02:00`. A time with an
/// offset becomes that moment in UTC. `None` when the text is something else or out of the range
/// of 64-bit nanoseconds (years 1678 to 2261).
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = (text.get(..10)?, text.get(10..)?);
    let (year, month, day) = (
        number(date.get(..4)?)?,
        number(date.get(5..7)?)?,
        number(date.get(8..10)?)?,
    );
    if date.as_bytes()[4] != b'-' || date.as_bytes()[7] != b'-' {
        return None;
    }
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date =
        Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()?;
    if rest.is_empty() {
        return nanoseconds(date, Time::MIDNIGHT, 0);
    }
    let clock = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, offset_s) = split_offset(clock)?;
    nanoseconds(date, time_of_day(clock)?, offset_s)
}

fn nanoseconds(date: Date, time: Time, offset_s: i64) -> Option<i64> {
    let moment = PrimitiveDateTime::new(date, time).assume_utc();
    i64::try_from(moment.unix_timestamp_nanos())
        .ok()?
        .checked_sub(offset_s.checked_mul(1_000_000_000)?)
}

fn time_of_day(text: &str) -> Option<Time> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':');
    let hour = two_digits(parts.next()?)?;
    let minute = two_digits(parts.next()?)?;
    let second = parts.next().map_or(Some(0), two_digits)?;
    if parts.next().is_some() || fraction.len() > 9 || (text.contains('.') && fraction.is_empty()) {
        return None;
    }
    let nanosecond = match fraction {
        "" => 0,
        digits => number(digits)? * 10_u32.pow(9 - u32::try_from(digits.len()).ok()?),
    };
    Time::from_hms_nano(hour, minute, second, nanosecond).ok()
}

/// Cuts `Z`, `+02:00` or `-0530` off; gives the offset in seconds.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else {
        return Some((text, 0));
    };
    let sign = if text.as_bytes()[at] == b'-' { -1 } else { 1 };
    let digits: String = text[at + 1..].chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (two_digits(&digits)?, 0),
        4 => (two_digits(&digits[..2])?, two_digits(&digits[2..])?),
        _ => return None,
    };
    let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
    Some((&text[..at], sign * seconds))
}

fn two_digits(text: &str) -> Option<u8> {
    (text.len() == 2).then(|| number(text))??.try_into().ok()
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn times_are_nanoseconds_in_utc() {
        assert_eq!(parse("1970-01-02"), Some(86_400_000_000_000));
        assert_eq!(parse("1970-01-01T00:00:01.5"), Some(1_500_000_000));
        assert_eq!(parse("1970-01-01 00:01"), Some(60_000_000_000));
        assert_eq!(parse("1970-01-01T02:00:00+02:00"), Some(0));
        assert_eq!(parse("1969-12-31T23:00:00-0100"), Some(0));
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for wrong in [
            "",
            "today",
            "2026-13-01",
            "2026-02-30",
            "2026-01-01T25:00",
            "1e3",
            "2026-01-01Tx",
            "3000-01-01",
            "2026-01-01T10:00:00.",
            "2026/01/01",
            "20260101",
            "2026-01-01é10:00",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
