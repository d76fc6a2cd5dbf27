//! The one place that knows which YAML library is used.
//!
//! The library takes the last of two equal keys of a map without a word, so a text is read twice: once as a tree, which finds
//! duplicate keys at every depth, and once as what is wanted, which has the positions. The price is twice the time of some
//! milliseconds a file. JSON is YAML for this purpose.

mod tree;

use serde::de::DeserializeOwned;

use self::tree::Tree;

use crate::Error;

/// One document of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document<'a> {
    /// One-based number in the stream; empty documents count.
    pub number: usize,
    /// One-based line of the stream at which the text begins.
    pub first_line: usize,
    /// Its text, without the marker.
    pub text: &'a str,
}

/// Splits a stream at its `---` and `...` lines, so that an error in one document is not one in those that follow. Documents with nothing
/// but comments are left out.
///
/// A line that begins with three dashes ends a document even inside of a block of text, as YAML says.
pub fn documents(stream: &str) -> Vec<Document<'_>> {
    // Number, first line, and where it begins and ends.
    let mut cuts = Vec::new();
    let (mut number, mut first_line, mut start, mut at) = (1, 1, 0, 0);
    for (index, line) in stream.split_inclusive('\n').enumerate() {
        let end = at + line.len();
        let marker = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        // What stands behind the marker belongs to the new document, on the marker's own line.
        let next = match marker {
            Some(rest) => Some((end - rest.len(), index + 1)),
            None if line.trim_end() == "..." => Some((end, index + 2)),
            None => None,
        };
        if let Some((next_start, next_line)) = next {
            cuts.push((number, first_line, start, at));
            // Nothing before the first marker is not a document.
            number += usize::from(number > 1 || has_content(&stream[start..at]));
            (start, first_line) = (next_start, next_line);
        }
        at = end;
    }
    cuts.push((number, first_line, start, stream.len()));
    let all =
        cuts.into_iter().map(|(number, first_line, from, to)| Document { number, first_line, text: &stream[from..to] });
    all.filter(|d| has_content(d.text)).collect()
}

/// Reads one document. Refuses duplicate keys, unknown fields where the type does, and more than one document.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let wanted = serde_yaml::from_str::<T>(text);
    // The tree first: a duplicate key may hide behind an error that it causes.
    serde_yaml::from_str::<Value>(text).map_err(error)?;
    wanted.map_err(error)
}

/// As [`from_str`], with merge keys: `<<` takes the keys of a map, or of several, that are not there; of several such keys in a map, as `promtool` has it in files of
/// tests, the later come first. A text with such keys is read as a tree, so an error has no line, and what is not in quotes is a text too wherever `is_text` says so of
/// its key.
pub fn from_str_with_merges<T: DeserializeOwned>(text: &str, is_text: &dyn Fn(&str) -> bool) -> Result<T, Error> {
    if !text.contains("<<") {
        return from_str(text);
    }
    let Tree(mut tree) = serde_yaml::from_str(text).map_err(error)?;
    merge(&mut tree)?;
    as_texts(&mut tree, is_text);
    from_value(tree, "")
}

/// Takes the keys of merged maps, which are whole before they are merged themselves.
pub(crate) fn merge(tree: &mut Value) -> Result<(), Error> {
    match tree {
        Value::Mapping(map) => {
            map.values_mut().try_for_each(merge)?;
            // Below there are none any more.
            if map.contains_key("<<") { tree.apply_merge().map_err(error) } else { Ok(()) }
        }
        Value::Sequence(list) => list.iter_mut().try_for_each(merge),
        Value::Tagged(tagged) => merge(&mut tagged.value),
        _ => Ok(()),
    }
}

/// Makes texts of numbers and truth values, as they are where a text is read straight from the document.
fn as_texts(tree: &mut Value, is_text: &dyn Fn(&str) -> bool) {
    match tree {
        Value::Mapping(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::Number(n) if key.as_str().is_some_and(is_text) => *value = Value::String(n.to_string()),
                    Value::Bool(b) if key.as_str().is_some_and(is_text) => *value = Value::String(b.to_string()),
                    Value::Sequence(list) if key.as_str().is_some_and(is_text) => {
                        list.iter_mut().for_each(|one| match one {
                            Value::Number(n) => *one = Value::String(n.to_string()),
                            Value::Bool(b) => *one = Value::String(b.to_string()),
                            other => as_texts(other, is_text),
                        })
                    }
                    other => as_texts(other, is_text),
                }
            }
        }
        Value::Sequence(list) => list.iter_mut().for_each(|one| as_texts(one, is_text)),
        Value::Tagged(tagged) => as_texts(&mut tagged.value, is_text),
        _ => {}
    }
}

