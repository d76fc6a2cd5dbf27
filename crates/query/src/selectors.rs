//! `match[]`: series selectors outside of a query.

use model::Matcher;
use promql::Features;

/// Reads each selector. One that every series meets is refused, as a question that is hardly meant.
pub(crate) fn parse<'a>(
    texts: impl Iterator<Item = &'a str>,
    features: &Features,
) -> Result<Vec<Vec<Matcher>>, String> {
    texts.map(|text| parse_one(text, features)).collect()
}

fn parse_one(text: &str, features: &Features) -> Result<Vec<Matcher>, String> {
    promql::parse_selector(text, features).map_err(|e| {
        let reason = e.to_string();
        // Prometheus words the same fault differently here and in a query.
        match reason.contains("must contain at least one non-empty matcher") {
            true => "match[] must contain at least one non-empty matcher".to_owned(),
            false => reason,
        }
    })
}
