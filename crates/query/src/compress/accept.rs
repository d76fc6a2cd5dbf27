//! What a client says that it takes: `Accept-Encoding`, as RFC 9110, 12.5.3 has it.

use axum::http::{HeaderMap, header};

/// How an answer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Zstd,
}

/// What a client takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// The one that it likes best; `None` where that is no coding.
    pub(crate) coding: Option<Coding>,
    /// Whether it takes an answer that is not compressed.
    pub(crate) identity: bool,
}

/// What everybody takes.
impl Default for Accepted {
    fn default() -> Self {
        Accepted { coding: None, identity: true }
    }
}

/// Weights in thousandths.
#[derive(Debug, Default)]
struct Weights {
    gzip: Option<u16>,
    zstd: Option<u16>,
    identity: Option<u16>,
    any: Option<u16>,
}

impl Coding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }
}

impl Accepted {
    /// Of these headers. An element that cannot be read is as good as none.
    pub(crate) fn of(headers: &HeaderMap) -> Accepted {
        let mut weights = Weights::default();
        let values = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        for element in values.flat_map(|value| value.split(',')) {
            weights.add(element);
        }
        weights.choose()
    }

    /// Whether there is nothing that it takes.
    pub(crate) fn is_nothing(self) -> bool {
        self.coding.is_none() && !self.identity
    }
}

impl Weights {
    fn add(&mut self, element: &str) {
        let (name, parameters) = element.split_once(';').unwrap_or((element, "q=1"));
        let Some(weight) = weight(parameters) else { return };
        let name = name.trim().to_ascii_lowercase();
        let known = match name.as_str() {
            "gzip" | "x-gzip" => &mut self.gzip,
            "zstd" => &mut self.zstd,
            "identity" => &mut self.identity,
            "*" => &mut self.any,
            _ => return,
        };
        *known = Some(weight);
    }

    fn choose(&self) -> Accepted {
        // Whoever takes anything gets what everybody can read.
        let gzip = self.gzip.or(self.any).unwrap_or(0);
        let zstd = self.zstd.unwrap_or(0);
        let (coding, weight) = if zstd > 0 && zstd >= gzip { (Coding::Zstd, zstd) } else { (Coding::Gzip, gzip) };
        let identity = self.identity.or(self.any.filter(|weight| *weight == 0));
        // Without a word about it, no coding is taken, and liked least.
        let is_liked = weight > 0 && self.identity.is_none_or(|own| own <= weight);
        Accepted { coding: is_liked.then_some(coding), identity: identity != Some(0) }
    }
}

/// Reads `q=0.8`: up to three digits after the point.
fn weight(parameters: &str) -> Option<u16> {
    let (name, value) = parameters.split_once('=')?;
    if !name.trim().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let thousandths: u16 = if fraction.is_empty() { 0 } else { format!("{fraction:0<3}").parse().ok()? };
    match (digits, whole, thousandths) {
        (true, "0", n) => Some(n),
        (true, "1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, coding: Option<Coding>, identity: bool) {
        let mut headers = HeaderMap::new();
        for line in value.split('|').filter(|line| !line.is_empty()) {
            headers.append(header::ACCEPT_ENCODING, line.parse().expect("a value"));
        }
        assert_eq!(Accepted::of(&headers), Accepted { coding, identity }, "{value}");
    }

    #[test]
    fn the_coding_that_is_liked_best_is_chosen() {
        let (gzip, zstd) = (Some(Coding::Gzip), Some(Coding::Zstd));
        check("", None, true);
        check("deflate, br", None, true);
        check("gzip", gzip, true);
        check("X-GZIP ; Q=0.5", gzip, true);
        check("gzip, deflate, br, zstd", zstd, true);
        check("gzip;q=1.0, zstd;q=0.999", gzip, true);
        check("deflate|gzip;q=0.1|zstd;q=0.05", gzip, true);
        check("gzip;q=0", None, true);
        check("gzip;q=0, zstd", zstd, true);
        check("identity, gzip;q=0.5", None, true);
        check("identity;q=0.5, gzip;q=0.5", gzip, true);
        check("*", gzip, true);
        check("*;q=0.1, identity", None, true);
        check("gzip;q=0, *", None, true);
    }

    #[test]
    fn no_coding_at_all_can_be_refused() {
        let gzip = Some(Coding::Gzip);
        check("gzip, *;q=0", gzip, false);
        check("gzip, identity;q=0", gzip, false);
        check("identity;q=0", None, false);
        check("*;q=0", None, false);
        check("br, *;q=0.000", None, false);
        check("identity, *;q=0", None, true);
        check("identity;q=0, *", gzip, false);
    }

    #[test]
    fn weights_that_are_none_are_passed_over() {
        for bad in
            ["gzip;q=2", "gzip;q=1.001", "gzip;q=0.1234", "gzip;q=-1", "gzip;q=", "gzip;level=1", "gzip;q", "gzip;q=+1"]
        {
            check(bad, None, true);
        }
        check("gzip;q=0.5.1, zstd;q=0.1", Some(Coding::Zstd), true);
    }
}
