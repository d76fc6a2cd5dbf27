//! The functions of Prometheus' templates, beside those of Go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use gotmpl::{FuncMap, TemplateError, Value, ValueFunc};

use super::number::significant;
use super::tree::PRINT;

type Answer = Result<Value, TemplateError>;

/// Functions of Go's templates, which the library has.
const BUILTIN: [&str; 20] = [
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "call", "html", "js", "urlquery",
    "print", "println", "printf", "true",
];
/// Prometheus' functions that read series; refused by name.
pub(super) const LATER: [&str; 8] =
    ["query", "first", "value", "label", "sortByLabel", "strvalue", "safeHtml", "toTime"];

static ALL: LazyLock<FuncMap> = LazyLock::new(make);

/// Prometheus' functions.
pub(super) fn all() -> FuncMap {
    ALL.clone()
}

/// Whether a function can be called.
pub(super) fn is_known(name: &str) -> bool {
    BUILTIN.contains(&name) || ALL.contains_key(name)
}

fn make() -> FuncMap {
    let mut all: BTreeMap<String, ValueFunc> = BTreeMap::new();
    let mut add = |name: &str, function: fn(&[Value]) -> Answer| {
        all.insert(name.to_owned(), Arc::new(function));
    };
    add(PRINT, |args| Ok(Value::from(args.first().map(show).unwrap_or_default())));
    add("print", |args| Ok(Value::from(print(args))));
    add("printf", printf);
    add("humanize", |args| number(args, humanize));
    add("humanize1024", |args| number(args, humanize1024));
    add("humanizeDuration", |args| number(args, humanize_duration));
    add("humanizePercentage", |args| number(args, |v| format!("{}%", significant(v * 100.0, 4))));
    add("humanizeTimestamp", |args| number(args, humanize_timestamp));
    add("title", |args| text(args, title));
    add("toUpper", |args| text(args, |t| t.to_uppercase()));
    add("toLower", |args| text(args, |t| t.to_lowercase()));
    add("stripPort", |args| text(args, |t| split_host_port(t).map_or(t, |(host, _)| host).to_owned()));
    add("stripDomain", |args| text(args, strip_domain));
    add("tableLink", |args| {
        text(args, |t| format!("/graph?g0.expr={}&g0.tab=1", gotmpl::url_encode(t).replace("%20", "+")))
    });
    add("graphLink", |args| {
        text(args, |t| format!("/graph?g0.expr={}&g0.tab=0", gotmpl::url_encode(t).replace("%20", "+")))
    });
    add("match", |args| {
        let [pattern, value] = texts(args)?;
        Ok(Value::Bool(regex(&pattern)?.is_match(&value)))
    });
    add("reReplaceAll", |args| {
        let [pattern, replacement, value] = texts(args)?;
        Ok(Value::from(regex(&pattern)?.replace_all(&value, replacement.as_str()).into_owned()))
    });
    add("args", |args| {
        let named = args.iter().enumerate().map(|(n, v)| (format!("arg{n}"), v.clone()));
        Ok(Value::from(named.collect::<BTreeMap<String, Value>>()))
    });
    add("parseDuration", |args| {
        let [duration] = texts(args)?;
        let ms = model::time::parse_duration_ms(&duration).map_err(failed)?;
        Ok(Value::Float(ms as f64 / 1e3))
    });
    all
}

fn failed(reason: impl ToString) -> TemplateError {
    TemplateError::Exec(reason.to_string())
}

/// A value as Go prints it; an absent one as nothing.
fn show(value: &Value) -> String {
    match value {
        Value::Float(v) => promql::general(*v),
        Value::Nil => String::new(),
        Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Map(items) => {
            let items: Vec<String> = items.iter().map(|(k, v)| format!("{k}:{}", show(v))).collect();
            format!("map[{}]", items.join(" "))
        }
        other => other.to_string(),
    }
}

/// Go's `print`: a space between two values of which neither is a text.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (n, arg) in args.iter().enumerate() {
        let is_text = |v: &Value| matches!(v, Value::String(_));
        if n > 0 && !is_text(arg) && !is_text(&args[n - 1]) {
            out.push(' ');
        }
        out.push_str(&show(arg));
    }
    out
}

/// The library's `printf`, which cannot be called but from a template, with numbers for `%v` as Go writes them and absent values as
/// empty texts. Some microseconds a call.
fn printf(args: &[Value]) -> Answer {
    let Some((format, args)) = args.split_first() else { return Err(failed("printf: no format")) };
    let format = show(format);
    let mut verbs = verbs(&format).into_iter();
    let (mut call, mut data) =
        ("{{printf .f".to_owned(), BTreeMap::from([("f".to_owned(), Value::from(format.as_str()))]));
    for (n, arg) in args.iter().enumerate() {
        let arg = match (verbs.next(), arg) {
            (Some('v'), arg) => Value::from(show(arg)),
            (_, Value::Nil) => Value::from(""),
            (_, arg) => arg.clone(),
        };
        let _ = write!(call, " .a{n}");
        data.insert(format!("a{n}"), arg);
    }
    call.push_str("}}");
    gotmpl::execute(&call, &Value::from(data)).map(Value::from)
}

