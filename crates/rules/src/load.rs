//! Reads a file or a folder of documents.
//!
//! Folders are read in the order of their names, to a bounded depth. Names that begin with a dot are left out, which is also what makes
//! a mounted ConfigMap work: its files are links into a folder `..data`, which is read through the links and not twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use promql::Features;

use crate::document::{AlertRule, Metadata, NotificationChannel};
use crate::error::{Problem, Severity};
use crate::prometheus::{self, FileRule, RuleFile};
use crate::yaml::{self, Document, Value};
use crate::{Channel, Error, Kind, Rule, check};

/// Folders within folders; deeper ones, which are loops of links, are left out with a problem.
const DEPTH_MAX: usize = 16;
/// Files of one folder tree: ten times the largest collection of rules known.
const FILES_MAX: usize = 10_000;
/// Bytes of one file; a thousand rules take half a megabyte.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Kinds of `weir.dev` that a later version reads.
const KINDS_LATER: [&str; 4] = ["NotificationPolicy", "Silence", "EscalationPolicy", "OnCallSchedule"];
/// The channel of rules that name none.
pub const DEFAULT_CHANNEL: &str = "default";

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The rules that can be used, in the order in which they were read.
    pub rules: Vec<Rule>,
    /// The channels that can be used.
    pub channels: Vec<Channel>,
    /// What should be mended.
    pub problems: Vec<Problem>,
    /// The files that were read or should have been.
    pub files: Vec<String>,
}

impl Loaded {
    /// The files with a problem because of which something is not loaded.
    pub fn bad_files(&self) -> BTreeSet<&str> {
        self.problems.iter().filter(|p| p.severity == Severity::Error).map(|p| p.file.as_str()).collect()
    }
}

/// Reads a file, or all files `*.yaml`, `*.yml` and `*.json` in a folder and the folders in it. Never fails: what cannot be
/// read is in `problems`.
pub fn load(path: &Path, features: &Features) -> Loaded {
    read(path, features, false)
}

/// As [`load`], and refuses names that the API server of Kubernetes would refuse too: what is accepted can be applied. Not what a process
/// does, since it must not lose the rules that it had for what they are called.
pub fn load_strictly(path: &Path, features: &Features) -> Loaded {
    read(path, features, true)
}

/// As [`load`]; with `ignore_unknown_fields` rule files in Prometheus' format may have fields that are not known, at a group and at a rule.
pub fn load_for_tests(path: &Path, features: &Features, ignore_unknown_fields: bool) -> Loaded {
    let mut loader = Loader::new(features);
    loader.lenient = ignore_unknown_fields;
    loader.read(path)
}

fn read(path: &Path, features: &Features, strict: bool) -> Loaded {
    Loader { strict, ..Loader::new(features) }.read(path)
}

/// What tells that a file changed without reading it: path, size, inode, and the times of the last change of content and of attributes.
pub type Mark = (PathBuf, [i64; 6]);

/// The marks of all files that [`load`] would read. Equal marks mean that nothing changed: the last of the times cannot be set by hand.
pub fn marks(path: &Path) -> Vec<Mark> {
    use std::os::unix::fs::MetadataExt as _;
    let features = Features::default();
    let mut loader = Loader::new(&features);
    let mut files = Vec::new();
    if path.is_dir() {
        loader.walk(path, 0, &mut files);
    } else {
        files.push(path.to_owned());
    }
    let mark = |file: PathBuf| {
        let facts = std::fs::metadata(&file).map_or([0; 6], |m| {
            [m.size().cast_signed(), m.ino().cast_signed(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()]
        });
        (file, facts)
    };
    files.into_iter().map(mark).collect()
}

/// Reads the documents of one text, as if it were the only file, of that name.
pub fn load_text(text: &str, file: &str, features: &Features) -> Loaded {
    read_text(text, file, features, false)
}

fn read_text(text: &str, file: &str, features: &Features, strict: bool) -> Loaded {
    let mut loader = Loader { strict, ..Loader::new(features) };
    loader.loaded.files.push(file.to_owned());
    loader.text(text, file, file);
    loader.finish()
}

struct Loader<'a> {
    features: &'a Features,
    /// Whether names must be those that Kubernetes takes.
    strict: bool,
    /// Whether fields of Prometheus' files that are not known are let pass.
    lenient: bool,
    loaded: Loaded,
    /// How many rules have an identity so far.
    uids: BTreeMap<String, usize>,
}

/// The document that is being read.
struct Place<'a> {
    file: &'a str,
    origin: &'a str,
    document: Document<'a>,
}

impl<'a> Loader<'a> {
    fn new(features: &'a Features) -> Self {
        Loader { features, strict: false, lenient: false, loaded: Loaded::default(), uids: BTreeMap::new() }
    }

