//! Names as the API server of Kubernetes takes them: what a resource and its namespace are called, and the keys and values of labels.

/// Characters of a label of DNS, of the name in a key, and of the value of a label.
const LABEL_CHARS_MAX: usize = 63;
/// Characters of a name of DNS.
const SUBDOMAIN_CHARS_MAX: usize = 253;

/// The name of a resource: a subdomain of RFC 1123.
pub fn check_subdomain(name: &str) -> Result<(), String> {
    let is_good = name.len() <= SUBDOMAIN_CHARS_MAX && name.split('.').all(is_part);
    let rule = "1 to 253 of a-z 0-9 - . where each part between dots begins and ends with a letter or digit";
    if is_good { Ok(()) } else { Err(format!("{name:?} is not a name that Kubernetes takes: {rule}")) }
}

/// The name of a namespace: a label of RFC 1123.
pub fn check_label(name: &str) -> Result<(), String> {
    let is_good = name.len() <= LABEL_CHARS_MAX && is_part(name);
    let rule = "1 to 63 of a-z 0-9 - that begin and end with a letter or digit";
    if is_good { Ok(()) } else { Err(format!("{name:?} is not a namespace that Kubernetes takes: {rule}")) }
}

/// The key of a label or an annotation: a name, with a domain and a slash before it or not.
pub fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if prefix.is_some_and(|prefix| check_subdomain(prefix).is_err()) || name.is_empty() || !is_word(name) {
        let rule =
            "up to 63 of a-z A-Z 0-9 - _ . that begin and end with a letter or digit, behind a domain and / or not";
        return Err(format!("{key:?} is not a key that Kubernetes takes: {rule}"));
    }
    Ok(())
}

/// The value of a label; may be empty.
pub fn check_value(value: &str) -> Result<(), String> {
    let rule = "up to 63 of a-z A-Z 0-9 - _ . that begin and end with a letter or digit";
    if is_word(value) { Ok(()) } else { Err(format!("{value:?} is not a value that Kubernetes takes: {rule}")) }
}

/// A part of a name of DNS, of any length.
fn is_part(part: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !part.is_empty() && part.bytes().all(allowed) && !part.starts_with('-') && !part.ends_with('-')
}

fn is_word(text: &str) -> bool {
    let ends = |b: Option<&u8>| b.is_none_or(u8::is_ascii_alphanumeric);
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let bytes = text.as_bytes();
    bytes.len() <= LABEL_CHARS_MAX && bytes.iter().all(|b| allowed(*b)) && ends(bytes.first()) && ends(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_and_refused_as_the_api_server_does() {
        let long = |n: usize| "a".repeat(n);
        for good in ["a", "a-b.c-1", "0", &long(253)] {
            assert_eq!(check_subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.-b", "ä", "a/b", &long(254)] {
            assert!(check_subdomain(bad).is_err(), "{bad}");
        }
        assert_eq!(check_label(&long(63)), Ok(()));
        for bad in ["", "a.b", "a-", "A", &long(64)] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_and_values_of_labels_are_taken_and_refused_as_the_api_server_does() {
        let long = |n: usize| "a".repeat(n);
        for good in ["a", "A_b.c-1", "example.com/a", &long(63), &format!("x.y/{}", long(63))] {
            assert_eq!(check_key(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a/b/c", "_a", "a-", "Example.com/a", "a b", &long(64)] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
        for good in ["", "A_b.c-1", &long(63)] {
            assert_eq!(check_value(good), Ok(()), "{good}");
        }
        for bad in ["-", "a b", "_a", "a/b", &long(64)] {
            assert!(check_value(bad).is_err(), "{bad}");
        }
    }
}
