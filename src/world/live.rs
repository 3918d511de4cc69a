//! Placeholder until branch h-live is merged.
use crate::observed::Observed;
use crate::plan::Step;
use crate::topology::Topology;
use crate::world::{Failure, Progress, World};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
#[derive(Clone, Debug)]
pub struct LiveOptions {
    pub base_dir: String,
    pub timeout: Duration,
    pub interrupt: watch::Receiver<bool>,
}
pub struct Live;
impl Live {
    pub fn with_locks(self, _: super::lock::Locks) -> Self {
        self
    }
    pub async fn new(_: Arc<Topology>, _: LiveOptions) -> Result<Self, Failure> {
        Err(Failure::new("not merged yet"))
    }
}
impl World for Live {
    async fn observe(&self) -> Observed {
        Observed::default()
    }
    async fn perform(&self, _: &Step, _: &(dyn Fn(Progress) + Sync)) -> Result<(), Failure> {
        Ok(())
    }
}
