//! Makes a failing episode as small as it can be and still fail.

use crate::{Episode, Outcome, run};

/// Leaves out whatever is not needed for a failure; the outcome comes with its trace.
pub fn shorten(failed: &Outcome, seed: u64) -> (Episode, Outcome) {
    let mut best = Episode {
        seed,
        deeds: Some(failed.deeds.clone()),
        faults: Some(failed.faults),
        with_trace: false,
    };
    let mut fails = |candidate: &Episode| !run(candidate).violations.is_empty();
    loop {
        let before = best.clone();
        leave_out_faults(&mut best, &mut fails);
        leave_out_deeds(&mut best, &mut fails);
        if before.deeds.as_ref().map(Vec::len) == best.deeds.as_ref().map(Vec::len) && before.faults == best.faults {
            break;
        }
    }
    best.with_trace = true;
    let outcome = run(&best);
    (best, outcome)
}

fn leave_out_faults(best: &mut Episode, fails: &mut impl FnMut(&Episode) -> bool) {
    let Some(faults) = best.faults else { return };
    for index in 0..9 {
        let mut fewer = best.faults.unwrap_or(faults);
        let fault = match index {
            0 => &mut fewer.refused,
            1 => &mut fewer.unwell,
            2 => &mut fewer.conflict,
            3 => &mut fewer.unanswered,
            4 => &mut fewer.late,
            5 => &mut fewer.crash,
            6 => &mut fewer.stall,
            7 => &mut fewer.cut,
            _ => &mut fewer.twice,
        };
        if *fault == 0.0 {
            continue;
        }
        *fault = 0.0;
        let candidate = Episode {
            faults: Some(fewer),
            ..best.clone()
        };
        if fails(&candidate) {
            *best = candidate;
        }
    }
}

fn leave_out_deeds(best: &mut Episode, fails: &mut impl FnMut(&Episode) -> bool) {
    let mut index = best.deeds.as_ref().map_or(0, Vec::len);
    while index > 0 {
        index -= 1;
        let mut fewer = best.deeds.clone().unwrap_or_default();
        fewer.remove(index);
        let candidate = Episode {
            deeds: Some(fewer),
            ..best.clone()
        };
        if fails(&candidate) {
            *best = candidate;
        }
    }
}
