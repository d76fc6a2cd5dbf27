use model::{Cancel, Held, Mark, MatchOp, Matcher, Want};

use super::*;
use crate::View;
use crate::block::counting::Counting;
use crate::disk::simulated::Simulated;
use crate::postings::LabelIndex as _;
use crate::testing::Family;

fn open(disk: &dyn Disk) -> Result<Block, Error> {
    Block::open(disk, "b", &Cache::new(Cache::OFFLINE_BYTES))
}

fn request(matchers: &[Matcher], range: TimeRange, series_max: usize) -> SelectRequest {
    SelectRequest { matchers: matchers.to_vec(), range, want: Want::Samples, series_max, cancel: Cancel::default() }
}

fn write(disk: &dyn Disk) {
    let mut writer = Writer::create(disk, "b").expect("creates");
    for job in ["a", "b"] {
        let labels = Labels::new(&[("__name__", "up"), ("job", job)]).expect("valid");
        let samples = Columns::floats(vec![1000, 2000, 3000], vec![1.0, 0.5, 1.0]);
        writer.push(labels.as_ref(), View::of(&samples)).expect("adds");
    }
    writer.finish().expect("writes");
}

#[test]
fn block_is_golden() {
    let disk = Simulated::new(1);
    write(&disk);
    let hex: String = disk.read("b").expect("there").iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}
const GOLDEN: &str = "77656972626c6b3403d00f0de807020101140405010102004bcfa72303d00f0de807020101140405010102004bcfa723\
    0000010001010102d50985e90001000814000000d00f00000000d00f00030000000000000000000000003a9ca2730000\
    00010161624f0cf9d00000000102b59eebb70000027570195df4990001000003000100000e37ab1f00020c22f02e0002\
    085f5f6e616d655f5f4201010000090d036a6f622e010200000b09300000000000000088000000000000007a58efdb06\
    00000000000000e803000000000000b80b000000000000e9683d6277656972656e6434";

/// Samples of every kind at the times of scrapes that are late by some milliseconds.
fn scrapes(n: i64, kind: &str) -> Columns {
    let mut random = fastrand::Rng::with_seed(3);
    let mut family = Family::new(&mut fastrand::Rng::with_seed(4));
    let mut out = Columns::default();
    for i in 0..n {
        let (t, v) = (i * 15_000 + random.i64(0..3000), (i * i % 97) as f64);
        let t = if kind == "other in between" && (1000..1500).contains(&i) { t + 1 } else { t };
        match kind {
            "starts" => out.push_with_start(t, v, 7),
            "histograms" => out.histograms.push(family.sample(t, &mut fastrand::Rng::with_seed(i as u64))),
            _ => out.push(t, v),
        }
    }
    out
}

/// A block of series that are scraped together.
fn write_scrapes(disk: &dyn Disk, n: i64, kinds: &[&str]) {
    let mut writer = Writer::create(disk, "b").expect("creates");
    for kind in kinds {
        let labels = Labels::new(&[("__name__", "up"), ("job", kind)]).expect("valid");
        writer.push(labels.as_ref(), View::of(&scrapes(n, kind))).expect("adds");
    }
    assert_eq!(writer.finish().expect("writes"), 0);
}

#[test]
fn block_with_shared_times_is_golden() {
    let disk = Simulated::new(1);
    write_scrapes(&disk, 20, &["a", "b"]);
    let hex: String = disk.read("b").expect("there").iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, GOLDEN_SHARED);
}
const GOLDEN_SHARED: &str = "77656972626c6b3414a01b01e0ca010ccef48cb02e46132a9000409dd782b7600c4a73c99b354959130579b30c81aaf4\
    c9140100000002078001e28119c17e50c1c5750c787a5e501100fb2c08f5140100000002078001e28119c17e50c1c575\
    0c787a5e501100fb2c08f50000010001010102d50985e9000100311d000000a01b00000000c5b6110014000000010001\
    0800290000004e80d679000000010161624f0cf9d00000000102b59eebb70000027570195df499000100000300010000\
    0e37ab1f00020c23aa88230002085f5f6e616d655f5f4301010000090d036a6f622f010200000b096b00000000000000\
    c400000000000000191822722800000000000000d0060000000000001562040000000000d63d223777656972656e6434";

/// All chunks, by the series.
fn chunks(block: &Block) -> Vec<Vec<ChunkRef>> {
    let mut memo = Memo::default();
    (0..block.series() as u32).map(|id| block.index.entry(id, &mut memo).expect("there").chunks).collect()
}