/// Reads a part of a tree, which stands at `path` in its document.
pub fn from_value<T: DeserializeOwned>(value: Value, path: &str) -> Result<T, Error> {
    serde_yaml::from_value(value).map_err(error).map_err(|e| match e {
        Error::Yaml { path: Some(below), message, .. } => Error::field(format!("{path}.{below}"), message),
        other => Error::field(path, other),
    })
}

/// Writes a document.
pub fn to_string<T: serde::Serialize>(value: &T) -> Result<String, Error> {
    serde_yaml::to_string(value).map_err(error)
}

/// A tree of values of a document.
pub type Value = serde_yaml::Value;

/// A place in a text, one-based; the column in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// Where the value begins; where the key does, if the value stands on lines below.
    pub column: usize,
}

/// The line at which the value of a path such as `groups[0].rules[2].expr` is written; see [`place_of`].
pub fn line_of(text: &str, path: &str) -> Option<usize> {
    place_of(text, path).map(|place| place.line)
}

/// Where the value of a path such as `groups[0].rules[2].expr` is written, as far as block style allows to tell, and a map of flow style in
/// one line; the place of the last part of the path that was found otherwise. A key may have dots in it.
pub fn place_of(text: &str, path: &str) -> Option<Place> {
    let lines: Vec<Line<'_>> = text.lines().enumerate().filter_map(|(n, line)| Line::new(n + 1, line)).collect();
    let (mut rest, mut found, mut indent) = (lines.as_slice(), None, 0);
    let mut path = Some(path);
    while let Some(left) = path {
        let Some(block) = rest.first().map(|l| l.indent).filter(|i| *i >= indent) else { break };
        let line = |key: &str| {
            let own = rest.iter().take_while(|l| l.indent >= block);
            own.enumerate().find(|(_, l)| l.indent == block && l.key() == Some(key)).map(|(at, _)| at)
        };
        // A key with dots in it is all that is left.
        let (part, behind) = match line(left) {
            Some(_) => (left, None),
            None => left.split_once('.').map_or((left, None), |(part, behind)| (part, Some(behind))),
        };
        let (key, items) = part.split_once('[').map_or((part, None), |(key, item)| (key, Some(item)));
        let Some(at) = line(key) else { break };
        (found, rest, indent, path) = (Some(rest[at].place()), &rest[at + 1..], block + 1, behind);
        let flow = behind.and_then(|behind| lines_place(text, found?.line, found?.column, behind));
        if flow.is_some() {
            return flow;
        }
        let Some(index) = items.and_then(|i| i.trim_end_matches(']').parse::<usize>().ok()) else { continue };
        let Some(dash) = rest.first().filter(|l| l.dash.is_some()).and_then(|l| l.dash) else { break };
        let starts: Vec<usize> = (0..rest.len()).filter(|n| rest[*n].dash == Some(dash)).collect();
        let Some(start) = starts.get(index).copied() else { break };
        let end = starts.get(index + 1).copied().unwrap_or(rest.len());
        (found, rest, indent) = (Some(rest[start].place()), &rest[start..end], dash + 1);
    }
    found
}

