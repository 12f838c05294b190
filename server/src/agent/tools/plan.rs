//! `plan`: the steps the model means to take, shown to the user and kept when older messages go.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::store::events::PlanItem;

pub(in crate::agent) const NAME: &str = "plan";
pub(in crate::agent) const ABOUT: &str = "Sets the list of steps of this task, each pending, in_progress or done. Set it anew when it changes.";

/// Steps at most.
pub(in crate::agent) const MOST: usize = 50;

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
pub(in crate::agent) struct Arguments {
    pub(in crate::agent) items: Vec<PlanItem>,
}