#[test]
fn the_times_of_a_scrape_are_stored_once_whatever_its_series_are_of() {
    let disk = Simulated::new(1);
    let kinds = ["gauges", "more gauges", "other in between", "starts"];
    write_scrapes(&disk, 2500, &kinds);
    let block = Arc::new(open(&disk).expect("opens"));
    let all = chunks(&block);
    let places: Vec<Place> = all[0].iter().filter_map(|chunk| chunk.times).collect();
    assert_eq!(places.len(), 3);
    // One behind the other, so that one read has them all.
    assert!(places.windows(2).all(|pair| pair[0].end() == pair[1].at), "{places:?}");
    let of = |n: usize| all[n].iter().filter_map(|chunk| chunk.times).collect::<Vec<Place>>();
    assert_eq!([of(1), of(3)], [places.clone(), places.clone()]);
    let other = of(2);
    assert_eq!([other[0], other[2]], [places[0], places[2]]);
    assert!(other[1].at > places[2].at, "{other:?}");
    for (chunks, kind) in all.iter().zip(kinds) {
        for (from, to) in [(0, 3), (0, 1), (1, 2), (1, 3), (2, 3)] {
            let (range, chunks) = (TimeRange::ALL, &chunks[from..to]);
            let (mut read, mut expect) = (Columns::default(), scrapes(2500, kind));
            block.read(chunks, range, &mut read).expect("reads");
            expect.clip(
                Mark::default(),
                TimeRange { start_ms: chunks[0].range.start_ms, end_ms: chunks[chunks.len() - 1].range.end_ms },
            );
            assert_eq!(read, expect, "{kind} {from}..{to}");
        }
    }
}

#[test]
fn histograms_share_times_and_short_columns_stay_in_their_chunks() {
    let disk = Simulated::new(1);
    write_scrapes(&disk, 100, &["gauges", "histograms"]);
    let block = open(&disk).expect("opens");
    let all = chunks(&block);
    assert!(all[0][0].times.is_some() && all[0][0].times == all[1][0].times, "{all:?}");
    let mut read = Columns::default();
    block.read(&all[1], TimeRange::ALL, &mut read).expect("reads");
    // Sums may be not-a-number, which equals nothing.
    assert_eq!(format!("{read:?}"), format!("{:?}", scrapes(100, "histograms")));
    write(&disk);
    let block = open(&disk).expect("opens");
    assert!(chunks(&block).iter().flatten().all(|chunk| chunk.times.is_none()));
}

fn overwrite(disk: &dyn Disk, content: &[u8]) {
    disk.create("b").and_then(|mut out| out.write_all(content)).expect("written");
}

#[test]
fn every_flipped_byte_is_an_error_and_never_another_value() {
    let disk = Simulated::new(1);
    write(&disk);
    check_flips(&disk);
    write_scrapes(&disk, 20, &["a", "b"]);
    check_flips(&disk);
}

fn check_flips(disk: &Simulated) {
    let whole = disk.read("b").expect("there");
    let all = request(&[Matcher::equal("__name__", "up")], TimeRange::ALL, 10);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x04;
        overwrite(disk, &bytes);
        let read = open(disk).and_then(|block| {
            let mut out = Columns::default();
            // What a query by other labels reads.
            for name in ["__name__", "job"] {
                block.index.counts(name, &block.index.all(), &mut |_, _| {})?;
            }
            for (_, piece) in Arc::new(block).pieces(&all, &Cuts::default(), &mut Held::default())? {
                piece.read_into(TimeRange::ALL, &mut out)?;
            }
            Ok(out)
        });
        assert!(matches!(read, Err(Error::Corrupt { .. })), "byte {at}: {read:?}");
    }
    for length in (0..whole.len()).step_by(9) {
        overwrite(disk, &whole[..length]);
        assert!(open(disk).is_err(), "{length} bytes");
    }
}

#[test]
fn the_tail_of_a_block_is_all_that_opens_it() {
    let disk = Simulated::new(1);
    write(&disk);
    let whole = disk.read("b").expect("there");
    let tail = tail_bytes(&*disk.open("b").expect("opens")).expect("reads");
    let tail_at = whole.len() - tail as usize;
    assert!(tail_at > MAGIC.len() && tail as usize > FOOTER);
    let mut bytes = whole.clone();
    bytes[MAGIC.len()..tail_at].fill(0);
    overwrite(&disk, &bytes);
    open(&disk).expect("opens without its chunks and pages");
    bytes[tail_at] ^= 1;
    overwrite(&disk, &bytes);
    open(&disk).expect_err("its index is damaged");
    overwrite(&disk, b"short");
    assert_eq!(tail_bytes(&*disk.open("b").expect("opens")).expect("reads"), 5);
}

#[test]
fn a_block_of_another_version_is_refused_as_what_it_is() {
    let disk = Simulated::new(1);
    write(&disk);
    let mut bytes = disk.read("b").expect("there");
    let end = bytes.len() - 1;
    bytes[MAGIC.len() - 1] = b'3';
    bytes[end] = b'3';
    overwrite(&disk, &bytes);
    let error = open(&disk).expect_err("refused").to_string();
    assert!(error.ends_with("a block of version 3, and this reads version 4"), "{error}");
}

