//! The arguments of the controller.

use std::collections::BTreeSet;

use crate::error::Error;

/// How resources are reconciled.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where alerting is, such as http://weir-alerting:9360
    #[arg(long, env = "WEIR_ALERTING_URL", value_name = "URL")]
    pub alerting_url: String,

    /// Where query is; asked whether a new rule selects anything now. Without it nobody is asked
    #[arg(long, env = "WEIR_QUERY_URL", value_name = "URL")]
    pub query_url: Option<String>,

    /// The label that confines a rule to the series of its own namespace
    #[arg(long, env = "WEIR_NAMESPACE_LABEL", value_name = "NAME", default_value = "namespace")]
    pub namespace_label: String,

    /// Namespaces whose rules see all series, separated by commas
    #[arg(long, env = "WEIR_GLOBAL_RULE_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub global_rule_namespaces: Vec<String>,

    /// The namespaces whose resources it reconciles, separated by commas; all where none is given
    #[arg(long, env = "WEIR_WATCH_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// The controller's own namespace, for its lease and its certificate
    #[arg(long, env = "WEIR_NAMESPACE", value_name = "NAME", default_value = "weir")]
    pub namespace: String,

    /// The name of its lease, of the Secret with its certificate (with -webhook behind), and of its webhook configuration
    #[arg(long, env = "WEIR_CONTROLLER_NAME", value_name = "NAME", default_value = "weir-controller")]
    pub controller_name: String,

    /// Address of the admission webhook, HTTPS; port 0 takes one that is free
    #[arg(long, env = "WEIR_WEBHOOK_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:9361")]
    pub webhook_listen: String,

    /// The Service, with port 443, behind which the API server finds the webhook
    #[arg(long, env = "WEIR_WEBHOOK_SERVICE", value_name = "NAME", conflicts_with = "webhook_url")]
    pub webhook_service: Option<String>,

    /// Outside of a cluster, the URL at which the API server finds the webhook; port 0 stands for the one that it listens on
    #[arg(long, env = "WEIR_WEBHOOK_URL", value_name = "URL")]
    pub webhook_url: Option<String>,

    /// The ClusterRole that owns the webhook configuration, so that it goes when the role does
    #[arg(long, env = "WEIR_OWNER_CLUSTER_ROLE", value_name = "NAME")]
    pub owner_cluster_role: Option<String>,

    /// What alerting has switched on in the language; set by the program that starts it.
    #[arg(skip)]
    pub features: rules::Features,
}

/// Most namespaces that can be named: each is two watches. Who has more has all watched.
const WATCHED_MAX: usize = 100;

impl Args {
    /// What this installation is called in the status of what it reconciles: where its lease is.
    pub fn instance(&self) -> String {
        format!("{}/{}", self.namespace, self.controller_name)
    }

    /// What clap cannot know to be wrong.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refused = |flag, reason| Err(Error::Argument { flag, reason });
        if !self.alerting_url.starts_with("http") {
            return refused("alerting-url", format!("{:?} must be http://HOST… or https://HOST…", self.alerting_url));
        }
        if self.watch_namespaces.len() > WATCHED_MAX {
            return refused("watch-namespaces", format!("more than {WATCHED_MAX}; leave it out to have all watched"));
        }
        if let Some(bad) = self.watch_namespaces.iter().find(|name| rules::name::check_label(name).is_err()) {
            return refused("watch-namespaces", format!("{bad:?} is not the name of a namespace"));
        }
        Ok(())
    }

    /// What is watched: each namespace once, or `None` for all.
    pub(crate) fn watched(&self) -> Vec<Option<String>> {
        let names: BTreeSet<&String> = self.watch_namespaces.iter().collect();
        if names.is_empty() { vec![None] } else { names.into_iter().cloned().map(Some).collect() }
    }

    /// The labels to which the rules of a namespace are confined.
    pub fn scope(&self, namespace: &str) -> rules::handover::Scope {
        if self.global_rule_namespaces.iter().any(|global| global == namespace) {
            return rules::handover::Scope::new();
        }
        [(self.namespace_label.clone(), namespace.to_owned())].into()
    }
}
