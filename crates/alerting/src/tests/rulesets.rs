//! Rule sets that are handed over: what is taken, what is kept over a restart, and how states are told.

use serde_json::{Value, json};

use runtime::Token;

use super::support::Rig;
use super::{one, pairs};

const PATH: &str = "/api/v1/rulesets/kubernetes";
const NO_STATES: [Value; 0] = [];

fn rule(name: &str, generation: i64, expr: &str) -> Value {
    json!({
        "document": {
            "apiVersion": "weir.dev/v1alpha1", "kind": "AlertRule",
            "metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")},
            "spec": {"expr": expr, "channel": "hook"},
        },
        "generation": generation,
    })
}

fn channel(name: &str, url: &str) -> Value {
    json!({"document": {
        "apiVersion": "weir.dev/v1alpha1", "kind": "NotificationChannel",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"webhook": {"url": url}},
    }})
}

/// A channel whose URL is a secret.
fn secret_channel(name: &str, url: Option<&str>) -> Value {
    let mut channel = channel(name, "");
    channel["document"]["spec"] = json!({"webhook": {"urlFrom": {"secretKeyRef": {"name": "hooks", "key": "url"}}}});
    if let Some(url) = url {
        channel["secrets"] = json!({"hooks/url": url});
    }
    channel
}

fn set(generation: i64, rules: &[Value], channels: &[Value]) -> Value {
    json!({"epoch": "e", "generation": generation, "rules": rules, "channels": channels})
}

impl Rig {
    /// A set that must be taken; what was refused of it.
    async fn put(&self, set: &Value) -> Value {
        let (status, answer) = self.call("PUT", PATH, set).await;
        assert_eq!((status, &answer["held"]["generation"]), (200, &set["generation"]), "{answer}");
        answer["refused"].clone()
    }

    async fn patch(&self, change: &Value) -> (u16, Value) {
        self.call("PATCH", PATH, change).await
    }

    /// The states after a change.
    async fn states(&self, epoch: &str, after: u64, wait_ms: u64) -> Value {
        self.get(&format!("{PATH}/states?epoch={epoch}&after={after}&wait_ms={wait_ms}")).await
    }

