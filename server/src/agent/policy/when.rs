//! Rules for some tasks alone: those taken for some kinds of work, or with so much at stake.
//!
//! Holds: they tighten what the rules for all tasks say, whichever layer they are in. So a request
//! that is taken for another kind than it is gets no more than any task does.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::rule::{Commands, Hosts, Paths, PolicyFile, Rule, Tools, check_quotas};
use super::{Layer, Policy};
use crate::agent::Mode;
use crate::agent::governor::{Ceilings, Limits};
use crate::agent::intake::Taken;
use crate::store::events::{Risk, Scenario};

/// One `[[when]]` of a policy file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct When {
    /// Kinds of work it is for; all when not given.
    scenario: Vec<Scenario>,
    /// Risks it is for; all when not given.
    risk: Vec<Risk>,
    /// Why such tasks are out of scope.
    deny: Option<String>,
    /// The most that such a task may do.
    mode: Option<Mode>,
    limits: Limits,
    quotas: BTreeMap<String, u32>,
    command: Vec<Rule<Commands>>,
    path: Vec<Rule<Paths>>,
    tool: Vec<Rule<Tools>>,
    network: Vec<Rule<Hosts>>,
}

/// What the rules say of a task before it begins.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// Ceilings over all others.
    limits: Limits,
    /// The most it may do, and by which file.
    mode: Option<(Mode, String)>,
    /// Why it may not be done at all.
    denied: Option<String>,
}

impl When {
    /// # Errors
    /// What is wrong, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.scenario.is_empty() && self.risk.is_empty() {
            return Err("`[[when]]` needs `scenario` or `risk`".into());
        }
        if self.mode == Some(Mode::Auto) {
            return Err("`mode = \"auto\"` under `[[when]]` takes nothing away".into());
        }
        self.limits.check()?;
        check_quotas(&self.quotas)?;
        check(&self.command)?;
        check(&self.path)?;
        check(&self.tool)?;
        check(&self.network)
    }

    fn rules(&self) -> PolicyFile {
        let mut file = PolicyFile::default();
        file.quotas.clone_from(&self.quotas);
        file.command.clone_from(&self.command);
        file.path.clone_from(&self.path);
        file.tool.clone_from(&self.tool);
        file.network.clone_from(&self.network);
        file
    }

    fn is_for(&self, taken: Taken) -> bool {
        (self.scenario.is_empty() || self.scenario.contains(&taken.scenario))
            && (self.risk.is_empty() || self.risk.contains(&taken.risk))
    }
}

fn check<A: super::About>(rules: &[Rule<A>]) -> Result<(), String> {
    for rule in rules {
        rule.check()?;
        if !rule.tightens() {
            return Err(format!(
                "the rule for `{}` under `[[when]]` allows; there rules can only ask and deny",
                rule.about.name()
            ));
        }
    }
    Ok(())
}

impl Policy {
    /// The rules for a task that was taken for this: those for all tasks, and what tightens them.
    #[must_use]
    pub fn narrowed(mut self, taken: Taken) -> Self {
        let mut layers = Vec::new();
        let mut scope = Scope::default();
        for layer in &self.layers {
            for when in layer.file.when.iter().filter(|when| when.is_for(taken)) {
                let place = layer.origin.shown();
                scope.limits = scope.limits.tighter(&when.limits);
                if let Some(mode) = when.mode
                    && scope.mode.as_ref().is_none_or(|(most, _)| mode < *most)
                {
                    scope.mode = Some((mode, place.clone()));
                }
                if let (Some(why), None) = (&when.deny, &scope.denied) {
                    let kind = taken.scenario.name();
                    let risk = taken.risk.name();
                    scope.denied = Some(format!(
                        "{why} (tasks of {risk} risk taken for {kind}, by {place})"
                    ));
                }
                layers.push(Layer {
                    origin: layer.origin.clone(),
                    file: when.rules(),
                });
            }
        }
        self.layers.extend(layers);
        self.scope = scope;
        self
    }

    /// The ceilings of a task that asks for these.
    pub fn ceilings(&self, asked: &Limits) -> Ceilings {
        Ceilings::of(&self.limits().tighter(asked)).within(&self.scope.limits)
    }

    /// What a task may do that was asked for in `mode`: that, or less, and by which file.
    pub fn at_most(&self, mode: Mode) -> (Mode, Option<&str>) {
        match &self.scope.mode {
            Some((most, by)) if *most < mode => (*most, Some(by)),
            _ => (mode, None),
        }
    }

    /// Why the task may not be done at all.
    pub fn out_of_scope(&self) -> Option<&str> {
        self.scope.denied.as_deref()
    }
}

#[cfg(test)]
mod tests;
