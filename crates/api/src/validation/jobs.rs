//! What valid Jobs and CronJobs are.

use super::place::{Errors, Place};
use super::{names, pods, selectors};
use crate::cron::{Schedule, time_zone};
use crate::error::FieldError;

/// How many pods of an indexed job may run at a time, and how many of its indexes may fail.
const PARALLEL_INDEXES_MAX: i64 = 100_000;

/// With so many indexes and a limit for each, less may run at a time, and a limit of failed indexes is needed.
const COMPLETIONS_SOFT_MAX: i64 = 100_000;

/// What may run and fail then.
const HIGH_COMPLETIONS_MAX: i64 = 10_000;

const RULES_MAX: usize = 20;
const CODES_MAX: usize = 255;
const CONDITIONS_MAX: usize = 20;

/// A CronJob's name and the time of a job must fit into the name of a pod.
const CRON_JOB_NAME_MAX: usize = 52;

const ONLY_INDEXED: &str = "requires indexed completion mode";

pub(super) fn create(job: &Place<'_>, errors: &mut Errors) {
    let spec = job.at("spec");
    self::spec(&spec, errors);
    let (name, completions) = (job.at("metadata").at("name"), spec.at("completions").number());
    if is_indexed(&spec)
        && let Some(completions) = completions.filter(|completions| *completions > 0)
    {
        let host = format!("{}-{}", name.text(), completions - 1);
        if !names::label_errors(&host).is_empty() {
            errors.push(name.invalid(format!("will not able to create pod with invalid DNS label: {host}")));
        }
    }
}

pub(super) fn update(new: &Place<'_>, old: &Place<'_>, errors: &mut Errors) {
    let (spec, old_spec) = (new.at("spec"), old.at("spec"));
    self::spec(&spec, errors);
    let fixed = [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ];
    for field in fixed {
        spec.at(field).must_not_change(&old_spec.at(field), errors);
    }
    completions(&spec, &old_spec, errors);
    // A job that does not run may still be told where and how to.
    if !old_spec.at("suspend").is_true() {
        spec.at("template").must_not_change(&old_spec.at("template"), errors);
    }
}

/// An indexed job may grow or shrink if all its pods run at once before and after.
fn completions(spec: &Place<'_>, old_spec: &Place<'_>, errors: &mut Errors) {
    let (new, old) = (spec.at("completions"), old_spec.at("completions"));
    if new.value == old.value {
        return;
    }
    if !is_indexed(spec) {
        return new.must_not_change(&old, errors);
    }
    let parallel = |spec: &Place<'_>, completions: &Place<'_>| spec.at("parallelism").number() == completions.number();
    if !parallel(spec, &new) || !parallel(old_spec, &old) {
        errors.push(new.invalid(format!(
            "can only be modified in tandem with {}",
            spec.at("parallelism").path
        )));
    }
}

pub(super) fn create_cron_job(cron_job: &Place<'_>, errors: &mut Errors) {
    let (name, spec) = (cron_job.at("metadata").at("name"), cron_job.at("spec"));
    if name.text().len() > CRON_JOB_NAME_MAX {
        errors.push(name.invalid(format!("must be no more than {CRON_JOB_NAME_MAX} characters")));
    }
    cron_job_spec(&spec, errors);
}

pub(super) fn cron_job_spec(spec: &Place<'_>, errors: &mut Errors) {
    let (schedule, zone) = (spec.at("schedule"), spec.at("timeZone"));
    if schedule.text().is_empty() {
        errors.push(schedule.required(""));
    } else if schedule.text().contains("TZ") {
        errors.push(schedule.invalid("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"));
    } else if let Err(problem) = Schedule::parse(schedule.text()) {
        errors.push(schedule.invalid(problem));
    }
    if zone.is_set() {
        match zone.text() {
            "" => errors.push(zone.invalid("timeZone must be nil or non-empty string")),
            text if text.eq_ignore_ascii_case("local") => {
                let hint = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
                errors.push(zone.invalid(hint));
            }
            text if time_zone(text).is_none() => errors.push(zone.invalid(format!("unknown time zone {text}"))),
            _ => {}
        }
    }
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        spec.at(field).must_not_be_negative(errors);
    }
    spec.at("concurrencyPolicy")
        .must_be_given_of(&["Allow", "Forbid", "Replace"], errors);
    let job = spec.at("jobTemplate").at("spec");
    if job.at("manualSelector").is_true() {
        errors.push(job.at("manualSelector").not_supported(&["nil", "false"]));
    }
    self::spec(&job, errors);
}