#[test]
fn the_threads_of_a_pool_find_what_one_finds() {
    let disk = Simulated::new(1);
    let mut writer = Writer::create(&disk, "b").expect("creates");
    let number = 5 * TOGETHER + 7;
    for n in 0..number {
        let labels = Labels::new(&[("__name__", "up"), ("pod", &format!("pod-{n:06}"))]).expect("valid");
        writer.push(labels.as_ref(), View::of(&Columns::floats(vec![n as i64], vec![n as f64]))).expect("adds");
    }
    writer.finish().expect("writes");
    let block = Arc::new(open(&disk).expect("opens"));
    let cuts = Cuts::new(&[], 0, &block).expect("none");
    let find = |start_ms, series_max| {
        let range = TimeRange { start_ms, end_ms: i64::MAX };
        let request = request(&[Matcher::equal("__name__", "up")], range, series_max);
        let mut held = request.cancel.claim().hold();
        let found = block.pieces(&request, &cuts, &mut held)?;
        let found = found.into_iter().map(|(labels, piece)| (labels, piece.chunks));
        Ok::<_, Error>((found.collect::<Vec<_>>(), held.bytes()))
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("starts");
    for start_ms in [0, TOGETHER as i64 / 2, 4 * TOGETHER as i64 + 3] {
        let (alone, own) = find(start_ms, usize::MAX).expect("finds");
        assert_eq!(alone.len(), number - start_ms as usize);
        let (together, held) = pool.install(|| find(start_ms, usize::MAX)).expect("finds");
        assert!(alone == together && own == held, "{start_ms}");
        assert!(pool.install(|| find(start_ms, alone.len())).is_ok());
        let error = pool.install(|| find(start_ms, alone.len() - 1)).expect_err("one too many");
        assert!(error.to_string().contains(&(alone.len() - 1).to_string()), "{error}");
    }
}

/// Whether bytes are within a place that was told before.
fn is_told(told: &[(u64, usize)], (at, size): (u64, usize)) -> bool {
    told.iter().any(|(from, bytes)| *from <= at && at + size as u64 <= from + *bytes as u64)
}

#[test]
fn what_a_query_of_a_cold_block_reads_is_mostly_told_before() {
    let written = Simulated::new(1);
    let mut writer = Writer::create(&written, "b").expect("creates");
    for n in 0..5000 {
        let pairs =
            [("__name__", ["a", "b"][n / 2500].to_owned()), ("job", "j".to_owned()), ("pod", format!("{n:04}"))];
        let kind = if n % 2 == 0 { "even" } else { "odd" };
        writer.push(Labels::new(&pairs).expect("valid").as_ref(), View::of(&scrapes(40, kind))).expect("adds");
    }
    writer.finish().expect("writes");
    let disk = Counting::new(written.read("b").expect("there"));
    let pattern = |op, value| Matcher::new(op, "pod", value).expect("valid");
    let name = |name| Matcher::equal("__name__", name);
    let sets: [(&[Matcher], usize, usize); 4] = [
        // One series: of its block nothing is in memory but the top.
        (&[name("a"), Matcher::equal("job", "j"), Matcher::equal("pod", "0700")], 1, 0),
        (&[name("b"), pattern(MatchOp::Regex, "4[0-9]{3}")], 1000, 0),
        (&[name("a"), pattern(MatchOp::Regex, "0001|0004|2000")], 3, 0),
        // Values of labels other than those that were asked for are known as soon as their group is; of each group but of its first series alone.
        (&[name("a")], 2500, 4),
    ];
    for (n, (matchers, series, untold)) in sets.into_iter().enumerate() {
        let block = Arc::new(open(&disk).expect("opens"));
        let request = request(matchers, TimeRange::ALL, usize::MAX);
        let query = || {
            let found = block.pieces(&request, &Cuts::default(), &mut Held::default()).expect("reads");
            let mut out = Columns::default();
            found.iter().for_each(|(_, piece)| piece.read_into(TimeRange::ALL, &mut out).expect("reads"));
            found.len()
        };
        disk.reads();
        disk.expected();
        assert_eq!(query(), series);
        let (reads, told) = (disk.reads(), disk.expected());
        // Chunks are read some at once, beyond those that are wanted.
        let cold: Vec<_> = reads.iter().filter(|(at, size)| !is_told(&told, (*at, (*size).min(40)))).collect();
        assert!(cold.len() <= untold, "{n}: {cold:?} of {reads:?}, told {told:?}");
        assert!(told.len() <= 12, "{n}: {told:?}");
        // What is in memory then is not told again, but for the chunks.
        query();
        assert_eq!(disk.expected(), [], "{n}");
    }
}
