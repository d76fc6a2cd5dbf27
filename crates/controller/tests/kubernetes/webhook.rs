//! The webhook behind a Service, as it is in a cluster.

use serde_json::{Value, json};

use crate::support::cluster::{ACCOUNT, cluster};
use crate::support::double::Alerting;
use crate::support::{rule, until};

/// Where the API server looks for it: the Service's name, as a certificate has it.
const HOST: &str = "weir-hook.weir.svc";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_service_the_webhook_is_registered_by_it_and_serves_a_certificate_for_its_name_alone() {
    let Some(cluster) =
        cluster("behind_a_service_the_webhook_is_registered_by_it_and_serves_a_certificate_for_its_name_alone").await
    else {
        return;
    };
    let alerting = Alerting::start().await;
    let mut args = cluster.args(&alerting);
    (args.webhook_url, args.webhook_service) = (None, Some("weir-hook".to_owned()));
    args.watch_namespaces = vec!["shop".to_owned()];
    let controller = cluster.controller_of(args, ACCOUNT, "one").await;
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {}});
    let found = std::sync::Mutex::new(Value::Null);
    until(async || {
        let configuration = cluster.api(&object).get("weir-controller").await.map_err(|e| e.to_string())?;
        *found.lock().expect("unpoisoned") = configuration.data["webhooks"][0].clone();
        Ok(())
    })
    .await;
    let hook = found.into_inner().expect("unpoisoned");
    let service = json!({"name": "weir-hook", "namespace": "weir", "path": "/validate", "port": 443});
    assert_eq!((&hook["clientConfig"]["service"], &hook["clientConfig"]["url"]), (&service, &Value::Null));

    // The API server asks there, once it knows of it: there is no such Service here, so it says what it looked for.
    let expect = format!("Post \"https://{HOST}:443/validate?timeout=5s\": service \"weir-hook\" not found");
    until(async || match cluster.apply_once(&rule("a", "up == 0")).await {
        Err(refused) if refused.contains(&expect) => Ok(()),
        other => Err(format!("{:?}", other.map(drop))),
    })
    .await;
    // It does not for namespaces that are not watched.
    let mut elsewhere = rule("a", "up == 0");
    elsewhere["metadata"]["namespace"] = json!("weir");
    cluster.apply(elsewhere).await.expect("nobody is asked");

    // As the API server would: it believes the authorities of the registration, and no others.
    let bundle: k8s_openapi::ByteString =
        serde_json::from_value(hook["clientConfig"]["caBundle"].clone()).expect("a bundle");
    let authorities = reqwest::Certificate::from_pem_bundle(&bundle.0).expect("certificates");
    let there = std::net::SocketAddr::from(([127, 0, 0, 1], controller.port));
    let other = HOST.replace("hook", "query");
    let http = reqwest::Client::builder().tls_certs_only(authorities).resolve(HOST, there).resolve(&other, there);
    let http = http.build().expect("a client");
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "operation": "CREATE", "namespace": "shop", "name": "bad", "userInfo": {}, "object": rule("bad", "up =="),
        "kind": {"group": "weir.dev", "version": "v1alpha1", "kind": "AlertRule"},
        "resource": {"group": "weir.dev", "version": "v1alpha1", "resource": "alertrules"}}});
    let ask = async |host: &str| {
        let url = format!("https://{host}:{}/validate", controller.port);
        http.post(url).json(&review).send().await
    };
    let answer: Value = ask(HOST).await.expect("believed").json().await.expect("JSON");
    let message = answer["response"]["status"]["message"].as_str().unwrap_or_default();
    assert!(answer["response"]["allowed"] == false && message.starts_with("spec.expr: 1:6: parse error"), "{answer}");
    let error = runtime::error::chain(&ask(&other).await.expect_err("another name is not believed"));
    assert!(error.contains("certificate not valid for name") && error.contains(HOST), "{error}");
    controller.stop().await;
}
