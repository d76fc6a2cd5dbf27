//! `weir test rules`: the files in `tests/rule_tests`, of which each test says in its name whether it passes, and whether its failure is told in other words
//! than those of promtool, which is asked as well where it is there. Nothing is started here, so it is tested in one test program only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{at, program, weir_bin};

/// Where the files are, seen from this crate.
const FOLDER: &str = "crates/weir/tests/rule_tests";

/// The files of tests, relative to the folder.
fn files() -> Vec<String> {
    let mut all = Vec::new();
    for folder in ["", "malformed/"] {
        let entries = std::fs::read_dir(at(FOLDER).join(folder)).expect("the folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
        all.extend(names.filter(|name| name.ends_with(".test.yml")).map(|name| format!("{folder}{name}")));
    }
    all.sort();
    assert!(all.len() > 20, "{all:?}");
    all
}

/// What a program made of one file.
#[derive(Debug, Default)]
struct Suite {
    /// The beginning of its XML, but for the time.
    head: String,
    /// The failures of each test, in order.
    cases: Vec<(String, Vec<String>)>,
    /// Why nothing was tested.
    aborted: Option<String>,
}

impl Suite {
    fn is_failed(&self) -> bool {
        self.aborted.is_some() || self.cases.iter().any(|(_, failures)| !failures.is_empty())
    }

    /// Whether all that fails is told in the same words.
    fn is_told_alike(&self) -> bool {
        self.aborted.is_none() && !self.cases.iter().any(|(name, _)| name.contains("other words"))
    }
}

/// Runs a program over files of the folder; its output, and what it made of each file.
fn tested(program: &Path, args: &[&str], files: &[String]) -> (Output, BTreeMap<String, Suite>) {
    let dir = tempfile::tempdir().expect("directory");
    let xml = dir.path().join("junit.xml");
    let mut command = Command::new(program);
    command.current_dir(at(FOLDER)).args(["test", "rules", "--junit"]).arg(&xml).args(args).args(files);
    let output = command.output().expect("runs");
    let xml = std::fs::read_to_string(&xml).unwrap_or_else(|e| panic!("{command:?}: {e}: {output:?}"));
    (output, suites(&xml))
}

/// Reads the XML, of which the texts stay as they are written there.
fn suites(xml: &str) -> BTreeMap<String, Suite> {
    let between = |text: &str, from: &str, to: &str| {
        let rest = text.split_once(from)?.1;
        Some(rest.split_once(to)?.0.to_owned())
    };
    let inner = between(xml, "<testsuites>", "</testsuites>").expect("suites");
    let mut found = BTreeMap::new();
    for text in inner.split("</testsuite>").filter(|text| !text.is_empty()) {
        let (head, body) = text.split_once('>').expect("a head");
        let time = between(head, " timestamp=\"", "\"").expect("a time");
        let mut suite = Suite { head: head.replace(&time, ""), ..Suite::default() };
        for case in body.split("</testcase>").filter(|case| !case.is_empty()) {
            let name = between(case, "<testcase name=\"", "\"").expect("a name");
            let failures = case.split("<failure>").skip(1);
            let failures = failures.map(|text| text.split_once("</failure>").expect("closed").0.to_owned()).collect();
            suite.cases.push((name, failures));
            suite.aborted = suite.aborted.or_else(|| between(case, "<error>", "</error>"));
        }
        found.insert(between(head, " name=\"", "\"").expect("a file"), suite);
    }
    found
}

#[test]
fn tests_of_rules_pass_and_fail_as_they_say() {
    let (output, suites) = tested(&weir_bin(), &[], &files());
    assert_eq!(output.status.code(), Some(1));
    let (mut passed, mut failed) = (0, 0);
    for (file, suite) in &suites {
        for (name, failures) in &suite.cases {
            let passes = failures.is_empty() && suite.aborted.is_none();
            assert!(!name.starts_with("fails") || !passes, "{file}: {name}");
            assert!(!name.starts_with("passes") || passes, "{file}: {name}: {failures:?}");
            passed += usize::from(name.starts_with("passes"));
            failed += usize::from(name.starts_with("fails"));
        }
    }
    assert!(passed > 15 && failed > 50, "{passed} pass, {failed} fail");
    assert_eq!(suites.keys().cloned().collect::<Vec<_>>(), files(), "each file has a suite");
}

#[test]
fn the_exit_status_says_whether_all_pass() {
    let status = |args: &[&str]| {
        let mut command = Command::new(weir_bin());
        let output = command.current_dir(at(FOLDER)).args(["test", "rules"]).args(args).output().expect("runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    assert_eq!(status(&["order.test.yml"]), (Some(0), String::new()));
    assert_eq!(status(&["order.test.yml", "exact.test.yml"]).0, Some(1));
    assert_eq!(status(&["--run", "passes", "fuzzy.test.yml", "series.test.yml"]), (Some(0), String::new()));
    assert_eq!(status(&["--run", "passes", "--run", "fails", "fuzzy.test.yml"]).0, Some(1));
    let (code, told) = status(&["absent.test.yml"]);
    assert!(code == Some(1) && told.contains("absent.test.yml: cannot be read"), "{told}");
    let (code, told) = status(&["--run", "(", "order.test.yml"]);
    assert!(code == Some(1) && told.contains("--run: "), "{told}");
    let (code, told) = status(&["--enable-feature", "flying", "order.test.yml"]);
    assert!(code == Some(1) && told.contains("--enable-feature: unknown feature: flying"), "{told}");
    let experimental = ["--run", "experimental", "--enable-feature", "promql-experimental-functions"];
    let (_, told) = status(&[&experimental[..], &["errors.test.yml"]].concat());
    assert!(told.contains("got: {} 1E+00"), "{told}");
}

#[test]
fn the_example_of_the_documentation_passes_and_fails_as_it_shows() {
    let page = std::fs::read_to_string(at("docs/rule-tests.md")).expect("the page");
    let block = |after: &str| {
        let rest = page.split_once(after).expect("a block").1;
        rest.split_once("```").expect("its end").0
    };
    let dir = tempfile::tempdir().expect("directory");
    std::fs::create_dir(dir.path().join("rules")).expect("created");
    std::fs::write(dir.path().join("rules/disk.yaml"), block("# rules/disk.yaml\n")).expect("written");
    let tested = |text: &str| {
        std::fs::write(dir.path().join("tests.yml"), text).expect("written");
        let mut command = Command::new(weir_bin());
        let output = command.current_dir(dir.path()).args(["test", "rules", "tests.yml"]).output().expect("runs");
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8"))
    };
    let tests = block("# tests.yml\n");
    assert_eq!(tested(tests), (Some(0), String::new()));
    let (code, told) = tested(&tests.replace("a has 20", "a has 21"));
    assert_eq!(code, Some(1));
    assert_eq!(told, block("Processing test file: tests.yml\n"));
}

#[test]
fn tests_of_rules_have_the_results_of_promtool() {
    let test = "tests_of_rules_have_the_results_of_promtool";
    let Some(promtool) = program(test, "PROMTOOL_BIN") else { return };
    let files = files();
    let run = &["--run", "passes", "--run", "^unnamed"];
    for args in [&[][..], &["--diff"], run, &["--ignore-unknown-fields"], &["--debug"]] {
        let (ours, own) = tested(&weir_bin(), args, &files);
        let (theirs, other) = tested(&promtool, args, &files);
        assert_eq!(ours.status.code(), theirs.status.code(), "{args:?}");
        let mut alike: BTreeSet<PathBuf> = BTreeSet::new();
        for (file, suite) in &own {
            let expect = &other[file];
            let place = format!("{file} {args:?}");
            let names = |suite: &Suite| suite.cases.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            assert_eq!(names(suite), names(expect), "{place}");
            assert_eq!(suite.aborted.is_some(), expect.aborted.is_some(), "{place}: {suite:?} instead of {expect:?}");
            for ((name, failures), (_, wanted)) in suite.cases.iter().zip(&expect.cases) {
                if name.contains("other words") {
                    assert_eq!(failures.is_empty(), wanted.is_empty(), "{place}: {name}: {failures:?} {wanted:?}");
                } else {
                    assert_eq!(failures, wanted, "{place}: {name}");
                }
            }
            if suite.is_told_alike() {
                assert_eq!(suite.head, expect.head, "{place}");
                alike.insert(file.into());
            }
        }
        assert!(alike.len() > 8 && own.values().any(Suite::is_failed), "{alike:?}");
        // What is shown to people, of files whose failures are told in the same words.
        let alike: Vec<String> = alike.iter().map(|path| path.display().to_string()).collect();
        let (ours, _) = tested(&weir_bin(), args, &alike);
        let (theirs, _) = tested(&promtool, args, &alike);
        // How long a test took is another time each time.
        let untimed = |line: &str| line.split_once(" finished, took ").map_or(line, |(before, _)| before).to_owned();
        let text = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).expect("UTF-8");
            text.lines().map(untimed).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(text(&ours.stdout), text(&theirs.stdout), "{args:?}");
        let (ours, theirs) = (text(&ours.stderr), text(&theirs.stderr));
        for (at, (own, other)) in ours.lines().zip(theirs.lines()).enumerate() {
            assert_eq!(own, other, "line {at} {args:?}");
        }
        assert_eq!(ours, theirs, "{args:?}");
        assert_eq!(ours.contains("DEBUG: Dump of all data"), args == ["--debug"]);
    }
}
