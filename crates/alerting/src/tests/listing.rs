//! What `/api/v1/rules` lists: what its parameters choose, page by page, and their errors.

use serde_json::{Value, json};

use super::support::Rig;

const FILE: &str = "---
groups:
- name: c
  interval: 30s
  rules:
  - alert: Slow
    expr: sum by(job)(rate(lag_seconds[5m]))>1  # of all
    labels: {severity: page, team: blue}
- name: a
  rules:
  - alert: Down
    expr: up==0
    labels: {severity: page}
  - record: a:up
    expr: sum(up)
    labels: {team: red}
- name: b
  rules:
  - alert: Down
    expr: up{job='b'} == 0
    labels: {severity: '{{ $value }}'}
";

/// The names of the rules, by group.
fn names(answer: &Value) -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let groups = answer["data"]["groups"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
    let rules = |group: &Value| group["rules"].as_array().expect("rules").iter().map(|r| text(&r["name"])).collect();
    groups.map(|group| (text(&group["name"]), rules(group))).collect()
}

async fn check(rig: &Rig, query: &str, expect: &[(&str, &[&str])]) {
    let answer = rig.get(&format!("/api/v1/rules?{query}")).await;
    let expect: Vec<(String, Vec<String>)> = expect
        .iter()
        .map(|(group, rules)| ((*group).to_owned(), rules.iter().map(|r| (*r).to_owned()).collect()))
        .collect();
    assert_eq!(names(&answer), expect, "{query}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_listed_by_file_and_group_and_chosen_by_kind_name_group_file_and_labels() {
    let mut rig = Rig::new(FILE).await;
    let all: &[(&str, &[&str])] = &[("a", &["Down", "a:up"]), ("b", &["Down"]), ("c", &["Slow"])];
    check(&rig, "", all).await;
    check(&rig, "type=", all).await;
    check(&rig, "type=ALERT", &[("a", &["Down"]), ("b", &["Down"]), ("c", &["Slow"])]).await;
    check(&rig, "type=Record", &[("a", &["a:up"])]).await;
    check(&rig, "rule_name[]=Down", &[("a", &["Down"]), ("b", &["Down"])]).await;
    check(
        &rig,
        "rule_name[]=Down&rule_name%5B%5D=Slow&rule_name[]=nosuch",
        &[("a", &["Down"]), ("b", &["Down"]), ("c", &["Slow"])],
    )
    .await;
    check(&rig, "rule_group[]=b&rule_group[]=c", &[("b", &["Down"]), ("c", &["Slow"])]).await;
    check(&rig, "rule_group[]=b&rule_name[]=Slow", &[]).await;
    let file = rig.get("/api/v1/rules").await["data"]["groups"][0]["file"].as_str().expect("a file").to_owned();
    check(&rig, &format!("file[]={file}"), all).await;
    check(&rig, "file[]=other.yaml", &[]).await;
    check(&rig, &format!("file[]=other.yaml&file[]={file}&rule_group[]=a"), &[("a", &["Down", "a:up"])]).await;
    // Labels of the rule, without the name of the alert, and as they are written.
    check(&rig, "match[]={severity=%22page%22}", &[("a", &["Down"]), ("c", &["Slow"])]).await;
    check(&rig, "match[]={team=~%22r.%2B%22}&match[]={team=%22blue%22}", &[("a", &["a:up"]), ("c", &["Slow"])]).await;
    check(&rig, "match[]={severity=%22page%22,team=%22blue%22}", &[("c", &["Slow"])]).await;
    check(&rig, "match[]={team!=%22blue%22,severity!=%22%22}", &[("a", &["Down"]), ("b", &["Down"])]).await;
    check(&rig, "match[]={severity=%22{{+$value+}}%22}", &[("b", &["Down"])]).await;
    check(&rig, "match[]={alertname=%22Down%22}", &[]).await;
    // What is said of a group is of all of it.
    let only = rig.get("/api/v1/rules?match[]={team=%22blue%22}").await;
    assert_eq!(only["data"]["groups"][0]["interval"], 30);
    assert_eq!(only["data"].get("groupNextToken"), None);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_are_printed_as_prometheus_prints_them() {
    let mut rig = Rig::new(FILE).await;
    let groups = rig.get("/api/v1/rules").await["data"]["groups"].clone();
    let query = |group: usize, rule: usize| groups[group]["rules"][rule]["query"].clone();
    assert_eq!(query(0, 0), "up == 0");
    assert_eq!(query(1, 0), "up{job=\"b\"} == 0");
    assert_eq!(query(2, 0), "sum by (job) (rate(lag_seconds[5m])) > 1");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_come_in_pages_of_those_that_are_asked_for() {
    let mut rig = Rig::new(FILE).await;
    let page = async |query: &str| {
        let answer = rig.get(&format!("/api/v1/rules?{query}")).await;
        let groups: Vec<String> = names(&answer).into_iter().map(|(group, _)| group).collect();
        (groups.concat(), answer["data"]["groupNextToken"].as_str().map(str::to_owned))
    };
    let of = |groups: &str, next: Option<&str>| (groups.to_owned(), next.map(str::to_owned));
    let next = async |query: &str| page(query).await.1.expect("there is more");
    let (b, c) = (next("group_limit=1").await, next("group_limit=2").await);
    assert_eq!(page("group_limit=1").await, of("a", Some(&b)));
    assert_eq!(page(&format!("group_limit=1&group_next_token={b}")).await, of("b", Some(&c)));
    assert_eq!(page(&format!("group_limit=1&group_next_token={c}")).await, of("c", None));
    assert_eq!(page(&format!("group_limit=9&group_next_token={b}")).await, of("bc", None));
    assert_eq!(page("group_limit=2").await, of("ab", Some(&c)));
    assert_eq!(page("group_limit=3").await, of("abc", None));
    assert_eq!(page("group_limit=%2B3&group_next_token=").await, of("abc", None));
    // A group of which nothing is asked for takes no place, and one with something is next.
    assert_eq!(page("group_limit=1&match[]={severity=%22page%22}").await, of("a", Some(&c)));
    assert_eq!(
        page(&format!("group_limit=1&match[]={{severity=%22page%22}}&group_next_token={b}")).await,
        of("c", None)
    );
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_refused_with_the_words_of_prometheus() {
    let mut rig = Rig::new(FILE).await;
    for (query, error) in [
        ("type=x", r#"invalid parameter "type": not supported value "x""#),
        ("type=RECORDED", r#"invalid parameter "type": not supported value "recorded""#),
        (
            "exclude_alerts=Maybe",
            r#"invalid parameter "exclude_alerts": error converting exclude_alerts: strconv.ParseBool: parsing "maybe": invalid syntax"#,
        ),
        ("match[]={}", "match[] must contain at least one non-empty matcher"),
        ("match[]={a=%22%22}", "match[] must contain at least one non-empty matcher"),
        ("match[]=x{", "1:3: parse error: unexpected end of input inside braces"),
        (
            "group_next_token=x",
            r#"invalid parameter "group_next_token": group_limit needs to be present in order to paginate over the groups"#,
        ),
        (
            "group_limit=x",
            r#"invalid parameter "group_limit": group_limit needs to be a valid number: strconv.ParseInt: parsing "x": invalid syntax"#,
        ),
        (
            "group_limit=2147483648",
            r#"invalid parameter "group_limit": group_limit needs to be a valid number: strconv.ParseInt: parsing "2147483648": value out of range"#,
        ),
        ("group_limit=0", r#"invalid parameter "group_limit": group_limit needs to be greater than 0"#),
        ("group_limit=-1", r#"invalid parameter "group_limit": group_limit needs to be greater than 0"#),
        (
            "group_limit=1&group_next_token=x",
            r#"invalid parameter "group_next_token": invalid group_next_token 'x'. were rule groups changed?"#,
        ),
        // The first that is wrong is told.
        ("group_limit=0&type=x&match[]={}", "match[] must contain at least one non-empty matcher"),
        ("type=%zz", r#"error parsing form values: cannot decode "type=%zz""#),
    ] {
        let answer = rig.get(&format!("/api/v1/rules?{query}")).await;
        assert_eq!(answer, json!({"status": "error", "errorType": "bad_data", "error": error}), "{query}");
    }
    rig.stop().await;
}
