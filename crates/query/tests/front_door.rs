//! The front door before real components: what Grafana and senders ask of query's address alone, with the token between components. Once
//! in this process, and once of the process `weir-query`, which reads storage over the network too.

#[path = "../../runtime/tests/support/process.rs"]
#[allow(dead_code, reason = "shared with the tests of other components, of which each uses a part")]
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use query::{FrontDoor, front_door};
use runtime::{Component, Shutdown, ShutdownTrigger, Token};
use serde_json::{Value, json};

use process::Process;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(180);

const RULES: &str = "groups:
- name: hosts
  rules:
  - alert: Busy
    expr: cpu > 90
    labels: {severity: page}
";

#[derive(clap::Parser)]
struct Arguments {
    #[command(flatten)]
    queue: queue::Args,
    #[command(flatten)]
    storage: storage::Args,
    #[command(flatten)]
    ingest: ingest::Args,
    #[command(flatten)]
    alerting: alerting::Args,
    #[command(flatten)]
    query: query::Args,
    #[command(flatten)]
    front_door: front_door::Args,
}

/// All components, query with an address of its own and nothing but addresses of two others.
struct Cluster {
    /// Of query in this process, and of the process.
    urls: [String; 2],
    alerting_url: String,
    process: Process,
    http: reqwest::Client,
    parts: Vec<(ShutdownTrigger, Component)>,
    servers: Vec<tokio::task::JoinHandle<()>>,
    /// All routers as they print themselves.
    routes: Vec<String>,
}

