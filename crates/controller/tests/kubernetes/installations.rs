//! Several installations in one cluster: each resource is managed by one, and the others leave it alone and say so.

use serde_json::{Value, json};

use crate::support::cluster::{ACCOUNT, Cluster, cluster};
use crate::support::double::Alerting;
use crate::support::{rule, until};

/// An account with the rights that [`grant`] gives it.
const CONFINED: &str = "system:serviceaccount:weir:weir-confined";

/// What an installation called `weir-other` needs in the namespace weir beside what the manifest gives its account.
async fn grant(cluster: &Cluster, account: &str, namespace: &str, rules: Value) {
    let name = format!("test-{account}");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": name, "namespace": namespace}, "rules": rules});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": "weir"}]});
    cluster.apply(role).await.expect("applied");
    cluster.apply(binding).await.expect("applied");
}

fn own_lease() -> Value {
    json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]})
}

fn has(alerting: &Alerting, name: &str) -> bool {
    alerting.uid(name).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_installations_one_manages_a_rule_and_the_other_says_so_and_takes_it_once_the_first_is_gone() {
    let Some(cluster) =
        cluster("of_two_installations_one_manages_a_rule_and_the_other_says_so_and_takes_it_once_the_first_is_gone")
            .await
    else {
        return;
    };
    let (first_alerting, other_alerting) = (Alerting::start().await, Alerting::start().await);
    let first = cluster.controller(&first_alerting, "one").await;
    cluster.apply(rule("a", "up == 0")).await.expect("admitted");
    let status = cluster.ready("AlertRule", "a", "True", "Ready").await;
    assert_eq!(status["managedBy"], "weir/weir-controller");

    grant(&cluster, "weir-controller", "weir", json!([own_lease()])).await;
    let mut args = cluster.args(&other_alerting);
    (args.controller_name, args.webhook_url) = ("weir-other".to_owned(), None);
    let other = cluster.controller_of(args, ACCOUNT, "two").await;
    until(async || match other.metric("weir_controller_foreign_resources") {
        1.0 => Ok(()),
        left => Err(format!("{left} are left alone")),
    })
    .await;
    // A new one is taken by one of them, and not by both.
    cluster.apply(rule("b", "up == 0")).await.expect("admitted");
    until(async || {
        let status = cluster.status("AlertRule", "b").await;
        let owners = [has(&first_alerting, "b"), has(&other_alerting, "b")];
        let is = match status["managedBy"].as_str() {
            Some("weir/weir-controller") => owners == [true, false],
            Some("weir/weir-other") => owners == [false, true],
            _ => false,
        };
        if is { Ok(()) } else { Err(format!("{status}, handed over to {owners:?}")) }
    })
    .await;
    assert!(!has(&other_alerting, "a"), "what the first one manages is not handed over to another alerting");
    first_alerting.say("a", "Firing", 1, Some("0"));
    until(async || {
        let status = cluster.status("AlertRule", "a").await;
        if status["state"] == "Firing" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;

    // Stopped is not gone; uninstalled is.
    first.stop().await;
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"namespace": "weir"}});
    cluster.api(&lease).delete("weir-controller", &Default::default()).await.expect("deleted");
    until(async || {
        let status = cluster.status("AlertRule", "a").await;
        let is = status["managedBy"] == "weir/weir-other" && status["state"] == "Inactive";
        if is && has(&other_alerting, "a") && has(&other_alerting, "b") { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    until(async || match other.metric("weir_controller_foreign_resources") {
        0.0 => Ok(()),
        left => Err(format!("{left} are left alone")),
    })
    .await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_confined_to_a_namespace_needs_rights_in_that_one_only_and_leaves_the_others() {
    let Some(cluster) =
        cluster("a_controller_that_is_confined_to_a_namespace_needs_rights_in_that_one_only_and_leaves_the_others")
            .await
    else {
        return;
    };
    // As the chart grants it: no cluster role but for leases by name, which other installations have.
    grant(&cluster, "weir-confined", "weir", json!([own_lease()])).await;
    let own = json!([
        {"apiGroups": ["weir.dev"], "resources": ["alertrules", "notificationchannels"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["weir.dev"], "resources": ["alertrules/status", "notificationchannels/status"], "verbs": ["get", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create", "patch"]},
    ]);
    grant(&cluster, "weir-confined", "shop", own).await;
    let alerting = Alerting::start().await;
    let mut args = cluster.args(&alerting);
    (args.controller_name, args.webhook_url) = ("weir-other".to_owned(), None);
    args.watch_namespaces = vec!["shop".to_owned()];
    let confined = cluster.controller_of(args, CONFINED, "one").await;
    let mut elsewhere = rule("elsewhere", "up == 0");
    elsewhere["metadata"]["namespace"] = json!("weir");
    cluster.apply(elsewhere).await.expect("stored");
    cluster.apply(rule("here", "up == 0")).await.expect("stored");
    cluster.ready("AlertRule", "here", "True", "Ready").await;
    assert!(!has(&alerting, "elsewhere"), "a rule of another namespace is not handed over");
    assert_eq!(confined.metric("weir_controller_resources"), 1.0, "it is not even watched");

    // Who watches everything leaves that namespace to it, and takes the others.
    let all_alerting = Alerting::start().await;
    let all = cluster.controller(&all_alerting, "two").await;
    until(async || if has(&all_alerting, "elsewhere") { Ok(()) } else { Err("not handed over".to_owned()) }).await;
    assert!(!has(&all_alerting, "here"));
    assert_eq!(cluster.status("AlertRule", "here").await["managedBy"], "weir/weir-other");
    all.stop().await;

    // Confined to another namespace, the first one gives this one up, though it is there.
    confined.stop().await;
    let mut args = cluster.args(&alerting);
    (args.controller_name, args.webhook_url) = ("weir-other".to_owned(), None);
    args.watch_namespaces = vec!["bank".to_owned()];
    let confined = cluster.controller_of(args, CONFINED, "three").await;
    let all = cluster.controller(&all_alerting, "four").await;
    until(async || {
        let status = cluster.status("AlertRule", "here").await;
        if status["managedBy"] == "weir/weir-controller" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    confined.stop().await;
    all.stop().await;
}
