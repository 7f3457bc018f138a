//! The validation of what a description says about other workers. Pure.

use super::gift::Gift;
use super::invalid::InvalidWorker;
use super::limits::{
    AFTER_LIMIT, CLASS_LIMIT, GROUP_LIMIT, NAME_LIMIT, TEMPLATE_LIMIT, TEXT_LIMIT,
};
use super::policy::{EntryPoint, WorkerFlags};
use super::relations::Relations;
use super::text::{not_empty, shown_text};
use super::validate_restart::RestartDraft;

pub(super) fn check_relations(
    own_name: &str,
    relations: &Relations,
    flags: WorkerFlags,
    restart: &RestartDraft,
) -> Result<(), InvalidWorker> {
    let Relations { after, group, class, .. } = relations;
    if after.len() > AFTER_LIMIT {
        let (field, value) = ("after", format!("{} workers", after.len()));
        return Err(InvalidWorker::OutOfRange { field, value, limit: "8" });
    }
    for (name, _) in after {
        shown_text("after", name, NAME_LIMIT)?;
        not_empty("after", name)?;
        if name == own_name {
            return Err(unfit("after", name, "another worker: this is its own name"));
        }
    }
    if let Some(name) = class {
        shown_text("class", name, CLASS_LIMIT)?;
        not_empty("class", name)?;
        if flags.contains(WorkerFlags::CLASS_PARALLEL) {
            return Err(unfit("class", name, "a worker without CLASS_PARALLEL"));
        }
    }
    if let Some(name) = group {
        shown_text("group", name, GROUP_LIMIT)?;
        not_empty("group", name)?;
        check_member(name, flags, restart)?;
    }
    Ok(())
}

/// Only a function of the program can be forked from a process of the program.
pub(super) fn check_template(
    relations: &Relations,
    entry: &EntryPoint,
) -> Result<(), InvalidWorker> {
    let Some(name) = &relations.template else { return Ok(()) };
    shown_text("template", name, TEMPLATE_LIMIT)?;
    not_empty("template", name)?;
    if !matches!(entry, EntryPoint::Function(_)) {
        return Err(unfit("template", name, "a function"));
    }
    Ok(())
}

/// The names that lie in a slot behind the text of the entry point.
pub(super) fn check_names(
    relations: &Relations,
    gifts: &[Gift],
    entry: &EntryPoint,
) -> Result<(), InvalidWorker> {
    let text = match entry {
        EntryPoint::Library { path, .. } => path.len(),
        EntryPoint::Command { program, args } => {
            args.iter().map(|arg| arg.len() + 1).sum::<usize>() + program.len()
        }
        EntryPoint::Function(_) => 0,
    };
    let names = relations.len() + Gift::len(gifts);
    let len = text + names;
    if names > 0 && len > TEXT_LIMIT {
        let field = if gifts.is_empty() {
            "after, group and template, with command or library,"
        } else {
            "after, group, template and give, with command or library,"
        };
        return Err(InvalidWorker::TooLong { field, len, limit: TEXT_LIMIT });
    }
    Ok(())
}

/// A group has a limit for all its members, and no member has one of its own.
fn check_member(
    group: &str,
    flags: WorkerFlags,
    restart: &RestartDraft,
) -> Result<(), InvalidWorker> {
    if flags.contains(WorkerFlags::CLASS_PARALLEL) {
        return Err(unfit("group", group, "a worker without CLASS_PARALLEL"));
    }
    let needs = "a worker in no group: a group has a limit for all its members";
    if let Some((restarts, within)) = restart.give_up {
        let value = format!("{restarts} restarts in {within:?}");
        return Err(InvalidWorker::Unfit { field: "give_up", value, needs });
    }
    if let Some(attempts) = restart.start_attempts {
        let value = attempts.to_string();
        return Err(InvalidWorker::Unfit { field: "start_attempts", value, needs });
    }
    Ok(())
}

fn unfit(field: &'static str, name: &str, needs: &'static str) -> InvalidWorker {
    InvalidWorker::Unfit { field, value: format!("{name:?}"), needs }
}
