//! All that an engine answers, for tests here and in storage, which include this file.

use std::collections::BTreeMap;

use model::{Cancel, Columns, Matcher, SelectRequest, SeriesSource as _, TimeRange, Want};
use tsdb::Db;

/// The bits of each float, by its series and its time.
pub(crate) type Floats = BTreeMap<(String, i64), u64>;

/// All floats.
pub(crate) fn floats(db: &Db) -> Floats {
    let request = SelectRequest {
        matchers: vec![Matcher::equal("", "")],
        range: TimeRange::ALL,
        want: Want::Samples,
        series_max: usize::MAX,
        cancel: Cancel::default(),
    };
    let mut floats = Floats::new();
    for series in db.select(&request).expect("selects").series {
        let mut columns = Columns::default();
        series.data.read(TimeRange::ALL, &mut columns).expect("reads");
        let name = series.labels.canonical().to_owned();
        floats.extend(columns.t.iter().zip(&columns.v).map(|(t, v)| ((name.clone(), *t), v.to_bits())));
    }
    floats
}