async fn serve(router: Router, servers: &mut Vec<tokio::task::JoinHandle<()>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    servers.push(tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") }));
    url
}

async fn cluster(dir: &Path) -> Cluster {
    // Another test of this process may have done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let rules = dir.join("rules.yaml");
    std::fs::write(&rules, RULES).expect("written");
    let parse = |words: &[&str]| <Arguments as clap::Parser>::parse_from([&["x"], words].concat());
    let args = parse(&["--rules", rules.to_str().expect("UTF-8")]);
    let (mut parts, mut servers) = (Vec::new(), Vec::new());
    let registry = prometheus::Registry::new();
    let token = Token::fixed("s3cret").expect("a token");

    let (trigger, shutdown) = Shutdown::new();
    let queue_args = queue::Args { dir: dir.join("queue"), ..args.queue };
    let queue = queue::start(queue_args, queue::Deps {}, &registry, shutdown).await.expect("queue");
    parts.push((trigger, queue.component));
    let (log, mut routes) = (queue.log, Vec::new());
    routes.extend(parts.iter().map(|(_, queue)| printed(&queue.router)));

    let (trigger, shutdown) = Shutdown::new();
    let storage_args = storage::Args { dir: dir.join("storage"), ..args.storage };
    let storage = storage::start(storage_args, storage::Deps { log: log.clone() }, &registry, shutdown).await;
    let storage = storage.expect("storage");
    let node = storage::serve::router(storage.node(), Some(token.clone()), &registry).expect("routes");
    let storage_url = serve(node, &mut servers).await;
    routes.push(printed(&storage.component.router));
    parts.push((trigger, storage.component));
    let reader = storage.reader;

    let (trigger, shutdown) = Shutdown::new();
    let alerting_args = alerting::Args { dir: dir.join("alerting"), ..args.alerting };
    let deps =
        alerting::Deps { log: log.clone(), reader: Arc::clone(&reader), token: Some(token.clone()), open: false };
    let mut alerting = alerting::start(alerting_args, deps, &registry, shutdown).await.expect("alerting").component;
    routes.push(printed(&alerting.router));
    let alerting_url = serve(std::mem::take(&mut alerting.router), &mut servers).await;
    parts.push((trigger, alerting));

    let (trigger, shutdown) = Shutdown::new();
    let ingest = ingest::start(args.ingest, ingest::Deps { log }, &registry, shutdown).await.expect("ingest");
    let mut ingest = ingest.component;
    routes.push(printed(&ingest.router));
    let ingest_url = serve(std::mem::take(&mut ingest.router), &mut servers).await;
    parts.push((trigger, ingest));

    let (trigger, shutdown) = Shutdown::new();
    let addresses = parse(&["--alerting-url", &alerting_url, "--ingest-url", &ingest_url]).front_door;
    let deps = query::Deps {
        reader,
        front_door: FrontDoor { args: addresses, token: Some(token) },
        about: query::About::default(),
    };
    let mut query = query::start(args.query, deps, &registry, shutdown).await.expect("query").component;
    routes.push(printed(&query.router));
    let url = serve(std::mem::take(&mut query.router), &mut servers).await;
    parts.push((trigger, query));
    let http = reqwest::Client::builder().timeout(PATIENCE).build().expect("a client");
    let flags = ["--storage-urls", &storage_url, "--alerting-url", &alerting_url, "--ingest-url", &ingest_url];
    let process = start_process(dir, &flags);
    Cluster { urls: [url, process.url.clone()], alerting_url, process, http, parts, servers, routes }
}

fn printed(router: &Router) -> String {
    format!("{router:?}")
}

/// Paths with their methods, of a router as it prints itself: nothing else tells what it has.
fn paths(printed: &str) -> BTreeMap<String, BTreeSet<String>> {
    let own = printed.split("fallback_router: ").next().expect("a beginning");
    let (routes, paths) = own.split_once("node: Node").expect("paths after routes");
    let allowed = |text: &str| -> BTreeSet<String> {
        let listed = text.strip_prefix("Bytes(b\"").and_then(|rest| rest.split('"').next());
        let methods = listed.unwrap_or("").split(',').map(str::to_lowercase);
        methods.filter(|method| !["", "head", "options"].contains(&method.as_str())).collect()
    };
    // Both are maps from the numbers of routes.
    let numbered = |text: &'static str, of: &str| {
        let entries: Vec<(String, String)> = of
            .split("RouteId(")
            .skip(1)
            .map(|entry| entry.split_once("): ").expect("a number"))
            .map(|(number, rest)| (number.to_owned(), rest.split_once(text).expect(text).1.to_owned()))
            .collect();
        entries
    };
    let methods: BTreeMap<_, _> = numbered("allow_header: ", routes).into_iter().collect();
    let places = numbered("\"", paths)
        .into_iter()
        .map(|(number, rest)| (rest.split('"').next().expect("a path").to_owned(), allowed(&methods[&number])));
    places.filter(|(path, _)| !path.contains("{*")).collect()
}

/// The document is one of all components, and of what every process answers.
fn is_described(routes: &[String], document: &Value) {
    let mut routed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, methods) in routes.iter().flat_map(|printed| paths(printed)) {
        routed.entry(path).or_default().extend(methods);
    }
    let mut described: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        let methods = item.as_object().expect("methods").keys().filter(|key| *key != "parameters");
        described.insert(path.clone(), methods.cloned().collect());
    }
    assert!(routed.len() > 40 && routed["/api/v1/query"].len() == 2, "{routed:?}");
    assert_eq!(described, routed);
}

fn start_process(dir: &Path, flags: &[&str]) -> Process {
    let file = dir.join("token");
    std::fs::write(&file, "s3cret\n").expect("written");
    Process::start(Command::new(env!("CARGO_BIN_EXE_weir-query")).arg("--token-file").arg(file).args(flags))
}

