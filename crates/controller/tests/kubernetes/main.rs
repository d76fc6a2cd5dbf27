//! The controller against a real API server: `WEIR_TEST_KUBECONFIG` names its configuration. It has the rights of its own manifest and
//! no others.

#![expect(clippy::print_stderr, reason = "says which test is skipped and why")]

mod installations;
mod processes;
mod support;
mod webhook;

use serde_json::json;
use support::cluster::cluster;
use support::double::Alerting;
use support::{channel, rule, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_becomes_ready_fires_and_resolves_in_its_status() {
    let Some(cluster) = cluster("a_rule_becomes_ready_fires_and_resolves_in_its_status").await else { return };
    let alerting = Alerting::start().await;
    let controller = cluster.controller(&alerting, "one").await;
    let applied = cluster.apply(rule("latency", "sum(rate(x[5m])) > 1")).await.expect("admitted");
    assert_eq!(applied.data["status"]["observedGeneration"], json!(-1), "the default, before anybody looked");
    let status = cluster.ready("AlertRule", "latency", "True", "Ready").await;
    assert_eq!(
        (&status["state"], &status["firing"], &status["mode"]),
        (&json!("Inactive"), &json!(0), &json!("Streaming"))
    );
    let uid = alerting.uid("latency").expect("handed over");
    let handed = alerting.inner.lock().expect("unpoisoned").rules[&uid].clone();
    assert_eq!(handed.scope, [("namespace".to_owned(), "shop".to_owned())].into(), "it sees its own namespace");

    alerting.say("latency", "Firing", 2, Some("1.5"));
    until(async || {
        let status = cluster.status("AlertRule", "latency").await;
        let is = status["state"] == "Firing" && status["firing"] == 2 && status["value"] == "1.5";
        if is && status["since"] == "2023-11-14T22:13:20Z" { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    alerting.say("latency", "Inactive", 0, None);
    until(async || {
        let status = cluster.status("AlertRule", "latency").await;
        if status["state"] == "Inactive" && status["value"].is_null() { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    // What happened is told in events too.
    let events = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"namespace": "shop"}});
    until(async || {
        let list = cluster.api(&events).list(&Default::default()).await.map_err(|e| e.to_string())?;
        let own = list.items.iter().filter(|e| e.data["regarding"]["uid"] == json!(uid));
        let reasons: Vec<&str> = own.filter_map(|e| e.data["reason"].as_str()).collect();
        if reasons.contains(&"Firing") && reasons.contains(&"Resolved") { Ok(()) } else { Err(format!("{reasons:?}")) }
    })
    .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_rule_is_refused_with_line_column_and_caret() {
    let Some(cluster) = cluster("a_bad_rule_is_refused_with_line_column_and_caret").await else { return };
    let alerting = Alerting::start().await;
    let controller = cluster.controller(&alerting, "one").await;
    let refused = cluster.apply(rule("bad", "up > 1 and\n  raet(x[5m]) > 0")).await.expect_err("refused");
    assert!(
        refused.contains("spec.expr: 2:3: parse error: unknown function") && refused.contains("did you mean"),
        "{refused}"
    );
    assert!(refused.ends_with("\n    raet(x[5m]) > 0\n    ^"), "{refused}");
    let other = cluster.apply(rule("other", "a{namespace=\"bank\"}")).await.expect_err("refused");
    assert!(other.contains("label \"namespace\" must be \"shop\" here"), "{other}");
    let template = json!({"apiVersion": "weir.dev/v1alpha1", "kind": "AlertRule", "metadata": {"name": "t", "namespace": "shop"},
        "spec": {"expr": "up", "annotations": {"summary": "{{ .Bad"}}});
    assert!(cluster.apply(template).await.expect_err("refused").contains("spec.annotations.summary: template"));
    let metadata = cluster.apply(channel("m", json!({"url": "http://2852039166/"}))).await.expect_err("refused");
    assert!(metadata.contains("spec.webhook.url") && metadata.contains("credentials"), "{metadata}");
    assert!(controller.metric("weir_controller_admissions_total") >= 4.0);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schema_refuses_by_itself_what_it_can() {
    let Some(cluster) = cluster("the_schema_refuses_by_itself_what_it_can").await else { return };
    // No controller: these are the API server's own answers.
    for (object, reason) in [
        (channel("a", json!({})), "exactly one of url and urlFrom is needed"),
        (channel("a", json!({"url": "ftp://h"})), "must be http://HOST"),
        (
            channel("a", json!({"url": "http://h", "urlFrom": {"secretKeyRef": {"name": "s", "key": "k"}}})),
            "exactly one of",
        ),
        (channel("a", json!({"url": "http://h", "headers": {"a b": "c"}})), "not a header"),
        (channel("a", json!({"url": "http://h", "timeout": "soon"})), "spec.webhook.timeout"),
        (rule("a", ""), "spec.expr"),
        (rule("a", &"x".repeat(40_000)), "Too long"),
    ] {
        let refused = cluster.apply(object.clone()).await.expect_err(&object.to_string());
        assert!(refused.contains(reason), "{refused}");
    }
    let mut none = channel("a", json!({}));
    none["spec"] = json!({});
    assert!(cluster.apply(none).await.expect_err("refused").contains("exactly one receiver is needed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_take_their_secrets_and_rules_say_what_their_channel_lacks() {
    let Some(cluster) = cluster("channels_take_their_secrets_and_rules_say_what_their_channel_lacks").await else {
        return;
    };
    let alerting = Alerting::start().await;
    let controller = cluster.controller(&alerting, "one").await;
    let mut paged = rule("paged", "up == 0");
    paged["spec"]["channel"] = json!("pager");
    cluster.apply(paged).await.expect("admitted, with a warning");
    cluster.ready("AlertRule", "paged", "False", "ChannelNotFound").await;
    let from = |key: &str| json!({"secretKeyRef": {"name": "hook", "key": key}});
    let spec = json!({"urlFrom": from("url"), "headersFrom": {"Authorization": from("auth")}});
    let secret = |auth: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hook", "namespace": "shop"},
        "stringData": {"url": "http://sink/x", "auth": auth}})
    };
    let secrets = cluster.api(&secret(""));
    let _ = secrets.delete("hook", &Default::default()).await;
    cluster.apply(channel("pager", spec.clone())).await.expect("admitted");
    cluster.ready("NotificationChannel", "pager", "False", "SecretNotFound").await;
    cluster.ready("AlertRule", "paged", "False", "ChannelNotReady").await;
    cluster.apply(secret("one")).await.expect("made");
    // A change of the channel reads its secrets without waiting for the interval.
    let mut changed = spec;
    changed["timeout"] = json!("5s");
    changed["headersFrom"]["X-Other"] = json!({"secretKeyRef": {"name": "other", "key": "k"}});
    cluster.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "namespace": "shop"}, "stringData": {"k": "v"}})).await.expect("made");
    cluster.apply(channel("pager", changed)).await.expect("admitted");
    cluster.ready("NotificationChannel", "pager", "True", "Ready").await;
    cluster.ready("AlertRule", "paged", "True", "Ready").await;
    let values = || alerting.inner.lock().expect("unpoisoned").channels["shop/pager"].secrets.clone();
    assert_eq!(values()["hook/auth"], "one");

    // After a start of alerting the secrets are sent again, by themselves.
    alerting.restart();
    until(async || if values().len() == 3 { Ok(()) } else { Err("the secrets are not there".to_owned()) }).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_leads_and_the_other_takes_over() {
    let Some(cluster) = cluster("of_two_replicas_one_leads_and_the_other_takes_over").await else { return };
    let alerting = Alerting::start().await;
    let first = cluster.controller(&alerting, "one").await;
    until(
        async || if first.metric("weir_controller_leading") == 1.0 { Ok(()) } else { Err("nobody leads".to_owned()) },
    )
    .await;
    let second = cluster.controller(&alerting, "two").await;
    cluster.apply(rule("a", "up == 0")).await.expect("admitted");
    cluster.ready("AlertRule", "a", "True", "Ready").await;
    assert_eq!(second.metric("weir_controller_leading"), 0.0);
    assert_eq!(second.metric("weir_controller_status_writes_total"), 0.0, "nothing is doubled");
    // Killed, not stopped: the lease must expire.
    first.kill();
    until(
        async || if second.metric("weir_controller_leading") == 1.0 { Ok(()) } else { Err("nobody leads".to_owned()) },
    )
    .await;
    cluster.apply(rule("b", "up == 0")).await.expect("admitted");
    cluster.ready("AlertRule", "b", "True", "Ready").await;
    let epochs = alerting.inner.lock().expect("unpoisoned").epochs.clone();
    let turn = epochs.iter().position(|e| e.starts_with("two")).expect("the second handed over");
    assert!(epochs[turn..].iter().all(|e| e.starts_with("two")), "{epochs:?}");
    // Stopped: the third leads at once, and finds everything as it is.
    second.stop().await;
    let third = cluster.controller(&alerting, "three").await;
    until(
        async || {
            if third.metric("weir_controller_handovers_total") >= 1.0 { Ok(()) } else { Err("no hand-over".to_owned()) }
        },
    )
    .await;
    cluster.apply(rule("c", "up == 0")).await.expect("admitted");
    cluster.ready("AlertRule", "c", "True", "Ready").await;
    // The write is seen by others before its answer is counted.
    let writes = || third.metric("weir_controller_status_writes_total");
    until(async || if writes() >= 1.0 { Ok(()) } else { Err("no write is counted".to_owned()) }).await;
    assert_eq!(writes(), 1.0, "a restart writes only what is new");
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_object_stops_only_itself() {
    let Some(cluster) = cluster("a_malformed_object_stops_only_itself").await else { return };
    let alerting = Alerting::start().await;
    // As an older definition might have let it in.
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "alertrules.weir.dev"}});
    let lax = json!([{"op": "replace", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec",
        "value": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}]);
    let patch: kube::api::Patch<()> = kube::api::Patch::Json(serde_json::from_value(lax).expect("a patch"));
    cluster.api(&definition).patch("alertrules.weir.dev", &Default::default(), &patch).await.expect("patched");
    let mut malformed = rule("malformed", "up");
    malformed["spec"] = json!({"expr": {"not": "text"}});
    until(async || cluster.apply(malformed.clone()).await.map(drop)).await;
    cluster.apply(rule("good", "up == 0")).await.expect("stored");
    cluster.apply(rule("unparsed", "up ==")).await.expect("stored, nobody checks it yet");
    controller::crds::apply(cluster.client.clone()).await.expect("applied");
    let controller = cluster.controller(&alerting, "one").await;
    cluster.ready("AlertRule", "good", "True", "Ready").await;
    let status = cluster.ready("AlertRule", "malformed", "False", "Malformed").await;
    assert_eq!(status["state"], "Invalid");
    let status = cluster.ready("AlertRule", "unparsed", "False", "InvalidExpression").await;
    let message = status["conditions"][0]["message"].as_str().expect("a message");
    assert!(message.starts_with("spec.expr: 1:6: parse error"), "{message}");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_work_later_is_a_warning() {
    let Some(cluster) = cluster("what_may_work_later_is_a_warning").await else { return };
    let alerting = Alerting::start().await;
    let controller = cluster.controller(&alerting, "one").await;
    let mut object = rule("early", "absent_metric > 1 or up == 0");
    object["spec"]["channel"] = json!("pager");
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "namespace": "shop", "name": "early", "userInfo": {}, "object": object,
        "kind": {"group": "weir.dev", "version": "v1alpha1", "kind": "AlertRule"},
        "resource": {"group": "weir.dev", "version": "v1alpha1", "resource": "alertrules"}}});
    // The API server would show the warnings in a header, which the client does not tell.
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).build().expect("a client");
    let url = format!("https://127.0.0.1:{}/validate", controller.port);
    until(async || {
        let answer = http.post(&url).json(&review).send().await.expect("answered");
        let answer: serde_json::Value = answer.json().await.expect("JSON");
        let expect = json!([
            "there is no NotificationChannel shop/pager yet; notifications wait for it",
            "no series of the last hour matches {__name__=\"absent_metric\",namespace=\"shop\"}",
        ]);
        let response = &answer["response"];
        if response["allowed"] == true && response["warnings"] == expect { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
    let nonsense = http.post(&url).body("{}").send().await.expect("answered");
    assert_eq!(nonsense.status(), 400);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_soon_is_exchanged_while_it_serves() {
    let Some(cluster) = cluster("a_certificate_that_ends_soon_is_exchanged_while_it_serves").await else { return };
    let alerting = Alerting::start().await;
    let controller = cluster.controller(&alerting, "one").await;
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "weir", "name": "weir-controller-webhook"}});
    let secrets = cluster.api(&object);
    let read =
        async || secrets.get("weir-controller-webhook").await.expect("the certificate's Secret").data["data"].clone();
    let before = read().await;
    let ends = json!({"metadata": {"annotations": {"weir.dev/expires-ms": "1000"}}});
    let patch = kube::api::Patch::Merge(ends);
    secrets.patch("weir-controller-webhook", &Default::default(), &patch).await.expect("patched");
    until(async || if read().await["tls.crt"] == before["tls.crt"] { Err("the same".to_owned()) } else { Ok(()) })
        .await;
    let authorities = read().await["ca.crt"].clone();
    assert_ne!(authorities, before["ca.crt"]);
    let hooks = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {}});
    until(async || {
        let found = cluster.api(&hooks).get("weir-controller").await.expect("configured");
        let bundle = &found.data["webhooks"][0]["clientConfig"]["caBundle"];
        if *bundle == authorities { Ok(()) } else { Err("the configuration has the authorities before".to_owned()) }
    })
    .await;
    // It goes on answering, believed by the API server.
    let refused = cluster.apply(rule("bad", "up ==")).await.expect_err("refused");
    assert!(refused.contains("spec.expr: 1:6: parse error"), "{refused}");
    controller.stop().await;
}
