//! Schedules of CronJobs: the five fields of crontab, `@hourly` and the like, and `@every 90m`.
//!
//! The grammar is that of upstream's parser and no larger (no `L`, `W`, `#`, no seconds), because what one server takes
//! another must take as well. Times are those of a time zone: an hour that its clocks skip has no times, one that they
//! repeat has them twice.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp, Zoned};

/// How far ahead a time is looked for: some schedules name days that never come.
const YEARS_MAX: i16 = 5;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Fields(Fields),
    Every(SignedDuration),
}

/// The values of each field, as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days and weekdays are both restricted: one of the two is enough then.
    either_day: bool,
}

/// What a field may hold.
struct Range {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Range = Range {
    min: 0,
    max: 59,
    names: &[],
};
const HOURS: Range = Range {
    min: 0,
    max: 23,
    names: &[],
};
const DAYS: Range = Range {
    min: 1,
    max: 31,
    names: &[],
};
const MONTHS: Range = Range {
    min: 1,
    max: 12,
    names: &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
};
const WEEKDAYS: Range = Range {
    min: 0,
    max: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

impl Schedule {
    /// Reads a schedule; the error is for people.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix('@') {
            return Self::named(name).ok_or_else(|| format!("unrecognized descriptor: {text}"));
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!(
                "expected exactly 5 fields, found {}: [{}]",
                fields.len(),
                fields.join(" ")
            ));
        };
        let is_open = |field: &str| {
            field
                .split(',')
                .any(|part| part.split('/').next().is_some_and(|of| of == "*" || of == "?"))
        };
        Ok(Self(Form::Fields(Fields {
            minutes: field(minutes, &MINUTES)?,
            hours: field(hours, &HOURS)?,
            days: field(days, &DAYS)?,
            months: field(months, &MONTHS)?,
            weekdays: field(weekdays, &WEEKDAYS)?,
            either_day: !is_open(days) && !is_open(weekdays),
        })))
    }

    fn named(name: &str) -> Option<Self> {
        let fields = match name {
            "yearly" | "annually" => "0 0 1 1 *",
            "monthly" => "0 0 1 * *",
            "weekly" => "0 0 * * 0",
            "daily" | "midnight" => "0 0 * * *",
            "hourly" => "0 * * * *",
            _ => {
                let pause = go_duration(name.strip_prefix("every ")?)?;
                return Some(Self(Form::Every(pause.max(SignedDuration::from_secs(1)))));
            }
        };
        Self::parse(fields).ok()
    }

    /// The first time after another; `None` if there is none in the next years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.0 {
            Form::Every(pause) => {
                let seconds = SignedDuration::from_secs(pause.as_secs());
                Timestamp::from_second(after.as_second())
                    .ok()?
                    .checked_add(seconds)
                    .ok()
            }
            Form::Fields(fields) => fields.next(after, zone),
        }
    }
}

impl Fields {
    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let minute = after.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?;
        let mut at = Timestamp::from_second(minute).ok()?.to_zoned(zone.clone());
        let last_year = at.year().checked_add(YEARS_MAX)?;
        while at.year() <= last_year {
            at = if !has(self.months, at.month()) {
                start_of(
                    at.date().first_of_month().checked_add(Span::new().months(1)).ok()?,
                    zone,
                )?
            } else if !self.has_day(at.date()) {
                start_of(at.date().tomorrow().ok()?, zone)?
            } else if !has(self.hours, at.hour()) {
                // The next full hour of the clock, however long this one is.
                let left = 60 - i64::from(at.minute());
                at.checked_add(SignedDuration::from_mins(left)).ok()?
            } else if !has(self.minutes, at.minute()) {
                at.checked_add(SignedDuration::from_mins(1)).ok()?
            } else {
                return Some(at.timestamp());
            };
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        if self.either_day {
            day || weekday
        } else {
            day && weekday
        }
    }
}

fn start_of(date: Date, zone: &TimeZone) -> Option<Zoned> {
    date.to_zoned(zone.clone()).ok()?.start_of_day().ok()
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

/// A field: parts with commas between them.
fn field(text: &str, range: &Range) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split(',').filter(|part| !part.is_empty()) {
        bits |= self::part(part, range)?;
    }
    if bits == 0 {
        return Err(format!("empty list in field: {text}"));
    }
    Ok(bits)
}

