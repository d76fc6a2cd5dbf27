//! `/api/v1/query_exemplars`: the exemplars of all series that the selectors of a query find.

use std::sync::Arc;

use bytes::Bytes;
use model::{Exemplar, ExemplarsRequest, Labels, SeriesExemplars, TimeRange};

use crate::api::Api;
use crate::api::query::{time_or, timeout};
use crate::asked::Asked;
use crate::encode::write_labels;
use crate::error::Error;
use crate::execute::Context;
use crate::number::{write_float, write_timestamp};
use crate::respond::{Answer, write_list};

/// `/api/v1/query_exemplars`; nothing where the query has no selector, which Prometheus answers with no content.
pub(crate) async fn exemplars(api: Arc<Api>, form: Asked) -> Result<Option<Bytes>, Error> {
    let range = TimeRange { start_ms: time_or(&form, "start", i64::MIN)?, end_ms: time_or(&form, "end", i64::MAX)? };
    if range.end_ms < range.start_ms {
        return Err(Error::Request("end timestamp must not be before start timestamp".to_owned()));
    }
    let reason = |e: promql::ParseError| Error::Request(e.to_string());
    let expr = promql::parse(form.get("query"), &api.args.features).map_err(reason)?;
    let timeout = timeout(&form)?;
    let matcher_sets: Vec<_> = promql::selectors(&expr).into_iter().map(|one| one.matchers.to_vec()).collect();
    if matcher_sets.is_empty() {
        return Ok(None);
    }
    let subject = form.subject("query_exemplars", form.get("query"));
    let shared = api.clone();
    let work = move |context: &Context| {
        let found = api.reader.exemplars(&ExemplarsRequest {
            matcher_sets,
            range,
            // Each is held as a sample is, with its labels.
            exemplars_max: api.args.query_samples_max,
            cancel: context.cancel.clone(),
        })?;
        api.metrics.series.inc_by(found.items.len() as u64);
        let mut answer = Answer::with_room(context, found.items.iter().map(size).sum())?;
        answer.warnings = found.warnings;
        write_list(&mut answer.out, &found.items, write_series);
        Ok(Some(answer.finish()))
    };
    shared.executor.run(subject, timeout, work).await
}

/// How many bytes it takes in an answer, about.
fn size(one: &SeriesExemplars) -> usize {
    let labels = |labels: &Labels| 2 * labels.canonical().len();
    labels(&one.series) + 64 + one.exemplars.iter().map(|exemplar| labels(&exemplar.labels) + 96).sum::<usize>()
}

fn write_series(out: &mut Vec<u8>, one: &SeriesExemplars) {
    out.extend_from_slice(b"{\"seriesLabels\":");
    write_labels(out, one.series.as_ref());
    out.extend_from_slice(b",\"exemplars\":");
    write_list(out, &one.exemplars, write_exemplar);
    out.push(b'}');
}

fn write_exemplar(out: &mut Vec<u8>, exemplar: &Exemplar) {
    out.extend_from_slice(b"{\"labels\":");
    write_labels(out, exemplar.labels.as_ref());
    out.extend_from_slice(b",\"value\":\"");
    write_float(out, exemplar.v);
    out.extend_from_slice(b"\",\"timestamp\":");
    write_timestamp(out, exemplar.t);
    out.push(b'}');
}
