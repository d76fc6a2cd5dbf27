//! Templates of labels and annotations: Go's text/template with Prometheus' variables and functions.
//!
//! The text is parsed once. Its tree is changed in two places before use, since the library has no types of Go: what an action prints goes
//! through a function that writes numbers as Go does (`1.234567e+06`) and an absent label as nothing, and `externalURL` and `pathPrefix`
//! become variables. Unknown functions, variables and templates are found when it is read and not when an alert fires. `query` and what
//! works on its result are refused by name: a template reads the alert, not the series.

mod functions;
mod number;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use gotmpl::Value;
use gotmpl::parse::Parser;
use model::Labels;

use crate::Error;

/// Name under which the tree of the whole text is kept.
const ROOT: &str = "";
/// Prometheus' variables, declared before every text.
const PREAMBLE: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}\
                        {{$pathPrefix := .PathPrefix}}{{$value := .Value}}";
/// Longest text that a template may become: a hundred times a long description, and little enough that ten thousand alerts fit in memory.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Rounds of `range` in one expansion; a template has labels to walk over, not data.
const ROUNDS_MAX: u64 = 10_000;

/// A parsed template; cloning it copies a pointer.
#[derive(Clone)]
pub struct Template {
    text: Arc<str>,
    /// `None` where the text has no action, which is the most frequent case.
    parsed: Option<Arc<gotmpl::Template>>,
}

/// What a template sees. Made once an alert and used for all its templates.
#[derive(Debug, Clone)]
pub struct Data(Value);

impl Data {
    /// `$labels`, `$value`, `$externalLabels`, `$externalURL` and the path of the last.
    pub fn new(labels: &Labels, value: f64, external_labels: &Labels, external_url: &str) -> Self {
        let path = external_url.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]));
        Data(Value::from(BTreeMap::from([
            ("Labels".to_owned(), map(labels)),
            ("ExternalLabels".to_owned(), map(external_labels)),
            ("ExternalURL".to_owned(), Value::from(external_url)),
            ("PathPrefix".to_owned(), Value::from(path.unwrap_or("").trim_end_matches('/'))),
            ("Value".to_owned(), Value::Float(value)),
        ])))
    }
}

fn map(labels: &Labels) -> Value {
    Value::from(labels.iter().map(|(n, v)| (Arc::from(n), Value::from(v))).collect::<BTreeMap<Arc<str>, Value>>())
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parsed = if text.contains("{{") { Some(Arc::new(read(text)?)) } else { None };
        Ok(Template { text: Arc::from(text), parsed })
    }

    /// A text that stays as it is, braces included.
    pub fn constant(text: &str) -> Self {
        Template { text: Arc::from(text), parsed: None }
    }

    /// The text as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it is the same for every alert.
    pub fn is_constant(&self) -> bool {
        self.parsed.is_none()
    }

    /// The text that it becomes.
    pub fn expand(&self, data: &Data) -> Result<String, Error> {
        let Some(parsed) = &self.parsed else { return Ok(self.text.to_string()) };
        let mut out = Bounded(String::new());
        match parsed.execute_template_fmt(&mut out, ROOT, &data.0) {
            Ok(()) => Ok(out.0),
            Err(_) if out.0.len() >= OUTPUT_BYTES_MAX => {
                Err(Error::Template(format!("the text is longer than {OUTPUT_BYTES_MAX} bytes")))
            }
            Err(e) => Err(Error::Template(format!("error executing template: {e}"))),
        }
    }
}

fn read(text: &str) -> Result<gotmpl::Template, Error> {
    let failed = |e: gotmpl::TemplateError| Error::Template(e.to_string());
    let (mut root, defines) = Parser::new(text, "{{", "}}").and_then(Parser::parse).map_err(failed)?;
    tree::balanced(text)?;
    let mut names: Vec<String> = defines.iter().map(|d| d.name.to_string()).collect();
    names.push(ROOT.to_owned());
    let preamble = gotmpl::parse::Parser::new(PREAMBLE, "{{", "}}").and_then(Parser::parse).map_err(failed)?.0;
    let mut rewrite = tree::Rewrite::new(text, &names);
    rewrite.list(&mut root)?;
    let functions = functions::all();
    let mut template = gotmpl::Template::new("template").funcs(functions).max_range_iters(ROUNDS_MAX);
    for mut define in defines {
        rewrite.define(&mut define.body)?;
        template = template.add_parse_tree(&define.name, define.body);
    }
    root.nodes.splice(0..0, preamble.nodes);
    Ok(template.add_parse_tree(ROOT, root))
}

