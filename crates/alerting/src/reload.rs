//! Reads the rules again when their files change, or when it is asked to.
//!
//! Changes are found by looking at every file's facts once a second, which works on every file system and through the links of a
//! mounted ConfigMap. A file that cannot be used keeps the rules and channels that it had, with the problem shown.

use std::path::PathBuf;
use std::time::Duration;

use promql::Features;
use rules::{Loaded, Mark};
use runtime::Shutdown;
use tokio::sync::{mpsc, oneshot};

use crate::Error;
use crate::engine::Message;
use crate::metrics::Metrics;

/// How often files are looked at: what one types is there before one looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Someone who wants the rules read again, and is told the problems.
pub(crate) type Asked = oneshot::Sender<Vec<String>>;

/// Reads the rules, and knows what they were before.
pub(crate) struct Reloader {
    path: Option<PathBuf>,
    features: Features,
    marks: Vec<Mark>,
    good: Loaded,
    metrics: Metrics,
}

impl Reloader {
    /// Reads the rules for the first time. Blocks.
    pub(crate) fn new(path: Option<PathBuf>, features: Features, metrics: Metrics) -> Self {
        let mut this = Reloader { path, features, marks: Vec::new(), good: Loaded::default(), metrics };
        this.read();
        this
    }

    /// The rules as they were read last, with those of bad files as they were before.
    pub(crate) fn loaded(&self) -> &Loaded {
        &self.good
    }

    /// Whether a file changed since. Blocks.
    fn changed(&self) -> bool {
        self.path.as_ref().is_some_and(|path| rules::marks(path) != self.marks)
    }

    /// Reads the rules. Blocks.
    fn read(&mut self) {
        let Some(path) = &self.path else { return };
        // Before the files, so that a change in between is seen the next time.
        self.marks = rules::marks(path);
        let loaded = rules::load(path, &self.features);
        for problem in &loaded.problems {
            tracing::warn!(file = problem.file, "{problem}");
        }
        let outcome = if loaded.bad_files().is_empty() { "good" } else { "bad" };
        self.metrics.reloads.with_label_values(&[outcome]).inc();
        tracing::info!(
            rules = loaded.rules.len(),
            channels = loaded.channels.len(),
            problems = loaded.problems.len(),
            "rules read"
        );
        self.good = merge(loaded, std::mem::take(&mut self.good));
    }
}

/// What was loaded, and of bad files what they had before and have not now.
fn merge(mut loaded: Loaded, before: Loaded) -> Loaded {
    let bad: Vec<String> = loaded.bad_files().into_iter().map(str::to_owned).collect();
    let is_bad = |file: &str| {
        bad.iter()
            .any(|bad| file.strip_prefix(bad.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    };
    for rule in before.rules.into_iter().filter(|r| is_bad(&r.file)) {
        if loaded.rules.iter().all(|r| r.uid != rule.uid) {
            loaded.rules.push(rule);
        }
    }
    for channel in before.channels.into_iter().filter(|c| is_bad(&c.file)) {
        if loaded.channels.iter().all(|c| c.id != channel.id) {
            loaded.channels.push(channel);
        }
    }
    loaded
}

/// Watches until it is asked to stop.
pub(crate) async fn run(
    mut reloader: Reloader,
    mut asked: mpsc::Receiver<Asked>,
    engine: mpsc::Sender<Message>,
    mut shutdown: Shutdown,
) -> Result<(), Error> {
    loop {
        let wants = tokio::select! {
            () = shutdown.asked() => return Ok(()),
            wants = asked.recv() => wants,
            () = tokio::time::sleep(PERIOD) => None,
        };
        let force = wants.is_some();
        let read = tokio::task::spawn_blocking(move || {
            let read = force || reloader.changed();
            if read {
                reloader.read();
            }
            (reloader, read)
        });
        let read_now;
        (reloader, read_now) = read.await.map_err(|_| Error::Stopped("reading the rules panicked"))?;
        if read_now {
            let (done, used) = oneshot::channel();
            let message = Message::Files { loaded: Box::new(reloader.loaded().clone()), done };
            if engine.send(message).await.is_err() || used.await.is_err() {
                return if shutdown.is_asked() { Ok(()) } else { Err(Error::Stopped("the engine ended")) };
            }
        }
        if let Some(wants) = wants {
            let problems = reloader.loaded().problems.iter().map(ToString::to_string).collect();
            // Whoever asked may have gone.
            let _ = wants.send(problems);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(text: &str) -> Loaded {
        rules::load_text(text, "a.yaml", &Features::default())
    }

    #[test]
    fn a_bad_file_keeps_what_it_had_and_takes_what_is_good() {
        let rule = |name: &str, expr: &str| {
            format!(
                "---\napiVersion: weir.dev/v1alpha1\nkind: AlertRule\nmetadata: {{name: {name}}}\nspec: {{expr: {expr}}}\n"
            )
        };
        let before = loaded(&(rule("a", "1") + &rule("b", "1") + &rule("c", "1")));
        let after = loaded(&(rule("a", "2") + &rule("b", "'2 +'")));
        let merged = merge(after, before.clone());
        let shown: Vec<_> = merged.rules.iter().map(|r| format!("{}={}", r.name, r.query)).collect();
        assert_eq!(shown, ["a=2", "b=1", "c=1"]);
        assert_eq!(merged.problems.len(), 1);
        let good = merge(loaded(&rule("a", "2")), before);
        assert_eq!(good.rules.len(), 1);
    }
}
