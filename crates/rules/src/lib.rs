//! What a rule and a notification channel are: the documents in which people write them, how those are checked, and how a folder of
//! them is read. `AlertRule` and `NotificationChannel` are the same documents as the custom resources; Prometheus' rule files load too.
//!
//! Nothing here evaluates or notifies. One bad document stops only itself: everything else of a folder is used, and the
//! problem is told with its file, document, line and path.
//!
//! Architecture invariant: no clock, no network; the only input is the files that [`load`] is asked to read.

pub mod channel;
mod check;
pub mod document;
pub mod error;
pub mod handover;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
pub mod load;
pub mod name;
pub mod prometheus;
pub mod rule;
pub mod target;
pub mod template;
pub mod yaml;

pub use channel::{Channel, Webhook};
pub use document::{AlertRule, NotificationChannel};
pub use error::{Error, Problem, Severity};
/// The experimental parts of the language; what is checked must be what is evaluated.
pub use promql::Features;

pub use load::{Loaded, Mark, load, load_for_tests, load_strictly, load_text, marks};
pub use rule::{Alerting, Kind, Rule};
pub use template::{Data, Template};