/// `*`, `5`, `1-5`, each possibly with a step as in `*/2`.
fn part(text: &str, range: &Range) -> Result<u64, String> {
    let pieces: Vec<&str> = text.split('/').collect();
    let (of, step) = match pieces[..] {
        [of] => (of, None),
        [of, step] => (of, Some(number(step)?)),
        _ => return Err(format!("too many slashes: {text}")),
    };
    let ends: Vec<&str> = of.split('-').collect();
    let (first, last) = match ends[..] {
        ["*" | "?"] => (range.min, range.max),
        [one] => {
            let one = value(one, range)?;
            // `5/15` goes on to the end of the range.
            (one, if step.is_some() { range.max } else { one })
        }
        [first, last] => (value(first, range)?, value(last, range)?),
        _ => return Err(format!("too many hyphens: {text}")),
    };
    if first < range.min {
        return Err(format!(
            "beginning of range ({first}) below minimum ({}): {text}",
            range.min
        ));
    }
    if last > range.max {
        return Err(format!("end of range ({last}) above maximum ({}): {text}", range.max));
    }
    if first > last {
        return Err(format!(
            "beginning of range ({first}) beyond end of range ({last}): {text}"
        ));
    }
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    Ok((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value))
}

fn value(text: &str, range: &Range) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match range.names.iter().position(|name| *name == lower) {
        Some(at) => Ok(range.min + u32::try_from(at).expect("names are few")),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("failed to parse int from {text}"))
}

/// A duration as Go writes it, e.g. `1h30m`, `90s`, `1.5h`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let amount: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [
            ("ms", 1e-3),
            ("us", 1e-6),
            ("µs", 1e-6),
            ("ns", 1e-9),
            ("h", 3600.0),
            ("m", 60.0),
            ("s", 1.0),
        ];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        rest = &rest[unit.len()..];
        total += amount * seconds;
    }
    SignedDuration::try_from_secs_f64(total)
        .ok()
        .filter(|_| !text.is_empty())
}

/// The time zone of a name, from the data that is built in.
pub fn time_zone(name: &str) -> Option<TimeZone> {
    jiff::tz::TimeZoneDatabase::bundled().get(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(schedule: &str, after: &str, zone: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(schedule).unwrap();
        let zone = time_zone(zone).unwrap();
        let mut at: Timestamp = after.parse().unwrap();
        let mut times = Vec::new();
        for _ in 0..count {
            at = schedule.next(at, &zone).unwrap();
            times.push(at.to_string());
        }
        times
    }

    #[test]
    fn the_next_times_of_schedules() {
        let cases = [
            ("* * * * *", "2026-11-22T10:00:30Z", "2026-11-22T10:01:00Z"),
            ("* * * * ?", "2026-11-22T10:00:00Z", "2026-11-22T10:01:00Z"),
            ("*/15 * * * *", "2026-11-22T10:16:00Z", "2026-11-22T10:30:00Z"),
            ("5/15 * * * *", "2026-11-22T10:06:00Z", "2026-11-22T10:20:00Z"),
            ("0 9-17/4 * * MON-FRI", "2026-11-20T17:00:00Z", "2026-11-23T09:00:00Z"),
            ("30 6 1 jan *", "2026-11-20T17:00:00Z", "2027-01-01T06:30:00Z"),
            // The 13th, or any Friday.
            ("0 0 13 * 5", "2026-11-21T00:00:00Z", "2026-11-27T00:00:00Z"),
            ("0 0 13 * *", "2026-11-21T00:00:00Z", "2026-12-13T00:00:00Z"),
            ("0 0 29 2 *", "2026-11-21T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("@hourly", "2026-11-21T00:00:00Z", "2026-11-21T01:00:00Z"),
            ("@yearly", "2026-11-21T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-11-21T00:00:00Z", "2026-11-21T01:30:00Z"),
        ];
        for (schedule, after, expected) in cases {
            assert_eq!(times(schedule, after, "UTC", 1), [expected], "{schedule}");
        }
        let never = Schedule::parse("0 0 31 2 *").unwrap();
        assert_eq!(never.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    #[test]
    fn times_are_those_of_the_zone() {
        assert_eq!(
            times("0 8 * * *", "2026-07-01T00:00:00Z", "Europe/Berlin", 1),
            ["2026-07-01T06:00:00Z"]
        );
        // 02:30 does not exist on the day when clocks go forward, and comes twice when they go back.
        assert_eq!(
            times("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin", 1),
            ["2026-03-30T00:30:00Z"]
        );
        assert_eq!(
            times("30 2 * * *", "2026-10-24T12:00:00Z", "Europe/Berlin", 2),
            ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"]
        );
        assert!(time_zone("Europe/Nowhere").is_none());
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "1/2/3 * * * *",
            "1-2-3 * * * *",
            "a * * * *",
            "@never",
            "@every",
            "@every x",
            "L * * * *",
        ] {
            assert!(Schedule::parse(text).is_err(), "{text}");
        }
    }
}
