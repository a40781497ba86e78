//! Schedules of CronJobs: what is taken has a next time, or none, but says so soon.

#![no_main]

use api::cron::{self, Schedule};

libfuzzer_sys::fuzz_target!(|text: &str| {
    cron::time_zone(text);
    let Ok(schedule) = Schedule::parse(text) else {
        return;
    };
    let after = "2026-01-31T23:59:59Z".parse().expect("a time");
    let zone = cron::time_zone("Europe/Berlin").expect("a zone");
    if let Some(next) = schedule.next(after, &zone) {
        assert!(next > after, "{text:?}: {next}");
    }
});