    fn read(mut self, path: &Path) -> Loaded {
        let mut files = Vec::new();
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.walk(path, 0, &mut files),
            Ok(_) => files.push(path.to_owned()),
            Err(e) => self.unreadable(path, &e),
        }
        for file in &files {
            self.file(path, file);
        }
        self.finish()
    }

    fn walk(&mut self, dir: &Path, depth: usize, files: &mut Vec<PathBuf>) {
        let listed = std::fs::read_dir(dir).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        let mut entries = match listed {
            Ok(entries) => entries,
            Err(e) => return self.unreadable(dir, &e),
        };
        entries.sort_unstable_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if name.starts_with('.') {
                continue;
            }
            let wanted = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && depth < DEPTH_MAX => self.walk(&path, depth + 1, files),
                Ok(metadata) if metadata.is_dir() => {
                    self.problem(&path, format!("more than {DEPTH_MAX} folders deep; is it a loop of links?"));
                }
                Ok(_) if wanted && files.len() < FILES_MAX => files.push(path),
                Ok(_) if wanted => self.problem(&path, format!("more than {FILES_MAX} files")),
                Err(e) if wanted => self.unreadable(&path, &e),
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn file(&mut self, root: &Path, path: &Path) {
        let file = path.to_string_lossy().into_owned();
        let relative = path.strip_prefix(root).ok().filter(|p| !p.as_os_str().is_empty());
        let origin = relative.or(path.file_name().map(Path::new)).unwrap_or(path).to_string_lossy().into_owned();
        self.loaded.files.push(file.clone());
        let mut text = String::new();
        let read = std::fs::File::open(path).and_then(|f| f.take(FILE_BYTES_MAX + 1).read_to_string(&mut text));
        match read {
            Ok(bytes) if bytes as u64 > FILE_BYTES_MAX => {
                self.problem(path, format!("larger than {FILE_BYTES_MAX} bytes"));
            }
            Ok(_) => self.text(&text, &file, &origin),
            Err(e) => self.unreadable(path, &e),
        }
    }

    fn text(&mut self, text: &str, file: &str, origin: &str) {
        for document in yaml::documents(text.strip_prefix('\u{feff}').unwrap_or(text)) {
            let place = Place { file, origin, document };
            if let Err(errors) = self.document(&place) {
                self.refuse(&place, None, errors);
            }
        }
    }

    fn document(&mut self, place: &Place<'_>) -> Result<(), Vec<Error>> {
        let text = place.document.text;
        let tree: Value = yaml::from_str(text).map_err(|e| vec![e])?;
        if tree.is_null() {
            return Ok(());
        }
        let word = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or("");
        match (word("apiVersion"), word("kind")) {
            ("", "") if tree.get("groups").is_some() => self.rule_file(place),
            ("", "") => Err(vec![Error::Yaml {
                line: None,
                path: None,
                message: "neither a document with apiVersion and kind nor a Prometheus rule file with groups"
                    .to_owned(),
            }]),
            (_, "AlertRule") => {
                let document: AlertRule = yaml::from_str(text).map_err(|e| vec![e])?;
                let rule = check::alert_rule(&document, place.file, place.origin, self.features);
                let rule = self.named(rule, &document.metadata);
                let name = document.metadata.name;
                match rule {
                    Ok(rule) => self.add(place, rule, "metadata.name"),
                    Err(errors) => self.refuse(place, Some(name), errors),
                }
                Ok(())
            }
            (_, "NotificationChannel") => {
                let document: NotificationChannel = yaml::from_str(text).map_err(|e| vec![e])?;
                match self.named(check::channel(&document, place.file, None), &document.metadata) {
                    Ok(channel) if self.loaded.channels.iter().any(|c| c.id == channel.id) => {
                        let message = "a channel of this name was loaded before";
                        self.refuse(place, Some(channel.id), vec![Error::field("metadata.name", message)]);
                    }
                    Ok(channel) => self.loaded.channels.push(channel),
                    Err(errors) => self.refuse(place, Some(document.metadata.name), errors),
                }
                Ok(())
            }
            (version, kind) if version.starts_with("weir.dev/") && KINDS_LATER.contains(&kind) => {
                Err(vec![Error::field("kind", format!("{kind} is not supported yet"))])
            }
            (version, kind) => Err(vec![Error::field(
                "kind",
                format!(
                    "{version:?} {kind:?} is not known; AlertRule and NotificationChannel of weir.dev/v1alpha1 are"
                ),
            )]),
        }
    }

    /// What was checked, unless it has a name that is refused here.
    fn named<T>(&self, checked: Result<T, Vec<Error>>, metadata: &Metadata) -> Result<T, Vec<Error>> {
        let faults = if self.strict { check::names(metadata) } else { Vec::new() };
        match checked {
            Ok(checked) if faults.is_empty() => Ok(checked),
            Ok(_) => Err(faults),
            // What both refuse is told once, with what would be good here.
            Err(errors) => {
                let path =
                    |error: &Error| if let Error::Field { path, .. } = error { path.clone() } else { String::new() };
                let told: Vec<String> = faults.iter().map(path).collect();
                Err(faults.into_iter().chain(errors.into_iter().filter(|e| !told.contains(&path(e)))).collect())
            }
        }
    }

    fn rule_file(&mut self, place: &Place<'_>) -> Result<(), Vec<Error>> {
        let file: RuleFile = self.prometheus_file(place.document.text).map_err(|e| vec![e])?;
        let mut names = BTreeSet::new();
        for (n, group) in file.groups.iter().enumerate() {
            let path = format!("groups[{n}]");
            if !names.insert(&group.name) {
                let message = format!("groupname: {:?} is repeated in the same file", group.name);
                self.refuse(place, Some(group.name.clone()), vec![Error::field(format!("{path}.name"), message)]);
                continue;
            }
            let facts = match check::group(group, &path) {
                Ok(facts) => facts,
                Err(errors) => {
                    self.refuse(place, Some(group.name.clone()), errors);
                    continue;
                }
            };
            for (m, value) in group.rules.iter().enumerate() {
                let path = format!("{path}.rules[{m}]");
                let word = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
                let name = word("alert").or_else(|| word("record"));
                let rule = yaml::from_value::<FileRule>(value.clone(), &path).map_err(|e| vec![e]);
                let rule = rule
                    .and_then(|rule| check::file_rule(&rule, &facts, &path, place.file, place.origin, self.features));
                match rule {
                    Ok(rule) => self.add(place, rule, &path),
                    Err(errors) => self.refuse(place, name, errors),
                }
            }
        }
        Ok(())
    }

    fn prometheus_file(&self, text: &str) -> Result<RuleFile, Error> {
        // What is wrong in a tree is told without its line.
        if !self.lenient && !text.contains("<<") {
            return yaml::from_str(text);
        }
        let mut tree: Value = yaml::from_str(text)?;
        yaml::merge(&mut tree)?;
        if self.lenient {
            prometheus::drop_unknown(&mut tree);
        }
        yaml::from_value(tree, "")
    }

    fn add(&mut self, place: &Place<'_>, mut rule: Rule, path: &str) {
        let count = self.uids.entry(rule.uid.clone()).or_default();
        *count += 1;
        if *count > 1 && path == "metadata.name" {
            let message = "a rule of this name was loaded before from the same file, or with the same uid";
            return self.refuse(place, Some(rule.name), vec![Error::field(path, message)]);
        }
        if *count > 1 {
            // Prometheus' files have several alerts of one name in a group, one a severity.
            rule.uid = format!("{};{count}", rule.uid);
        }
        self.loaded.rules.push(rule);
    }

    fn refuse(&mut self, place: &Place<'_>, name: Option<String>, errors: Vec<Error>) {
        let (first_line, text) = (place.document.first_line, place.document.text);
        for error in errors {
            let (line, path, message) = match error {
                Error::Yaml { line, path, message } => (line, path, message),
                Error::Field { path, message } => (None, Some(path), message),
                Error::Template(message) => (None, None, message),
            };
            let found = path.as_ref().and_then(|path| yaml::place_of(text, path));
            // Expressions tell their own place, and the fields of a spec are found by their names.
            let is_name = line.is_none() && path.as_ref().is_some_and(|path| path.starts_with("metadata."));
            let line = line.or(found.as_ref().map(|found| found.line)).map_or(first_line, |line| line + first_line - 1);
            self.loaded.problems.push(Problem {
                severity: Severity::Error,
                file: place.file.to_owned(),
                document: Some(place.document.number),
                line: Some(line),
                column: found.filter(|_| is_name).map(|found| found.column),
                path,
                name: name.clone(),
                message,
            });
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        self.problem(path, format!("cannot be read: {error}"));
    }

    fn problem(&mut self, path: &Path, message: String) {
        let file = path.to_string_lossy().into_owned();
        let (severity, none) = (Severity::Error, None);
        self.loaded.problems.push(Problem {
            severity,
            file,
            document: None,
            line: None,
            column: None,
            path: None,
            name: none,
            message,
        });
    }

    /// Finds each rule's channel, which may stand in a later file.
    fn finish(mut self) -> Loaded {
        let ids: BTreeSet<String> = self.loaded.channels.iter().map(|c| c.id.clone()).collect();
        for rule in &mut self.loaded.rules {
            let namespace = rule.namespace.clone();
            let Kind::Alerting(alerting) = &mut rule.kind else { continue };
            let wanted = alerting.channel.clone().unwrap_or_else(|| DEFAULT_CHANNEL.to_owned());
            let own = if namespace.is_empty() { wanted.clone() } else { format!("{namespace}/{wanted}") };
            let found = [own.clone(), wanted].into_iter().find(|id| ids.contains(id));
            if found.is_none() && alerting.channel.is_some() {
                self.loaded.problems.push(Problem {
                    severity: Severity::Warning,
                    file: rule.file.clone(),
                    document: None,
                    line: None,
                    column: None,
                    path: Some("spec.channel".to_owned()),
                    name: Some(rule.name.clone()),
                    message: format!("channel {own:?} is not loaded; notifications wait until it is"),
                });
                alerting.channel = Some(own);
            } else {
                alerting.channel = found;
            }
        }
        self.loaded
    }
}

#[cfg(test)]
mod tests;
