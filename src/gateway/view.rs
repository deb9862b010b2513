//! v
use std::sync::Arc;
use super::{Shared, control::Control};
pub(super) struct View;
impl View { pub(super) fn new(_: &Arc<Shared>, _: Control) -> Self { View } }
