//! What a sample costs to encode and to decode. `cargo bench -p queue --bench payload`; items are samples.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use model::{Labels, LabelsRef, Metadata, Sample, Samples};
use queue::payload::{Decoder, Encoder, Visitor};

fn main() {
    divan::main();
}

/// Series as a scrape of many targets gives them, in the order of the targets: a dozen labels of which most repeat.
fn scrape(series: usize) -> Vec<(Labels, Vec<Sample>)> {
    let one = |n: usize| {
        let (target, n) = (n / 100, n % 100);
        let pairs = [
            ("__name__", format!("metric_of_some_length_{}_total", n / 8)),
            ("cluster", format!("prod-{}", target % 4)),
            ("container", format!("app-{}", target % 97)),
            ("instance", format!("host-{target:05}:9100")),
            ("job", "load".to_owned()),
            ("mode", format!("mode-{}", n % 8)),
            ("namespace", format!("team-{}", target % 23)),
            ("node", format!("ip-10-0-0-{target}.internal")),
            ("pod", format!("app-{:08x}-{target:05}", target.wrapping_mul(0x9e37_79b9) as u32)),
            ("region", "eu-west-1".to_owned()),
            ("zone", "a".to_owned()),
        ];
        let labels = Labels::new(&pairs).expect("valid");
        let v = if n.is_multiple_of(3) { (n * 977) as f64 } else { (n * 977) as f64 / 100.0 };
        (labels, vec![Sample { t: 1_795_525_335_000 + target as i64 * 7919 % 15_000, v }])
    };
    (0..series).map(one).collect()
}

fn encode(encoder: &mut Encoder, series: &[(Labels, Vec<Sample>)]) -> bytes::Bytes {
    for (labels, samples) in series {
        encoder.push(labels.as_ref(), samples);
    }
    encoder.finish()
}

#[divan::bench(args = [500, 2000])]
fn encode_scrape(bencher: Bencher, series: usize) {
    let series = scrape(series);
    let mut encoder = Encoder::new();
    bencher.counter(ItemsCount::new(series.len())).bench_local(|| encode(&mut encoder, black_box(&series)));
}

struct Sum(u64);

impl Visitor for Sum {
    fn series(&mut self, labels: LabelsRef<'_>, samples: Samples<'_>) {
        self.0 = self.0.wrapping_add(labels.canonical().len() as u64 + samples.len() as u64);
    }
    fn metadata(&mut self, _: &Metadata) {}
}

#[divan::bench(args = [500, 2000])]
fn decode_scrape(bencher: Bencher, series: usize) {
    let payload = encode(&mut Encoder::new(), &scrape(series));
    let mut decoder = Decoder::default();
    bencher.counter(ItemsCount::new(series)).bench_local(|| {
        let mut sum = Sum(0);
        decoder.decode(black_box(&payload), &mut sum).expect("valid");
        sum.0
    });
}