/// A path in a map of flow style that begins at a column of a line: behind the keys, one after the other.
fn lines_place(text: &str, line: usize, column: usize, path: &str) -> Option<Place> {
    let text: Vec<char> = text.lines().nth(line - 1)?.chars().collect();
    let text = &text[..];
    let mut at = column - 1;
    if text.get(at) != Some(&'{') {
        return None;
    }
    let mut path = Some(path);
    while let Some(left) = path {
        let find = |key: &str| {
            let key: Vec<char> = key.chars().collect();
            let behind = |n: usize| text[n + key.len()..].iter().collect::<String>();
            (at..text.len().saturating_sub(key.len())).find(|n| {
                let before = n.checked_sub(1).and_then(|n| text.get(n)).is_none_or(|c| " {,\"'".contains(*c));
                before && text[*n..].starts_with(&key) && behind(*n).trim_start_matches(['"', '\'']).starts_with(':')
            })
        };
        let (part, behind) = match find(left) {
            Some(_) => (left, None),
            None => left.split_once('.').map_or((left, None), |(part, behind)| (part, Some(behind))),
        };
        let key = find(part)?;
        let colon = text[key..].iter().position(|c| *c == ':')? + key;
        at = (colon + 1..text.len()).find(|n| !text[*n].is_whitespace())?;
        path = behind;
    }
    Some(Place { line, column: at + 1 })
}

/// A line of block style: `  - key: value`.
struct Line<'a> {
    number: usize,
    /// Column of the dash, if there is one.
    dash: Option<usize>,
    /// Column of what follows.
    indent: usize,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn new(number: usize, line: &'a str) -> Option<Self> {
        let (text, column) = (line.trim_start(), line.len() - line.trim_start().len());
        if text.is_empty() || text.starts_with('#') {
            return None;
        }
        match text.strip_prefix("- ") {
            Some(item) => {
                let inner = item.trim_start();
                Some(Line { number, dash: Some(column), indent: line.len() - inner.len(), text: inner })
            }
            None => Some(Line { number, dash: (text == "-").then_some(column), indent: column, text }),
        }
    }

    fn place(&self) -> Place {
        let behind = self.text.split_once(':').map_or("", |(_, value)| value);
        let value = behind.trim_start();
        let is_below = value.is_empty() || value.starts_with('#');
        let before = if is_below { 0 } else { self.text[..self.text.len() - value.len()].chars().count() };
        Place { line: self.number, column: self.indent + before + 1 }
    }

    fn key(&self) -> Option<&'a str> {
        self.text.split_once(':').map(|(key, _)| key.trim().trim_matches(['"', '\'']))
    }
}

fn has_content(text: &str) -> bool {
    text.lines().any(|line| !line.trim().is_empty() && !line.trim().starts_with('#'))
}