impl Cluster {
    async fn get(&self, url: &str, path: &str) -> (u16, Value) {
        let answer = self.http.get(format!("{url}{path}")).send().await.expect("answered");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    async fn post(&self, url: &str, path: &str, kind: &str, body: &'static str) -> (u16, String) {
        let request = self.http.post(format!("{url}{path}")).header("content-type", kind).body(body);
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }

    async fn stop(mut self) {
        assert_eq!(self.process.terminate().code(), Some(0));
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
        while let Some((trigger, component)) = self.parts.pop() {
            trigger.ask();
            tokio::time::timeout(PATIENCE, component.drained).await.expect("in time").expect("drained");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_grafana_and_of_senders_works_against_querys_address_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = cluster(dir.path()).await;
    for url in cluster.urls.clone() {
        grafana_and_senders(&cluster, &url).await;
    }
    let page = runtime::metrics::Page::default();
    let process = runtime::Routes::starting(&page);
    process.ready(&page, Router::new(), &prometheus::Registry::new()).expect("routes");
    let mut routes = cluster.routes.clone();
    routes.push(printed(&process.current()));
    let document = cluster.http.get(format!("{}/api/v1/openapi.yaml", cluster.urls[1])).send().await.expect("answered");
    is_described(&routes, &serde_yaml::from_str(&document.text().await.expect("text")).expect("YAML"));
    cluster.stop().await;
}

async fn grafana_and_senders(cluster: &Cluster, url: &str) {
    let json_type = "application/json";

    let (status, answer) =
        cluster.post(url, "/metrics", json_type, r#"{"name":"cpu","value":95,"labels":{"host":"a"}}"#).await;
    assert_eq!((status, answer.as_str()), (202, r#"{"status":"accepted","count":1}"#));
    let (status, answer) = cluster.post(url, "/api/v1/import/prometheus", "text/plain", "cpu{host=\"b\"} 5\n").await;
    assert!(status < 300, "{status} {answer}");
    let (status, answer) = cluster.post(url, "/api/v1/write", "application/x-protobuf", "no snappy").await;
    assert_eq!(status, 400, "ingest's own refusal: {answer}");

    // Saving and testing the data source, then the rules and alerts that its alerting pages ask for.
    let (status, answer) = cluster.get(url, "/api/v1/query?query=count(cpu)").await;
    assert_eq!((status, &answer["data"]["result"][0]["value"][1]), (200, &json!("2")));
    assert_eq!(cluster.get(url, "/api/v1/status/buildinfo").await.0, 200);
    let (status, answer) = cluster.get(url, "/api/v1/rules?type=alert").await;
    assert_eq!((status, &answer["data"]["groups"][0]["rules"][0]["name"]), (200, &json!("Busy")));
    assert_eq!(cluster.get(url, "/api/v1/rules?type=x").await.0, 400, "alerting's own refusal");
    let firing = async {
        loop {
            let (status, answer) = cluster.get(url, "/api/v1/alerts").await;
            assert_eq!(status, 200);
            if answer["data"]["alerts"][0]["state"] == "firing" {
                return answer["data"]["alerts"][0]["labels"].clone();
            }
            tokio::task::yield_now().await;
        }
    };
    let labels = tokio::time::timeout(PATIENCE, firing).await.expect("fires in time");
    assert_eq!(labels, json!({"alertname": "Busy", "host": "a", "severity": "page"}));
    assert_eq!(cluster.get(url, "/api/v1/notifications?limit=5").await.0, 200);
    let (status, answer) = cluster.post(url, "/-/reload", json_type, "").await;
    assert_eq!(status, 200, "{answer}");
    // Over the network it is what storage said last, once a second.
    let done = async {
        loop {
            let (status, answer) = cluster.get(url, "/health").await;
            assert_eq!((status, &answer["status"]), (200, &json!("healthy")));
            if answer["queue_size"] == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done).await.expect("storage has read everything");

    // What components say to each other has no way through the front door.
    assert_eq!(cluster.get(url, "/api/v1/rulesets/kubernetes/states").await.0, 404);
    // And past it nobody comes without the token.
    let refused = cluster.http.get(format!("{}/api/v1/rules", cluster.alerting_url)).send().await.expect("answered");
    assert_eq!(refused.status(), 401);
}
