//! Names of files with `*`, `?` and `[…]` in them, as Go's `filepath.Glob` reads them.

use std::path::{Component, Path, PathBuf};

/// A pattern that cannot be read.
pub(super) const BAD_PATTERN: &str = "syntax error in pattern";
/// Files that one pattern may find.
const FOUND_MAX: usize = 10_000;

/// The files that a pattern finds, in the order of their names; a folder counts as one. What cannot be read is not found.
pub(super) fn find(pattern: &Path) -> Result<Vec<PathBuf>, &'static str> {
    let mut found = vec![PathBuf::new()];
    for component in pattern.components() {
        let name = match component {
            Component::Normal(name) => name.to_string_lossy(),
            other => {
                found.iter_mut().for_each(|path| path.push(other));
                continue;
            }
        };
        if !name.contains(['*', '?', '[', '\\']) {
            found.iter_mut().for_each(|path| path.push(name.as_ref()));
            found.retain(|path| path.exists());
            continue;
        }
        let mut next = Vec::new();
        // Asked of no name as well, so that a bad pattern is told where there is no file.
        matches(&name, "")?;
        for folder in &found {
            let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let Ok(entries) = std::fs::read_dir(listed) else { continue };
            let mut names: Vec<String> =
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort_unstable();
            for one in names {
                if next.len() < FOUND_MAX && matches(&name, &one)? {
                    next.push(folder.join(one));
                }
            }
        }
        found = next;
    }
    Ok(found)
}

/// Whether a name is one of a pattern. Each star is tried at the last place only that it may need, so the time is at most the product of both lengths.
fn matches(pattern: &str, name: &str) -> Result<bool, &'static str> {
    let parts = parts(pattern)?;
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n, mut again) = (0, 0, None);
    while n < name.len() {
        match parts.get(p) {
            Some(Part::Star) => {
                again = Some((p, n));
                p += 1;
            }
            Some(Part::One(one)) if one.holds(name[n]) => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, from)) = again else { return Ok(false) };
                again = Some((star, from + 1));
                (p, n) = (star + 1, from + 1);
            }
        }
    }
    Ok(parts[p..].iter().all(|part| matches!(part, Part::Star)))
}

enum Part {
    Star,
    One(One),
}

/// One character: any, or one of these ranges or none of them.
struct One {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl One {
    fn holds(&self, c: char) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != self.negated
    }
}

fn parts(pattern: &str) -> Result<Vec<Part>, &'static str> {
    let mut chars = pattern.chars().peekable();
    let mut parts = Vec::new();
    while let Some(c) = chars.next() {
        let one = match c {
            '*' => {
                parts.push(Part::Star);
                continue;
            }
            '?' => One { negated: true, ranges: Vec::new() },
            '\\' => {
                let c = chars.next().ok_or(BAD_PATTERN)?;
                One { negated: false, ranges: vec![(c, c)] }
            }
            '[' => {
                let negated = chars.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
                    let mut end = || match chars.next().ok_or(BAD_PATTERN)? {
                        '-' | ']' => Err(BAD_PATTERN),
                        '\\' => chars.next().ok_or(BAD_PATTERN),
                        c => Ok(c),
                    };
                    let from = end()?;
                    let is_range = chars.next_if_eq(&'-').is_some();
                    let mut end = || match chars.next().ok_or(BAD_PATTERN)? {
                        '-' | ']' => Err(BAD_PATTERN),
                        '\\' => chars.next().ok_or(BAD_PATTERN),
                        c => Ok(c),
                    };
                    ranges.push((from, if is_range { end()? } else { from }));
                }
                One { negated, ranges }
            }
            c => One { negated: false, ranges: vec![(c, c)] },
        };
        parts.push(Part::One(one));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        for (pattern, name, expect) in [
            ("*.yml", "a.yml", true),
            ("*.yml", "a.yaml", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyy", false),
            ("?.[a-cx]", "1.b", true),
            ("?.[a-cx]", "1.d", false),
            ("[^a]*", "b", true),
            ("[^a]*", "a", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("**", "", true),
        ] {
            assert_eq!(matches(pattern, name), Ok(expect), "{pattern} {name}");
        }
        for pattern in ["[", "[]", "[a", "[a-", "[-a]", "\\"] {
            assert_eq!(matches(pattern, "a"), Err(BAD_PATTERN), "{pattern}");
        }
    }

    #[test]
    fn files_are_found_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().expect("directory");
        for name in ["b/2.yml", "b/1.yml", "a/1.yml", "a/x.txt"] {
            std::fs::create_dir_all(dir.path().join(name).parent().expect("a parent")).expect("created");
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        let found = |pattern: &str| -> Vec<String> {
            let found = find(&dir.path().join(pattern)).expect("reads");
            found.iter().map(|p| p.strip_prefix(dir.path()).expect("within").display().to_string()).collect()
        };
        assert_eq!(found("*/*.yml"), ["a/1.yml", "b/1.yml", "b/2.yml"]);
        assert_eq!(found("b/1.yml"), ["b/1.yml"]);
        assert_eq!(found("a/../b/[2]*"), ["a/../b/2.yml"]);
        assert!(found("c/1.yml").is_empty() && found("?.yml").is_empty());
        assert_eq!(find(&dir.path().join("none/[")), Err(BAD_PATTERN));
    }
}