fn error(error: serde_yaml::Error) -> Error {
    let text = error.to_string();
    let line = error.location().map(|l| l.line());
    // The position is told in the line of the file, which only the caller knows.
    let text = text.split_once(" at line ").map_or(text.as_str(), |(before, _)| before);
    let is_path = |p: &str| !p.is_empty() && p.chars().all(|c| c.is_alphanumeric() || "_-.[]".contains(c));
    match text.split_once(": ").filter(|(path, _)| is_path(path)) {
        Some((path, message)) => Error::Yaml { line, path: Some(path.to_owned()), message: message.to_owned() },
        None => Error::Yaml { line, path: None, message: text.to_owned() },
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn merge_keys_take_what_is_not_there() {
        type Maps = std::collections::BTreeMap<String, BTreeMap<String, String>>;
        let read = |text: &str| from_str_with_merges::<Maps>(text, &|key| key != "n");
        let text = "a: &a {x: '1', y: 2}\nb: {<<: *a, y: '3'}\nc:\n  z: true\n  <<: [{y: '4'}, *a]\n";
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let expect = [
            ("a".to_owned(), map(&[("x", "1"), ("y", "2")])),
            ("b".to_owned(), map(&[("x", "1"), ("y", "3")])),
            ("c".to_owned(), map(&[("x", "1"), ("y", "4"), ("z", "true")])),
        ];
        assert_eq!(read(text).expect("reads"), expect.into());
        let chained = "a: &a {x: '1', y: '2'}\nb: &b {<<: *a, y: '3'}\nc: {<<: *b}\nd: {<<: [{<<: *b, x: '5'}, {<<: *a, z: '6'}]}\n";
        let read_chained = read(chained).expect("reads");
        assert_eq!(read_chained["c"], map(&[("x", "1"), ("y", "3")]));
        assert_eq!(read_chained["d"], map(&[("x", "5"), ("y", "3"), ("z", "6")]));
        let tagged: Value = from_str_with_merges("b: &b {x: 1}\na: !t {<<: *b}", &|_| true).expect("reads");
        assert!(matches!(&tagged["a"], Value::Tagged(one) if one.value["x"] == "1"), "{tagged:?}");
        let lists: BTreeMap<String, Vec<String>> =
            from_str_with_merges("<<: {a: [1, true, x]}", &|_| true).expect("reads");
        assert_eq!(lists["a"], ["1", "true", "x"]);
        let several =
            read("a: {<<: {x: '1', y: '1'}, y: '2', <<: [{x: '3', z: '3'}, {z: '4', v: '4'}]}").expect("reads");
        assert_eq!(several["a"], map(&[("v", "4"), ("x", "3"), ("y", "2"), ("z", "3")]));
        assert!(read("a: {<<: {n: 1}}").is_err(), "a number where a text is wanted");
        for bad in ["a: {<<: 5}", "a: {<<: [{x: '1'}, 3]}", "a: {x: '1', x: '2', <<: {}}", "a: {<<: {}, <<: 5}"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert!(from_str::<Maps>(text).is_err(), "elsewhere it is a key like others");
    }

    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_tree_with_several_merge_keys_is_otherwise_that_of_the_library() {
        for text in [
            "[1, -2, 3.5, true, ~, x, '4', 0x10, .inf, 18446744073709551615]",
            "{1: a, true: b, [c]: !t d, e: !u {f: g}}",
            "",
        ] {
            let Tree(tree) = serde_yaml::from_str(text).expect(text);
            assert_eq!(tree, serde_yaml::from_str::<Value>(text).expect(text), "{text}");
        }
        let refused = serde_yaml::from_str::<Tree>("a:\n  b: 1\n  b: 2\n").map(|_| ()).expect_err("a duplicate");
        assert!(refused.to_string().contains("duplicate entry with key \"b\""), "{refused}");
    }

    #[test]
    fn a_stream_is_cut_into_documents_with_their_lines() {
        let stream = "# note\n---\na: 1\n---   \n# nothing\n---\nb: 2\n...\nc: 3\n";
        let cut: Vec<_> = documents(stream).iter().map(|d| (d.number, d.first_line, d.text.trim())).collect();
        assert_eq!(cut, [(1, 2, "a: 1"), (3, 6, "b: 2"), (4, 9, "c: 3")]);
        assert_eq!(documents("").len(), 0);
        assert_eq!(documents("a: 1")[0].number, 1);
        assert_eq!(documents("a: |\n  ----\n  --- x\n").len(), 1);
    }

    #[test]
    fn duplicate_keys_are_refused_at_every_depth() {
        for text in ["a: 1\na: 2\n", "x:\n  a: 1\n  a: 2\n", "- {a: 1, a: 2}\n"] {
            let refused = from_str::<Value>(text).expect_err(text);
            assert!(refused.to_string().contains("duplicate"), "{refused}");
        }
        assert!(from_str::<BTreeMap<String, i64>>("a: 1\na: 2\n").is_err());
    }

    #[test]
    fn errors_carry_line_and_path() {
        let refused =
            from_str::<BTreeMap<String, BTreeMap<String, i64>>>("a:\n  b: 1\n  c: x\n").expect_err("no number");
        let Error::Yaml { line, path, message } = refused else { panic!("{refused}") };
        assert_eq!((line, path.as_deref()), (Some(3), Some("a.c")), "{message}");
        assert!(message.starts_with("invalid type: string \"x\""), "{message}");
    }

    #[test]
    fn the_line_of_a_path_is_found() {
        let text = "groups:\n- name: a\n  rules:\n    - alert: X\n      expr: up\n    # more\n    - alert: Y\n      labels:\n        expr: no\n      expr: up\n- name: b\n  rules:\n  - record: z\n    expr: 1\n";
        assert_eq!(line_of(text, "groups[0].rules[0].expr"), Some(5));
        assert_eq!(line_of(text, "groups[0].rules[1].expr"), Some(10));
        assert_eq!(line_of(text, "groups[1].rules[0].expr"), Some(14));
        assert_eq!(line_of(text, "groups[1].rules[0].labels"), Some(13));
        assert_eq!(line_of("spec:\n  expr: up\n", "spec.expr"), Some(2));
        assert_eq!(line_of("{\"spec\": 1}", "other"), None);
    }
}
