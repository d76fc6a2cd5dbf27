//! `/api/v1/metadata`: what clients said of their metric families.

use std::sync::Arc;

use bytes::Bytes;
use model::Metadata;
use runtime::Form;

use crate::api::Api;
use crate::api::query::timeout;
use crate::asked::Asked;
use crate::error::Error;
use crate::execute::Context;
use crate::number::write_string;
use crate::respond::{Answer, write_list};
use crate::time::parse_integer;

/// `/api/v1/metadata`.
pub(crate) async fn metadata(api: Arc<Api>, form: Asked) -> Result<Bytes, Error> {
    // As in Prometheus: a negative limit is none, a limit of zero families yields none, and of zero entries a family is none.
    let limit = limit(&form, "limit")?.unwrap_or(usize::MAX);
    let per_metric = limit_per_metric(&form)?;
    let timeout = timeout(&form)?;
    let family = Some(form.get("metric").to_owned()).filter(|family| !family.is_empty());
    let subject = form.subject("metadata", form.get("metric"));
    let shared = api.clone();
    let work = move |context: &Context| {
        let found = api.reader.metadata(family.as_deref())?;
        let texts = |entry: &Metadata| entry.family.len() + entry.help.len() + entry.unit.len();
        // Until they are written.
        let mut held = context.cancel.claim().hold();
        held.grow(found.items.iter().map(|entry| texts(entry) + size_of::<Metadata>()).sum())?;
        let mut answer = Answer::with_room(context, found.items.iter().map(|entry| texts(entry) + 64).sum())?;
        answer.warnings = found.warnings;
        answer.out.push(b'{');
        for (at, entries) in found.items.chunk_by(|a, b| a.family == b.family).take(limit).enumerate() {
            if at > 0 {
                answer.out.push(b',');
            }
            write_string(&mut answer.out, &entries[0].family);
            answer.out.push(b':');
            write_list(&mut answer.out, entries.iter().take(per_metric), write_entry);
        }
        answer.out.push(b'}');
        Ok(answer.finish())
    };
    shared.executor.run(subject, timeout, work).await
}

fn limit(form: &Form, name: &str) -> Result<Option<usize>, Error> {
    match form.get(name) {
        "" => Ok(None),
        text => match parse_integer(text) {
            Ok(n) => Ok(usize::try_from(n).ok()),
            Err(_) => Err(Error::Request(format!("{name} must be a number"))),
        },
    }
}

fn limit_per_metric(form: &Form) -> Result<usize, Error> {
    Ok(limit(form, "limit_per_metric")?.filter(|n| *n > 0).unwrap_or(usize::MAX))
}

fn write_entry(out: &mut Vec<u8>, entry: &Metadata) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(entry.kind.as_str().as_bytes());
    out.extend_from_slice(b"\",\"unit\":");
    write_string(out, &entry.unit);
    out.extend_from_slice(b",\"help\":");
    write_string(out, &entry.help);
    out.push(b'}');
}
