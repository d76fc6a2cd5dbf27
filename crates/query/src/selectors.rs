//! `match[]`: series selectors outside of a query.

use model::Matcher;

/// Reads each selector. One that every series meets is refused, as a question that is hardly meant.
pub(crate) fn parse<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Vec<Vec<Matcher>>, String> {
    texts.map(parse_one).collect()
}

fn parse_one(text: &str) -> Result<Vec<Matcher>, String> {
    promql::parse_selector(text).map_err(|e| {
        let reason = e.to_string();
        // Prometheus words the same fault differently here and in a query.
        match reason.contains("must contain at least one non-empty matcher") {
            true => "match[] must contain at least one non-empty matcher".to_owned(),
            false => reason,
        }
    })
}