/// The verb for each argument, in turn.
fn verbs(format: &str) -> Vec<char> {
    let mut verbs = Vec::new();
    let mut chars = format.chars();
    while chars.any(|c| c == '%') {
        let flags = |c: &char| "+-# 0123456789.".contains(*c);
        let verb = chars.by_ref().find(|c| !flags(c));
        verbs.extend(verb.filter(|c| *c != '%'));
    }
    verbs
}

fn float(value: Option<&Value>) -> Result<f64, TemplateError> {
    match value {
        Some(Value::Float(v)) => Ok(*v),
        Some(Value::Int(v)) => Ok(*v as f64),
        Some(Value::Uint(v)) => Ok(*v as f64),
        Some(Value::String(text)) => text.trim().parse().map_err(|_| failed(format!("{text:?} is not a number"))),
        other => Err(failed(format!("expected a number, got {}", other.map_or("nothing", Value::type_name)))),
    }
}

fn number(args: &[Value], write: fn(f64) -> String) -> Answer {
    float(args.first()).map(|v| Value::from(write(v)))
}

fn text(args: &[Value], change: fn(&str) -> String) -> Answer {
    let [given] = texts(args)?;
    Ok(Value::from(change(&given)))
}

fn texts<const N: usize>(args: &[Value]) -> Result<[String; N], TemplateError> {
    let texts: Vec<String> = args.iter().map(show).collect();
    texts.try_into().map_err(|given: Vec<String>| failed(format!("expected {N} arguments, got {}", given.len())))
}

fn regex(pattern: &str) -> Result<regex::Regex, TemplateError> {
    // The bound of a matcher in a rule's expression; a pattern here has a label of one alert to look at.
    regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(failed)
}

fn humanize(v: f64) -> String {
    if v == 0.0 || !v.is_finite() {
        return significant(v, 4);
    }
    if v.abs() < 1.0 {
        return small(v);
    }
    scaled(v, 1000.0, &["k", "M", "G", "T", "P", "E", "Z", "Y"])
}

fn humanize1024(v: f64) -> String {
    if v.abs() <= 1.0 || !v.is_finite() {
        return significant(v, 4);
    }
    scaled(v, 1024.0, &["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"])
}

fn scaled(mut v: f64, factor: f64, units: &[&'static str]) -> String {
    let mut unit = "";
    for next in units {
        if v.abs() < factor {
            break;
        }
        unit = next;
        v /= factor;
    }
    format!("{}{unit}", significant(v, 4))
}

fn small(mut v: f64) -> String {
    let mut unit = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if v.abs() >= 1.0 {
            break;
        }
        unit = next;
        v *= 1000.0;
    }
    format!("{}{unit}", significant(v, 4))
}

fn humanize_duration(v: f64) -> String {
    if !v.is_finite() {
        return significant(v, 4);
    }
    if v == 0.0 {
        return "0s".to_owned();
    }
    if v.abs() < 1.0 {
        return format!("{}s", small(v));
    }
    let (sign, v) = if v < 0.0 { ("-", -v) } else { ("", v) };
    let whole = v as u64;
    let (days, hours, minutes, seconds) = (whole / 86_400, whole / 3600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{sign}{}s", significant(v, 4)),
        (0, 0, _) => format!("{sign}{minutes}m {seconds}s"),
        (0, _, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

/// Seconds since the epoch as Go prints a time: `2015-06-23 13:19:44.128 +0000 UTC`.
fn humanize_timestamp(v: f64) -> String {
    // Beyond the year 9999 a date says nothing.
    if !v.is_finite() || v.abs() > 253_402_300_799.0 {
        return significant(v, 4);
    }
    let ns = (v * 1e9).round() as i128;
    let (seconds, ns) = (ns.div_euclid(1_000_000_000) as i64, ns.rem_euclid(1_000_000_000));
    let (year, month, day) = crate::rule::civil(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let mut out =
        format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", of_day / 3600, of_day / 60 % 60, of_day % 60);
    if ns != 0 {
        let fraction = format!("{ns:09}");
        let _ = write!(out, ".{}", fraction.trim_end_matches('0'));
    }
    out + " +0000 UTC"
}

/// The first letter of every word in upper case.
fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            out.push(c);
        } else {
            out.extend(c.to_uppercase());
        }
        in_word = c.is_alphanumeric() || c == '_' || c == '\'';
    }
    out
}

/// `host:port` or `[host]:port`.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').map(|inner| (inner, port)),
        None => (!host.contains(':')).then_some((host, port)),
    }
}

fn strip_domain(text: &str) -> String {
    let (host, port) = split_host_port(text).unwrap_or((text, ""));
    if host.parse::<IpAddr>().is_ok() {
        return text.to_owned();
    }
    let name = host.split('.').next().unwrap_or(host);
    if port.is_empty() { name.to_owned() } else { format!("{name}:{port}") }
}
