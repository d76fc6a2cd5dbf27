//! `weir verify`, and what Weir asks the token for.

use std::process::Command;

use crate::alerts::write_rules;
use crate::support::{free_port, weir_bin};
use crate::weir::Launch;

#[tokio::test]
async fn verify_follows_a_sample_to_the_resolve_of_its_alert() {
    let dir = tempfile::tempdir().expect("directory");
    let (rules, sink) = (dir.path().join("rules"), format!("127.0.0.1:{}", free_port()));
    write_rules(&rules, &format!("http://{sink}/"), "  expr: weir_verify{release=\"a\"} > 0\n  channel: hook\n");
    let data = dir.path().join("data");
    let weir = Launch::new(&data).args(&["--rules", &rules.display().to_string()]).start().await;
    let [ingest, query] = ["/metrics", "/query"].map(|path| format!("http://{}", weir.address(path)));
    let verify = |labels: &[&str], timeout: &str| {
        let mut command = Command::new(weir_bin());
        command.args(["verify", "--ingest-url", &ingest, "--query-url", &query, "--webhook", &sink]);
        command.args(["--timeout", timeout]).args(labels.iter().flat_map(|label| ["--label", label]));
        command
    };
    let mut good = verify(&["release=a"], "60s");
    let output = tokio::task::spawn_blocking(move || good.output()).await.expect("joined").expect("ran");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(told.lines().filter(|line| line.starts_with("ok: ")).count(), 4, "{told}");

    // No rule selects this one, so nothing is told.
    let mut deaf = verify(&["release=b"], "15s");
    let output = tokio::task::spawn_blocking(move || deaf.output()).await.expect("joined").expect("ran");
    let reason = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{reason}");
    assert!(reason.contains("its alert is received as firing: not within 15s"), "{reason}");
}

#[tokio::test]
async fn rules_are_handed_over_with_the_token_only_and_everything_else_is_open() {
    let dir = tempfile::tempdir().expect("directory");
    let token = dir.path().join("token");
    std::fs::write(&token, "known\n").expect("written");
    let data = dir.path().join("data");
    let weir = Launch::new(&data).args(&["--token-file", &token.display().to_string()]).start().await;
    let set = r#"{"epoch":"a","generation":1,"rules":[],"channels":[]}"#;
    let put =
        || weir.http.put(weir.url("/api/v1/rulesets/kubernetes")).header("content-type", "application/json").body(set);
    assert_eq!(put().send().await.expect("answered").status(), 401);
    assert_eq!(put().bearer_auth("guessed").send().await.expect("answered").status(), 401);
    assert_eq!(put().bearer_auth("known").send().await.expect("answered").status(), 200);
    assert_eq!(weir.get("/api/v1/rules").await.0, 200);
}
