//! `/api/v1/series`, `/api/v1/labels` and `/api/v1/label/<name>/values`.

use std::sync::Arc;
use std::time::Duration;

use model::{Labels, LabelsRequest, Listing, Matcher, SelectRequest, TimeRange, Want};
use runtime::Form;
use runtime::form::decode;

use crate::api::Api;
use crate::api::query::{parse_matches, time_or, timeout};
use crate::asked::Asked;
use crate::encode::{size_of_texts, write_labels};
use crate::error::Error;
use crate::execute::Context;
use crate::number::write_string;
use crate::parts::{List, Text};
use crate::respond::{Answer, Reply, TRUNCATED};
use crate::stream;
use crate::time::parse_limit;

/// How many `match[]` a request may have: each is a selection of its own. Grafana sends one, a large recording setup some tens.
pub(crate) const SELECTORS_MAX: usize = 1000;

/// What the three endpoints have in common.
struct Question {
    limit: Option<usize>,
    range: TimeRange,
    matcher_sets: Vec<Vec<Matcher>>,
    timeout: Option<Duration>,
}

/// `/api/v1/series`.
pub(crate) async fn series(api: Arc<Api>, form: Asked) -> Result<Reply, Error> {
    if form.all("match[]").next().is_none() {
        return Err(Error::Request("no match[] parameter provided".to_owned()));
    }
    let question = question(&api, &form, |e| Error::parameter("match[]", e))?;
    let subject = form.subject_of_selectors("series", "");
    let shared = api.clone();
    let work = move |context: &Context| {
        let (mut found, mut warnings, mut held) = (Vec::<Labels>::new(), Vec::new(), context.cancel.claim().hold());
        for matchers in question.matcher_sets {
            let set = api.reader.select(&SelectRequest {
                matchers,
                range: question.range,
                want: Want::LabelsOnly,
                series_max: api.args.query_series_max,
                cancel: context.cancel.clone(),
            })?;
            warnings.extend(set.warnings);
            held.grow(set.series.iter().map(|series| series.labels.canonical().len() + 3 * size_of::<Labels>()).sum())?;
            found.extend(set.series.into_iter().map(|series| series.labels));
        }
        found.sort_unstable();
        found.dedup();
        // Until they are written.
        held.keep();
        let mut answer = Answer::new();
        answer.warnings = warnings;
        cut(&mut found, question.limit, &mut answer);
        api.metrics.series.inc_by(found.len() as u64);
        let size = size_of_texts(found.iter().map(Labels::canonical));
        let list = List::new(found, |out: &mut Vec<u8>, labels: Labels| write_labels(out, labels.as_ref()));
        Ok(answer.finish_with(list, size, Vec::new()))
    };
    stream::answer(shared, subject, question.timeout, form.accepted, work).await
}

/// `/api/v1/labels`.
pub(crate) async fn names(api: Arc<Api>, form: Asked) -> Result<Reply, Error> {
    let question = question(&api, &form, Error::Request)?;
    let shared = api.clone();
    let work = move |context: &Context| {
        let (limit, request) = question.into_request(context);
        strings(context, api.reader.label_names(&request)?, limit)
    };
    let timeout = timeout(&form)?;
    stream::answer(shared, form.subject_of_selectors("labels", ""), timeout, form.accepted, work).await
}

/// `/api/v1/label/<name>/values`; `segment` is the name as it stands in the path.
pub(crate) async fn values(api: Arc<Api>, segment: &[u8], form: Asked) -> Result<Reply, Error> {
    let name = decode(segment, false).unwrap_or_else(|| segment.to_vec());
    let name = String::from_utf8(name)
        .map_err(|e| Error::Request(format!("invalid label name: \"{}\"", e.as_bytes().escape_ascii())))?;
    let name = unescape_name(name);
    if name.is_empty() {
        return Err(Error::Request("invalid label name: \"\"".to_owned()));
    }
    let question = question(&api, &form, Error::Request)?;
    let subject = form.subject_of_selectors("label_values", &name);
    let shared = api.clone();
    let work = move |context: &Context| {
        let (limit, request) = question.into_request(context);
        strings(context, api.reader.label_values(&name, &request)?, limit)
    };
    let timeout = timeout(&form)?;
    stream::answer(shared, subject, timeout, form.accepted, work).await
}

impl Question {
    fn into_request(self, context: &Context) -> (Option<usize>, LabelsRequest) {
        let request =
            LabelsRequest { matcher_sets: self.matcher_sets, range: self.range, cancel: context.cancel.clone() };
        (self.limit, request)
    }
}

fn question(api: &Api, form: &Form, bad_selector: impl Fn(String) -> Error) -> Result<Question, Error> {
    let limit = parse_limit(form.get("limit")).map_err(|e| Error::parameter("limit", e))?;
    let range = TimeRange { start_ms: time_or(form, "start", i64::MIN)?, end_ms: time_or(form, "end", i64::MAX)? };
    if form.all("match[]").count() > SELECTORS_MAX {
        return Err(Error::parameter("match[]", format_args!("at most {SELECTORS_MAX} selectors are allowed")));
    }
    let matcher_sets = parse_matches(form, &api.args.features).map_err(bad_selector)?;
    Ok(Question { limit, range, matcher_sets, timeout: timeout(form)? })
}

fn strings(context: &Context, mut found: Listing<String>, limit: Option<usize>) -> Result<Text, Error> {
    let mut answer = Answer::new();
    answer.warnings = found.warnings;
    cut(&mut found.items, limit, &mut answer);
    // Until they are written.
    context.cancel.claim().take(found.items.iter().map(|text| text.len() + size_of::<String>()).sum())?;
    let size = size_of_texts(found.items.iter().map(String::as_str));
    let list = List::new(found.items, |out: &mut Vec<u8>, text: String| write_string(out, &text));
    Ok(answer.finish_with(list, size, Vec::new()))
}

fn cut<T>(found: &mut Vec<T>, limit: Option<usize>, answer: &mut Answer) {
    if let Some(limit) = limit.filter(|limit| found.len() > *limit) {
        found.truncate(limit);
        answer.warnings.push(TRUNCATED.to_owned());
    }
}

/// Undoes the escaping by which a name that is not `[a-zA-Z_][a-zA-Z0-9_]*` travels in a path: `U__a_2e_b` is `a.b`, and `__`
/// an underscore. A name that is not escaped rightly stays as it is.
fn unescape_name(name: String) -> String {
    name.strip_prefix("U__").and_then(unescape).unwrap_or(name)
}

fn unescape(escaped: &str) -> Option<String> {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('_')?;
        if end == 0 {
            out.push('_');
        } else {
            // Six digits hold the largest code point.
            let digits = Some(&rest[..end]).filter(|d| d.len() <= 6 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            out.push(char::from_u32(u32::from_str_radix(digits, 16).ok()?)?);
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::unescape_name;

    #[test]
    fn escaped_names_are_unescaped_and_others_left_alone() {
        for (escaped, name) in [
            ("job", "job"),
            ("U__a_2e_b", "a.b"),
            ("U__mysystem_2e_prod__x", "mysystem.prod_x"),
            ("U___1f600_", "😀"),
            ("U__a_", "U__a_"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__a_1234567_", "U__a_1234567_"),
            ("U__", ""),
        ] {
            assert_eq!(unescape_name(escaped.to_owned()), name);
        }
    }
}