/// A text that refuses to grow past the bound.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = OUTPUT_BYTES_MAX - self.0.len();
        if text.len() > room {
            // Full, so that the caller can tell this from other errors.
            self.0.extend(std::iter::repeat_n(' ', room));
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str, value: f64) -> Result<String, Error> {
        let labels = Labels::new(&[("instance", "web-1.example.com:9100"), ("job", "api")]).expect("valid");
        let external = Labels::new(&[("cluster", "a")]).expect("valid");
        Template::parse(text)?.expand(&Data::new(&labels, value, &external, "https://weir.example/x/"))
    }

    fn check(text: &str, value: f64, expect: &str) {
        assert_eq!(expand(text, value).as_deref(), Ok(expect), "{text}");
    }

    #[test]
    fn variables_are_those_of_prometheus() {
        check("plain", 1.0, "plain");
        check("{{ $labels.job }}/{{ .Labels.job }}/{{ $externalLabels.cluster }}", 1.0, "api/api/a");
        check("<{{ $labels.missing }}>", 1.0, "<>");
        check(
            "{{ externalURL }} {{ pathPrefix }} {{ $externalURL }}",
            1.0,
            "https://weir.example/x/ /x https://weir.example/x/",
        );
        check("{{ if gt $value 2.0 }}high{{ else }}low{{ end }}", 3.0, "high");
        check(
            "{{ range $k, $v := $labels }}{{ $k }}={{ $v }};{{ end }}",
            0.0,
            "instance=web-1.example.com:9100;job=api;",
        );
        check("{{ define \"x\" }}<{{ . }}>{{ end }}{{ template \"x\" $value }}", 1e6, "<1e+06>");
        check("{{ with $x := $labels.job }}{{ $x }}{{ end }}", 0.0, "api");
    }

    #[test]
    fn numbers_print_as_in_go() {
        for (value, text) in [(1_234_567.0, "1.234567e+06"), (0.5, "0.5"), (100_000.0, "100000"), (1e21, "1e+21")] {
            check("{{ $value }}", value, text);
            check("{{ $value | print }}", value, text);
        }
        check("{{ $value }}", f64::INFINITY, "+Inf");
        check("{{ $value }}", 0.000_01, "1e-05");
        check("{{ printf \"%.2f\" $value }}", 1.0 / 3.0, "0.33");
        check("{{ printf \"%s has %v\" $labels.job $value }}", 1_234_567.0, "api has 1.234567e+06");
        check("{{ $x := $value }}{{ $x }}", 1e6, "1e+06");
    }

    #[test]
    fn functions_are_those_of_prometheus() {
        for (call, value, expect) in [
            ("humanize", 1_234_567.0, "1.235M"),
            ("humanize", 0.0, "0"),
            ("humanize", 0.012, "12m"),
            ("humanize", -1500.0, "-1.5k"),
            ("humanize1024", 1_048_576.0, "1Mi"),
            ("humanizeDuration", 90_061.0, "1d 1h 1m 1s"),
            ("humanizeDuration", 3661.0, "1h 1m 1s"),
            ("humanizeDuration", 12.3456, "12.35s"),
            ("humanizeDuration", 0.000_1, "100us"),
            ("humanizeDuration", -61.0, "-1m 1s"),
            ("humanizePercentage", 0.1234, "12.34%"),
            ("humanizeTimestamp", 1_435_065_584.128, "2015-06-23 13:19:44.128 +0000 UTC"),
        ] {
            check(&format!("{{{{ $value | {call} }}}}"), value, expect);
        }
        check("{{ \"1500\" | humanize }}", 0.0, "1.5k");
        check("{{ title \"hello big world\" }}{{ toUpper \"a\" }}{{ toLower \"B\" }}", 0.0, "Hello Big WorldAb");
        check("{{ if match \"^web\" $labels.instance }}yes{{ end }}", 0.0, "yes");
        check("{{ reReplaceAll \"([a-z]+)-(\\\\d)\" \"$2-$1\" $labels.instance }}", 0.0, "1-web.example.com:9100");
        check(
            "{{ stripPort $labels.instance }} {{ stripDomain $labels.instance }}",
            0.0,
            "web-1.example.com web-1:9100",
        );
        check("{{ stripDomain \"10.0.0.1:80\" }} {{ stripPort \"[::1]:80\" }}", 0.0, "10.0.0.1:80 ::1");
        check("{{ define \"t\" }}{{ .arg1 }}{{ .arg0 }}{{ end }}{{ template \"t\" (args 1 \"b\") }}", 0.0, "b1");
        check("{{ tableLink \"up == 0\" }}", 0.0, "/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
        check("{{ parseDuration \"1h30m\" }}", 0.0, "5400");
    }

    #[test]
    fn what_cannot_work_is_refused_when_it_is_read() {
        for (text, reason) in [
            ("a\n{{ $value | humanise }}", "2:13: function \"humanise\" not defined"),
            ("{{ $valu }}", "1:4: undefined variable \"$valu\""),
            ("{{ query \"up\" | first | value }}", "1:4: function \"query\" is not supported yet"),
            ("{{ template \"x\" }}", "template \"x\" not defined"),
            ("{{ $value ", "unclosed action"),
            ("{{ if true }}{{ \"{{end}}\" }}", "1:1: unexpected end"),
            ("a{{- else }}", "1:2: unexpected {{else}}"),
            ("{{ end }}", "unexpected"),
        ] {
            let refused = Template::parse(text).expect_err(text).to_string();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
    }

    #[test]
    fn an_expansion_is_bounded() {
        let long = "{{ range $i := 9000 }}0123456789{{ end }}";
        assert!(expand(long, 0.0).expect_err("too long").to_string().contains("longer than"));
        assert!(expand("{{ range $i := 1000000000 }}{{ end }}", 0.0).is_err());
    }
}
