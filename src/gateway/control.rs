//! The control runtime: a thread of its own for the admin listener, health checks and sweeping, so
//! that they answer while the workers are saturated.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    task::AbortHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{Shared, view::View};
use crate::{
    admin,
    upstream::{self, UpstreamGroup},
};

/// The control thread and the way to give it work.
#[derive(Clone)]
pub(super) struct Control {
    handle: Handle,
    stop: CancellationToken,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// The health checks of one upstream; dropping them ends them.
pub(super) struct Checks {
    group: Arc<UpstreamGroup>,
    task: AbortHandle,
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Control {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::Builder::new()
            .name("tollgate-control".to_owned())
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self {
            handle,
            stop,
            thread: Arc::new(Mutex::new(Some(thread))),
        })
    }

    /// The control runtime, for what goes on beside requests.
    pub(super) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Health checks for these upstreams; those of unchanged ones go on undisturbed.
    pub(super) fn watch(
        &self,
        upstreams: &BTreeMap<Arc<str>, Arc<UpstreamGroup>>,
        mut running: BTreeMap<Arc<str>, Checks>,
    ) -> BTreeMap<Arc<str>, Checks> {
        upstreams
            .iter()
            .filter(|(_, group)| group.config.health_check.is_some())
            .map(|(name, group)| {
                let unchanged = running
                    .remove(name)
                    .filter(|checks| Arc::ptr_eq(&checks.group, group));
                let checks = unchanged.unwrap_or_else(|| Checks {
                    group: Arc::clone(group),
                    task: self
                        .handle
                        .spawn(upstream::watch(Arc::clone(group)))
                        .abort_handle(),
                });
                (Arc::clone(name), checks)
            })
            .collect()
    }

    /// Serves the admin listener and sweeps pools until the gateway stops.
    pub(super) fn serve(
        &self,
        shared: &Arc<Shared>,
        listener: Option<std::net::TcpListener>,
    ) -> Option<SocketAddr> {
        self.handle.spawn(sweep(Arc::downgrade(shared)));
        let listener = listener?;
        let address = listener.local_addr().ok();
        let view = Arc::new(View::new(shared, self.clone()));
        let config = shared.running().config.admin.clone();
        let stop = self.stop.clone();
        self.handle.spawn(async move {
            if let Err(error) = admin::serve(listener, &config, view, stop).await {
                tracing::error!(%error, "the admin listener ended");
            }
        });
        address
    }

    /// Runs what may take a while away from the control thread.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.handle.spawn_blocking(work).await.ok()
    }

    pub(super) fn stop(&self) {
        self.stop.cancel();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

/// Closes idle upstream connections that are past their time.
async fn sweep(shared: std::sync::Weak<Shared>) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        match shared.upgrade() {
            Some(shared) => shared.sweep(),
            None => return,
        }
    }
}

const SWEEP: Duration = Duration::from_secs(1);
const BLOCKING_THREADS: usize = 4;
