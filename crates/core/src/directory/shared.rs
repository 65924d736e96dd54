//! Rules that many accounts share.

use std::collections::HashMap;
use std::sync::Arc;

use super::account::Part;
use crate::name::GroupName;
use crate::rules::RuleSet;

/// The rules of groups and of everyone.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared {
    pub(super) groups: HashMap<GroupName, Part<Arc<RuleSet>>>,
    pub(super) everyone: Part<Arc<RuleSet>>,
}