fn is_indexed(spec: &Place<'_>) -> bool {
    spec.at("completionMode").text() == "Indexed"
}

fn spec(spec: &Place<'_>, errors: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        spec.at(field).must_not_be_negative(errors);
    }
    let manager = spec.at("managedBy");
    if manager.is_set() {
        if !manager.text().contains('/') {
            errors.push(manager.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
        } else {
            manager.must_have_form(names::qualified_name_errors, errors);
        }
    }
    spec.at("completionMode")
        .must_be_one_of(&["Indexed", "NonIndexed"], errors);
    if is_indexed(spec) {
        indexed(spec, errors)
    } else {
        not_indexed(spec, errors)
    }
    let failed = spec.at("maxFailedIndexes");
    if failed.is_set() && !spec.at("backoffLimitPerIndex").is_set() {
        errors.push(
            spec.at("backoffLimitPerIndex")
                .required("when maxFailedIndexes is specified"),
        );
    }
    replacement(spec, errors);
    selectors::labels(&spec.at("selector"), errors);
    pods::template(&spec.at("template"), &[], errors);
    restarts(spec, errors);
    let policy = spec.at("podFailurePolicy");
    if policy.is_set() {
        failure_policy(spec, &policy, errors);
    }
}

fn indexed(spec: &Place<'_>, errors: &mut Errors) {
    let (completions, parallelism) = (spec.at("completions"), spec.at("parallelism"));
    let (failed, per_index) = (spec.at("maxFailedIndexes"), spec.at("backoffLimitPerIndex"));
    let Some(count) = completions.number() else {
        return errors.push(completions.required("when completion mode is Indexed"));
    };
    at_most(
        &parallelism,
        PARALLEL_INDEXES_MAX,
        " when completion mode is Indexed",
        errors,
    );
    if failed.number().is_some_and(|failed| failed > count) {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
    at_most(
        &failed,
        PARALLEL_INDEXES_MAX,
        " when completion mode is Indexed",
        errors,
    );
    if per_index.is_set() && count > COMPLETIONS_SOFT_MAX {
        if !failed.is_set() {
            errors.push(failed.required(&format!(
                "must be specified when completions is above {COMPLETIONS_SOFT_MAX}"
            )));
        }
        let when = format!(" when completions are above {COMPLETIONS_SOFT_MAX} and used with backoff limit per index");
        at_most(&parallelism, HIGH_COMPLETIONS_MAX, &when, errors);
        at_most(&failed, HIGH_COMPLETIONS_MAX, &when, errors);
    }
    let success = spec.at("successPolicy");
    if success.is_set() {
        success_policy(&success, count, errors);
    }
}

fn at_most(place: &Place<'_>, max: i64, when: &str, errors: &mut Errors) {
    if place.number().is_some_and(|number| number > max) {
        errors.push(place.invalid(format!("must be less than or equal to {max}{when}")));
    }
}

fn not_indexed(spec: &Place<'_>, errors: &mut Errors) {
    for field in ["backoffLimitPerIndex", "maxFailedIndexes", "successPolicy"] {
        if spec.at(field).is_set() {
            errors.push(spec.at(field).invalid(ONLY_INDEXED));
        }
    }
}

fn replacement(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.at("podReplacementPolicy");
    let allowed: &[&str] = if spec.at("podFailurePolicy").is_set() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    policy.must_be_one_of(allowed, errors);
}

fn restarts(spec: &Place<'_>, errors: &mut Errors) {
    let policy = spec.at("template").at("spec").at("restartPolicy");
    if policy.text() == "Always" {
        // Upstream asks for a valid value here, because the default of pods is none for jobs.
        errors.push(FieldError::required(
            &policy.path,
            "valid values: \"OnFailure\", \"Never\"",
        ));
    } else if spec.at("podFailurePolicy").is_set() && policy.text() != "Never" {
        errors.push(policy.invalid("only \"Never\" is supported when podFailurePolicy is specified"));
    }
}

fn failure_policy(spec: &Place<'_>, policy: &Place<'_>, errors: &mut Errors) {
    let rules = policy.at("rules");
    too_many(&rules, RULES_MAX, errors);
    for rule in rules.items() {
        let (action, codes, conditions) = (rule.at("action"), rule.at("onExitCodes"), rule.at("onPodConditions"));
        match action.text() {
            "" => errors.push(action.required("valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]")),
            "FailIndex" if !spec.at("backoffLimitPerIndex").is_set() => {
                errors.push(action.invalid("requires the backoffLimitPerIndex to be set"));
            }
            "Count" | "FailIndex" | "FailJob" | "Ignore" => {}
            _ => errors.push(action.not_supported(&["Count", "FailIndex", "FailJob", "Ignore"])),
        }
        let has_conditions = conditions.len() > 0;
        match (codes.is_set(), has_conditions) {
            (true, true) => {
                errors.push(rule.invalid("specifying both OnExitCodes and OnPodConditions is not supported"))
            }
            (false, false) => {
                errors.push(rule.invalid("specifying one of OnExitCodes and OnPodConditions is required"))
            }
            (true, false) => exit_codes(spec, &codes, errors),
            (false, true) => {
                too_many(&conditions, CONDITIONS_MAX, errors);
                for condition in conditions.items() {
                    condition
                        .at("type")
                        .must_have_form(names::qualified_name_errors, errors);
                    condition
                        .at("status")
                        .must_be_given_of(&["False", "True", "Unknown"], errors);
                }
            }
        }
    }
}

fn exit_codes(spec: &Place<'_>, codes: &Place<'_>, errors: &mut Errors) {
    codes.at("operator").must_be_given_of(&["In", "NotIn"], errors);
    let name = codes.at("containerName");
    let pod = spec.at("template").at("spec");
    let lists = ["containers", "initContainers"];
    let is_known = lists
        .iter()
        .any(|list| pod.at(list).items().any(|one| one.at("name").text() == name.text()));
    if name.is_set() && !is_known {
        errors.push(name.invalid("must be one of the container or initContainer names in the pod template"));
    }
    let values = codes.at("values");
    if values.len() == 0 {
        errors.push(values.invalid("at least one value is required"));
    }
    too_many(&values, CODES_MAX, errors);
    let mut known = Vec::new();
    for value in values.items() {
        match value.number() {
            Some(0) if codes.at("operator").text() == "In" => {
                errors.push(value.invalid("must not be 0 for the In operator"));
            }
            Some(code) if known.contains(&code) => errors.push(value.duplicate()),
            Some(code) => {
                if known.last().is_some_and(|last| *last > code) && known.iter().all(|known| *known != code) {
                    errors.push(values.invalid("must be ordered"));
                }
                known.push(code);
            }
            None => {}
        }
    }
}

fn success_policy(policy: &Place<'_>, completions: i64, errors: &mut Errors) {
    let rules = policy.at("rules");
    if rules.len() == 0 {
        errors.push(rules.required("at least one rules must be specified when the successPolicy is specified"));
    }
    too_many(&rules, RULES_MAX, errors);
    for rule in rules.items() {
        let (count, indexes) = (rule.at("succeededCount"), rule.at("succeededIndexes"));
        if !count.is_set() && !indexes.is_set() {
            errors.push(rule.required("at least one of succeededCount or succeededIndexes must be specified"));
        }
        let named = indexes.is_set().then(|| index_count(indexes.text(), completions));
        if let Some(Err(problem)) = &named {
            errors.push(indexes.invalid(problem.clone()));
        }
        count.must_not_be_negative(errors);
        let max = named.and_then(Result::ok).unwrap_or(completions);
        if count.number().is_some_and(|count| count > max) {
            errors.push(count.invalid(format!(
                "must be less than or equal to {max} (the number of specified completions)"
            )));
        }
    }
}

/// How many indexes a text such as `1,3-5` names.
fn index_count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut count, mut last) = (0, -1);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            text.parse::<i64>()
                .map_err(|_| format!("cannot convert string to integer for index: \"{text}\""))
        };
        let (from, to) = (number(from)?, number(to)?);
        if from <= last || to < from {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        if to >= completions {
            return Err(format!("too large index: \"{to}\""));
        }
        count += to - from + 1;
        last = to;
    }
    Ok(count)
}

fn too_many(list: &Place<'_>, max: usize, errors: &mut Errors) {
    if list.len() > max {
        errors.push(list.invalid(format!("must have at most {max} items")));
    }
}