    /// Waits until the state of the only rule meets a condition.
    async fn state(&self, meets: impl Fn(&Value) -> bool) -> Value {
        let all = self.states("", 0, 0).await;
        let (epoch, mut after) = (all["epoch"].as_str().expect("an epoch").to_owned(), all["after"].clone());
        let mut state = all["states"][0].clone();
        while !meets(&state) {
            let more = self.states(&epoch, after.as_u64().expect("a number"), 60_000).await;
            after = more["after"].clone();
            assert_ne!(more["states"], json!(NO_STATES), "waited in vain; the last was {state}");
            state = more["states"][0].clone();
        }
        state
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_handed_over_fires_and_its_state_is_told() {
    let mut rig = Rig::new("").await;
    let mut down = rule("Down", 7, "up == 0");
    down["scope"] = json!({"job": "a"});
    assert_eq!(rig.put(&set(1, &[down], &[channel("hook", &rig.sink_url())])).await, json!({}));
    let inactive = rig.state(|s| s["evaluated"] == true).await;
    assert_eq!((&inactive["state"], &inactive["generation"]), (&json!("NoData"), &json!(7)));
    rig.write("b", 0.0).await;
    rig.write("a", 0.5).await;
    rig.write("a", 0.0).await;
    let payload = rig.payload().await;
    assert_eq!(pairs(&payload), one("firing", "a"), "b is outside of its scope");
    assert_eq!(payload["receiver"], "shop/hook");
    let state = rig.state(|s| s["lastNotificationMs"].is_number()).await;
    let shown = rig.get("/api/v1/alerts").await["data"]["alerts"][0].clone();
    assert_eq!(
        crate::text::time(state["sinceMs"].as_i64().expect("a time")),
        shown["activeAt"].as_str().expect("a time")
    );
    for (field, expect) in [
        ("uid", json!("uid-Down")),
        ("generation", json!(7)),
        ("evaluated", json!(true)),
        ("state", json!("Firing")),
        ("firing", json!(1)),
        ("pending", json!(0)),
        ("value", json!("0")),
        ("mode", json!("Streaming")),
        ("lastError", json!("")),
    ] {
        assert_eq!(state[field], expect, "{field} of {state}");
    }
    let group = rig.get("/api/v1/rules").await["data"]["groups"][0].clone();
    assert_eq!((&group["file"], &group["name"]), (&json!("kubernetes"), &json!("shop")));
    rig.write("a", 1.0).await;
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    let state = rig.state(|s| s["state"] == "Inactive").await;
    assert_eq!((&state["firing"], &state["value"]), (&json!(0), &Value::Null));
    assert!(state["sinceMs"].is_number(), "{state}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_applies_to_what_is_held_and_to_nothing_else() {
    let mut rig = Rig::new("").await;
    let (status, held) = rig.patch(&json!({"epoch": "e", "base": 1, "generation": 2})).await;
    assert_eq!((status, held), (409, json!({"epoch": "", "generation": 0, "hasSecrets": false})));
    rig.put(&set(3, &[rule("Down", 1, "up == 0")], &[channel("hook", &rig.sink_url())])).await;
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    let held = json!({"epoch": "e", "generation": 3, "hasSecrets": true});
    let older = set(2, &[], &[]);
    assert_eq!(rig.call("PUT", PATH, &older).await, (409, held.clone()));
    for (epoch, base) in [("e", 2), ("other", 3)] {
        assert_eq!(rig.patch(&json!({"epoch": epoch, "base": base, "generation": 9})).await, (409, held.clone()));
    }
    let change = json!({"epoch": "e", "base": 3, "generation": 4, "rules": [rule("Up", 1, "up == 1")], "removedRules": ["uid-Down"]});
    let (status, answer) = rig.patch(&change).await;
    assert_eq!((status, &answer["held"]["generation"]), (200, &json!(4)));
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"), "a rule that goes owes its resolve");
    rig.write("a", 1.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    // A set of another leader takes its place, whatever its generation.
    let other = json!({"epoch": "f", "generation": 1, "rules": [], "channels": [channel("hook", &rig.sink_url())]});
    assert_eq!(rig.call("PUT", PATH, &other).await.0, 200);
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    assert_eq!(rig.get("/api/v1/rules").await["data"]["groups"], json!([]));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document_stops_only_itself_and_what_it_said_before_stays() {
    let mut rig = Rig::new("").await;
    let sink = channel("hook", &rig.sink_url());
    let unreadable = json!({"document": {"metadata": {"name": "x", "namespace": "shop", "uid": "uid-x"}, "spec": 1}, "generation": 1});
    let mut nameless = rule("Anonymous", 1, "up");
    nameless["document"]["metadata"]["uid"] = Value::Null;
    let mut email = channel("mail", "");
    email["document"]["spec"] = json!({"email": {}});
    let rules = [rule("Down", 1, "up == 0"), rule("Bad", 1, "up =="), unreadable, nameless];
    let refused = rig.put(&set(1, &rules, &[sink.clone(), email])).await;
    let keys: Vec<&str> = refused.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["shop/Anonymous", "shop/mail", "uid-Bad", "uid-x"]);
    assert!(refused["uid-Bad"].as_str().is_some_and(|r| r.starts_with("spec.expr: 1:")), "{refused}");
    assert!(refused["shop/mail"].as_str().is_some_and(|r| r.contains("not supported yet")), "{refused}");

    let change = json!({"epoch": "e", "base": 1, "generation": 2, "rules": [rule("Down", 2, "up == == 0")]});
    let (status, answer) = rig.patch(&change).await;
    assert_eq!(status, 200);
    assert!(answer["refused"]["uid-Down"].is_string(), "{answer}");
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    let state = rig.state(|s| s["state"] == "Firing").await;
    assert_eq!(state["generation"], 1, "that of the document in use");
    // The next start has the same in use.
    rig.stop().await;
    rig.start().await;
    assert_eq!(rig.state(|s| s["evaluated"] == true).await["generation"], 1);
    rig.write("a", 1.0).await;
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_paused_waits_for_no_evaluation() {
    let mut rig = Rig::new("").await;
    let mut down = rule("Down", 3, "up == 0");
    down["document"]["spec"]["paused"] = json!(true);
    rig.put(&set(1, &[down], &[channel("hook", &rig.sink_url())])).await;
    let state = rig.state(|s| s["state"] == "Paused").await;
    assert_eq!((&state["evaluated"], &state["generation"]), (&json!(true), &json!(3)));
    let change = json!({"epoch": "e", "base": 1, "generation": 2, "rules": [rule("Down", 4, "up == 0")]});
    assert_eq!(rig.patch(&change).await.0, 200);
    assert_eq!(rig.state(|s| s["evaluated"] == true).await["state"], "NoData");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_of_a_file_is_not_replaced_or_removed_by_one_with_its_uid() {
    let file = super::rule("Down", "up == 0", "").replace("{name: Down}", "{name: Down, uid: uid-Down}");
    let mut rig = Rig::new(&file).await;
    let refused = rig.put(&set(1, &[rule("Down", 1, "up == 1")], &[])).await;
    assert!(
        refused["uid-Down"].as_str().is_some_and(|r| r.contains("comes from") && r.contains("rules.yaml")),
        "{refused}"
    );
    rig.put(&set(2, &[], &[])).await;
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_with_the_set_and_the_states_that_were_there() {
    let mut rig = Rig::new("").await;
    rig.put(&set(5, &[rule("Down", 1, "up == 0")], &[channel("hook", &rig.sink_url())])).await;
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    let before = rig.state(|s| s["lastNotificationMs"].is_number()).await;
    rig.stop().await;
    rig.start().await;
    let states = rig.states("", 0, 0).await;
    assert_eq!(states["held"], json!({"epoch": "e", "generation": 5, "hasSecrets": true}));
    let after = rig.state(|s| s["evaluated"] == true).await;
    for field in ["state", "sinceMs", "value", "lastNotificationMs", "generation"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    rig.write("a", 1.0).await;
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    let inactive = rig.state(|s| s["state"] == "Inactive").await;
    rig.stop().await;
    rig.start().await;
    let again = rig.state(|s| s["evaluated"] == true).await;
    assert_eq!((&again["state"], &again["sinceMs"]), (&json!("Inactive"), &inactive["sinceMs"]));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_stored_and_notifications_wait_until_they_come_again() {
    let mut rig = Rig::new("").await;
    let url = format!("{}?key=hunter2", rig.sink_url());
    let whole = set(1, &[rule("Down", 1, "up == 0")], &[secret_channel("hook", Some(&url))]);
    assert_eq!(rig.put(&whole).await, json!({}));
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    rig.stop().await;
    rig.start().await;
    assert_eq!(rig.states("", 0, 0).await["held"], json!({"epoch": "e", "generation": 1, "hasSecrets": false}));
    rig.write("a", 1.0).await;
    let state = rig.state(|s| s["lastError"] != "").await;
    assert_eq!(state["lastError"], "channel \"shop/hook\" waits for the values of secrets: hooks/url");
    assert_eq!(rig.get("/api/v1/notifications").await["data"]["outbox"]["size"], 1);
    assert!(rig.sink.try_recv().is_err(), "nothing was sent");
    assert_eq!(rig.put(&whole).await, json!({}));
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));
    assert_eq!(rig.state(|s| s["lastError"] == "").await["state"], "Inactive");
    assert_eq!(rig.states("", 0, 0).await["held"]["hasSecrets"], true);
    assert!(rig.is_stored("secretKeyRef"), "the document is");
    assert!(!rig.is_stored("hunter2"), "the value is not");
    rig.stop().await;
    assert!(!rig.is_stored("hunter2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_without_a_channel_tells_the_default_one_once_it_is_there() {
    let mut rig = Rig::new("").await;
    let mut down = rule("Down", 1, "up == 0");
    down["document"]["spec"].as_object_mut().expect("an object").remove("channel");
    rig.put(&set(1, &[down], &[])).await;
    rig.write("a", 0.0).await;
    rig.state(|s| s["state"] == "Firing").await;
    assert_eq!(rig.get("/api/v1/notifications").await["data"]["outbox"]["size"], 0);
    let change = json!({"epoch": "e", "base": 1, "generation": 2, "channels": [channel("default", &rig.sink_url())]});
    assert_eq!(rig.patch(&change).await.0, 200);
    rig.write("a", 0.0).await;
    let payload = rig.payload().await;
    assert_eq!((pairs(&payload), &payload["receiver"]), (one("firing", "a"), &json!("shop/default")));
    rig.stop().await;
    rig.start().await;
    rig.write("b", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "b"), "and knows it after a restart");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_states_is_woken_by_a_transition_and_told_the_rest_with_it() {
    let mut rig = Rig::new("").await;
    rig.put(&set(1, &[rule("Down", 1, "up == 0"), rule("Other", 1, "other")], &[channel("hook", &rig.sink_url())]))
        .await;
    rig.write("a", 1.0).await;
    // Both are evaluated, and nothing more is to come.
    let mut all = rig.states("", 0, 0).await;
    let settled = |all: &Value| {
        let states = all["states"].as_array().expect("states");
        let state = |uid: &str| states.iter().find(|s| s["uid"] == uid).map(|s| s["state"].clone());
        state("uid-Down") == Some(json!("Inactive")) && state("uid-Other") == Some(json!("NoData"))
    };
    while !settled(&all) {
        all = rig.states("", 0, 0).await;
    }
    let (epoch, after) = (all["epoch"].as_str().expect("an epoch"), all["after"].as_u64().expect("a number"));
    assert_eq!(rig.states(epoch, after, 0).await["states"], json!(NO_STATES), "nothing changed");
    let (router, path) = (rig.router(), format!("{PATH}/states?epoch={epoch}&after={after}&wait_ms=60000"));
    let waiting = tokio::spawn(async move {
        use tower::ServiceExt as _;
        let request = axum::http::Request::get(path).body(axum::body::Body::empty()).expect("a request");
        let answer = router.oneshot(request).await.expect("answered");
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        serde_json::from_slice::<Value>(&body).expect("JSON")
    });
    rig.write("a", 0.0).await;
    let woken = waiting.await.expect("answered");
    let states = woken["states"].as_array().expect("states");
    assert_eq!((states.len(), &states[0]["uid"], &states[0]["state"]), (1, &json!("uid-Down"), &json!("Firing")));
    assert!(woken["after"].as_u64() > Some(after));
    // Of another run: all of them.
    assert_eq!(rig.states("other", after, 0).await["states"].as_array().expect("states").len(), 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_rule_of_ten_thousand_that_changes_is_one_that_is_checked_stored_and_read() {
    const MANY: usize = 10_000;
    let mut rig = Rig::new("").await;
    rig.write("a", 1.0).await;
    let rules: Vec<Value> = (0..MANY).map(|n| rule(&format!("r{n}"), 1, &format!("up{{job=\"a\"}} > {n}"))).collect();
    let whole = set(1, &rules, &[channel("hook", &rig.sink_url())]);
    assert_eq!(rig.put(&whole).await, json!({}));
    let figures = |rig: &Rig| {
        ["documents_checked_total", "documents_stored_total", "windows_seeded_total"]
            .map(|name| rig.counter(&format!("weir_alerting_{name}")) as usize)
    };
    assert_eq!(figures(&rig), [MANY + 1, MANY + 1, MANY]);
    let change = json!({"epoch": "e", "base": 1, "generation": 2, "rules": [rule("r7", 2, "up{job=\"a\"} > 0.5")]});
    assert_eq!(rig.patch(&change).await.0, 200);
    assert_eq!(figures(&rig), [MANY + 2, MANY + 2, MANY + 1]);
    // The whole set again, as a new leader sends it: nothing of it is new.
    let mut again = whole.clone();
    (again["epoch"], again["rules"][7]) = (json!("f"), rule("r7", 2, "up{job=\"a\"} > 0.5"));
    assert_eq!(rig.put(&again).await, json!({}));
    assert_eq!(figures(&rig), [MANY + 2, MANY + 2, MANY + 1]);
    let states = rig.states("", 0, 0).await;
    assert_eq!(states["states"].as_array().expect("states").len(), MANY);
    rig.stop().await;
    rig.start().await;
    assert_eq!(figures(&rig), [MANY + 1, 0, MANY], "checked and read once by a start, and not stored again");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_is_refused_with_its_place() {
    let mut rig = Rig::new("").await;
    let states = format!("{PATH}/states");
    for (method, path, body, status, reason) in [
        ("PUT", PATH, "{", 400, "EOF while parsing an object at line 1 column 1"),
        ("PUT", PATH, r#"{"epoch":"e","generation":1,"rulez":[]}"#, 400, "unknown field `rulez`"),
        ("PUT", PATH, r#"{"epoch":"","generation":1}"#, 400, "epoch is empty"),
        (
            "PUT",
            PATH,
            r#"{"epoch":"e","generation":1,"base":0}"#,
            400,
            "base, removedRules and removedChannels are for PATCH",
        ),
        ("PATCH", PATH, r#"{"epoch":"e","generation":1}"#, 400, "base is missing"),
        ("PATCH", PATH, r#"{"epoch":"e","generation":1,"base":1}"#, 400, "generation 1 does not follow base 1"),
        ("PUT", "/api/v1/rulesets/A_b", "{}", 400, "is no name of a source"),
        ("GET", &format!("{states}?after=x"), "", 400, "after must be a whole number"),
        ("GET", &format!("{states}?wait=1"), "", 400, "the parameter \\\"wait\\\" is not known"),
    ] {
        let (found, text) = rig.send(method, path, body.to_owned()).await;
        assert!(found == status && text.contains(reason), "{method} {path} {body}: {found} {text}");
    }
    for n in 0..8 {
        assert_eq!(rig.call("PUT", &format!("/api/v1/rulesets/s{n}"), &set(1, &[], &[])).await.0, 200);
    }
    let (status, answer) = rig.call("PUT", PATH, &set(1, &[], &[])).await;
    assert_eq!((status, &answer["error"]), (400, &json!("8 sources have rule sets here already")));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_api_is_behind_the_token() {
    let mut rig = Rig::new("").await;
    rig.stop().await;
    rig.token = Some(Token::fixed("s3cret").expect("a token"));
    rig.start().await;
    rig.put(&set(1, &[], &[])).await;
    rig.token = Some(Token::fixed("another").expect("a token"));
    for (method, path) in [
        ("PUT", PATH),
        ("PATCH", PATH),
        ("GET", "/api/v1/rulesets/kubernetes/states"),
        ("GET", "/api/v1/rules"),
        ("GET", "/api/v1/alerts"),
        ("GET", "/api/v1/notifications"),
        ("POST", "/-/reload"),
    ] {
        assert_eq!(rig.send(method, path, String::new()).await.0, 401, "{method} {path}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_id_of_two_sources_stays_with_the_first_and_a_file_that_has_it_too_is_told() {
    let mut rig = Rig::new(
        "apiVersion: weir.dev/v1alpha1\nkind: NotificationChannel\nmetadata: {name: hook, namespace: shop}\nspec: {webhook: {url: 'http://127.0.0.1:9/'}}\n---\n",
    )
    .await;
    let sink = rig.sink_url();
    assert_eq!(rig.put(&set(1, &[rule("Down", 1, "up == 0")], &[channel("hook", &sink)])).await, json!({}));
    let warnings = rig.get("/api/v1/rules").await["warnings"].clone();
    let warning = warnings[0].as_str().expect("a warning");
    assert!(
        warning.contains("rules.yaml: channel \"shop/hook\" is handed over too, and that one is used"),
        "{warnings}"
    );

    let other = "/api/v1/rulesets/other";
    let (status, answer) = rig.call("PUT", other, &set(1, &[], &[channel("hook", "http://127.0.0.1:9/other")])).await;
    let reason = "the source \"kubernetes\" has handed over a channel \"shop/hook\" already, which stays in use";
    assert_eq!((status, &answer["refused"]), (200, &json!({"shop/hook": reason})));
    // Neither does it take it away when it goes,
    assert_eq!(rig.call("PUT", other, &set(2, &[], &[])).await.1["refused"], json!({}));
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    // nor does a restart give it to the other.
    assert_eq!(rig.call("PUT", other, &set(3, &[], &[channel("hook", "http://127.0.0.1:9/other")])).await.0, 200);
    rig.stop().await;
    rig.start().await;
    rig.write("a", 1.0).await;
    assert_eq!(pairs(&rig.payload().await), one("resolved", "a"));

    // Free once the first gives it up, and the second sends it again.
    rig.put(&set(2, &[rule("Down", 1, "up == 0")], &[])).await;
    let (_, answer) = rig.call("PUT", other, &set(4, &[], &[channel("hook", &sink)])).await;
    assert_eq!(answer["refused"], json!({}));
    rig.write("a", 0.0).await;
    assert_eq!(pairs(&rig.payload().await), one("firing", "a"));
    rig.stop().await;
}
