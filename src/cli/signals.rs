//! Signals to orders: drain, end at once, reload, reopen the logs.
//!
//! They are the command's business and not the gateway's, so that a test can drive a gateway
//! without them.

use std::io;

use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
};

use super::output::{Failure, Outcome};
use crate::gateway::Gateway;

/// The signals that a gateway obeys, and a small runtime to wait for them.
pub(super) struct Signals {
    runtime: Runtime,
    received: Received,
}

struct Received {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
}

enum Order {
    Stop,
    Reload,
    ReopenLogs,
}

impl Signals {
    /// Takes the signals over from now on.
    pub(super) fn listen() -> Result<Self, Failure> {
        Self::new().map_err(|error| Failure::run("signals", &error))
    }

    fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let received = {
            let _inside = runtime.enter();
            Received {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: signal(SignalKind::hangup())?,
                user1: signal(SignalKind::user_defined1())?,
            }
        };
        Ok(Self { runtime, received })
    }

    /// Obeys until the gateway has drained, or a second signal ends it at once.
    pub(super) fn obey(&mut self, gateway: &Gateway) -> Outcome {
        let received = &mut self.received;
        self.runtime.block_on(async {
            received.serve(gateway).await;
            received.drain(gateway).await
        })
    }
}

impl Received {
    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.terminate.recv() => Order::Stop,
            _ = self.interrupt.recv() => Order::Stop,
            _ = self.hangup.recv() => Order::Reload,
            _ = self.user1.recv() => Order::ReopenLogs,
        }
    }

    async fn serve(&mut self, gateway: &Gateway) {
        loop {
            match self.next().await {
                Order::Stop => return,
                // A refused reload has logged its findings.
                Order::Reload => drop(gateway.reload()),
                Order::ReopenLogs => gateway.reopen_logs(),
            }
        }
    }

    async fn drain(&mut self, gateway: &Gateway) -> Outcome {
        // Said when it is so: whoever reads the line may ask for readiness at once.
        gateway.drain();
        tracing::info!("draining; a second signal ends at once");
        let drained = gateway.drained();
        tokio::pin!(drained);
        loop {
            let order = tokio::select! {
                () = &mut drained => break,
                order = self.next() => order,
            };
            match order {
                Order::Stop => {
                    gateway.abort();
                    return Err(Failure::Run("ended before the drain was over".to_owned()));
                }
                Order::Reload => tracing::warn!("not reloading: draining"),
                Order::ReopenLogs => gateway.reopen_logs(),
            }
        }
        tracing::info!("drained");
        Ok(())
    }
}
