//! What runs, in the order in which it was started; it is stopped in the reverse order, each part drained before the next is asked.
//!
//! So a part never loses what it depends on while it drains. The listener stops before all: requests in flight still find
//! everything. The price is that the times to drain add up.

use std::future::Future;

use axum::Router;
use futures_util::future::select_all;
use tokio::task::{JoinError, JoinHandle};

use crate::error::chain;
use crate::{Component, Ended, Error, Shutdown, ShutdownTrigger};

/// The parts of a process.
#[derive(Debug, Default)]
pub struct Stages {
    /// In the order of their stopping from the end; the listener is put last whenever it was started.
    running: Vec<Stage>,
    listener: Option<Stage>,
    /// Of the component that is starting, kept here so that giving up the start asks it to stop.
    starting: Option<ShutdownTrigger>,
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    trigger: ShutdownTrigger,
    ended: JoinHandle<Ended>,
}

impl Stage {
    fn spawn<F>(name: &'static str, run: impl FnOnce(Shutdown) -> F) -> Stage
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        let (trigger, shutdown) = Shutdown::new();
        Stage { name, trigger, ended: tokio::spawn(run(shutdown)) }
    }
}

impl Stages {
    /// Runs the listener, which is the first to be stopped.
    pub fn serve<F>(&mut self, run: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.listener = Some(Stage::spawn("listener", run));
    }

    /// Runs something that is no component.
    pub fn task<F>(&mut self, name: &'static str, run: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = Ended> + Send + 'static,
    {
        self.running.push(Stage::spawn(name, run));
    }

    /// For the component that is started next.
    pub fn shutdown(&mut self) -> Shutdown {
        let (trigger, shutdown) = Shutdown::new();
        self.starting = Some(trigger);
        shutdown
    }

    /// Takes the component that got the last [`Stages::shutdown`], and gives its routes.
    pub fn push(&mut self, component: Component) -> Router {
        let trigger = self.starting.take().unwrap_or_else(|| Shutdown::new().0);
        self.running.push(Stage { name: component.name, trigger, ended: tokio::spawn(component.drained) });
        component.router
    }

    /// Resolves when a part ends by itself, with its reason. Cancel-safe. There must be a part.
    pub async fn first_failure(&mut self) -> Error {
        let all = self.running.iter_mut().chain(self.listener.as_mut());
        let (ended, at, _) = select_all(all.map(|stage| &mut stage.ended)).await;
        let stage = if at < self.running.len() { Some(self.running.remove(at)) } else { self.listener.take() };
        let part = stage.map_or("a part", |stage| stage.name);
        match flat(ended) {
            Ok(()) => Error::EndedUnasked(part),
            Err(source) => Error::Failed { part, source },
        }
    }

    /// Stops everything, the last that was started first. Goes on past a part that ends with an error, which is logged; whether all
    /// ended well.
    pub async fn stop(&mut self) -> bool {
        drop(self.starting.take());
        self.running.extend(self.listener.take());
        let mut well = true;
        while let Some(stage) = self.running.pop() {
            stage.trigger.ask();
            match flat(stage.ended.await) {
                Ok(()) => tracing::debug!("{} has drained", stage.name),
                Err(error) => {
                    tracing::error!("stopping {}: {}", stage.name, chain(&*error));
                    well = false;
                }
            }
        }
        well
    }
}

fn flat(ended: Result<Ended, JoinError>) -> Ended {
    ended?
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<&'static str>>>);

    impl Notes {
        fn component(&self, name: &'static str, mut shutdown: Shutdown, end: Ended) -> Component {
            let notes = self.clone();
            let drained = Box::pin(async move {
                shutdown.asked().await;
                notes.0.lock().expect("not poisoned").push(name);
                end
            });
            Component { name, router: Router::new(), drained }
        }
    }

    #[tokio::test]
    async fn parts_stop_in_the_reverse_order_of_their_start_and_the_listener_first() {
        let (mut stages, notes) = (Stages::default(), Notes::default());
        let listener = notes.clone();
        stages.serve(|shutdown| listener.component("listener", shutdown, Ok(())).drained);
        for name in ["queue", "storage"] {
            let shutdown = stages.shutdown();
            let _ = stages.push(notes.component(name, shutdown, Ok(())));
        }
        assert!(stages.stop().await);
        assert_eq!(*notes.0.lock().expect("not poisoned"), ["listener", "storage", "queue"]);
    }

    #[tokio::test]
    async fn a_part_that_cannot_go_on_is_named_and_the_others_still_drain() {
        let (mut stages, notes) = (Stages::default(), Notes::default());
        let shutdown = stages.shutdown();
        let _ = stages.push(notes.component("queue", shutdown, Err("disk on fire".into())));
        stages.task("storage", |_| async { Err("corrupt".into()) });
        assert_eq!(chain(&stages.first_failure().await), "storage cannot go on: corrupt");
        assert!(!stages.stop().await, "the queue ended badly");
        assert_eq!(*notes.0.lock().expect("not poisoned"), ["queue"]);
    }

    #[tokio::test]
    async fn a_start_that_is_given_up_is_asked_to_stop() {
        let mut stages = Stages::default();
        let mut shutdown = stages.shutdown();
        assert!(stages.stop().await);
        shutdown.asked().await;
    }
}
