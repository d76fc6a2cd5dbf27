use model::{Cancel, Matcher, Want};

use super::*;
use crate::View;
use crate::disk::simulated::Simulated;

fn write(disk: &dyn Disk) {
    let mut writer = Writer::create(disk, "b").expect("creates");
    for job in ["a", "b"] {
        let labels = Labels::new(&[("__name__", "up"), ("job", job)]).expect("valid");
        let samples = Columns::floats(vec![1000, 2000, 3000], vec![1.0, 0.5, 1.0]);
        writer.push(&labels, View::of(&samples)).expect("adds");
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
const GOLDEN: &str = "77656972626c6b3203d00f0de807020101140405010102004bcfa72303d00f0de807020101140405010102004bcfa7230514\
    085f5f6e616d655f5f027570036a6f6201610162021a0200010203010814d00fd00f0c0200010204011c14d00fd00f0c0d0d\
    f02e0002085f5f6e616d655f5f2803000000000000000000000000000000001089d301000000000000001300000000000000\
    6332d0a015003a30000001000000000001001000000000000100036a6f622c03000000000000000000000000000000010000\
    0062611102020000000000000017000000000000005f5913b2010001013000000000000000b500000000000000966ff1be06\
    00000000000000e803000000000000b80b000000000000eb9a0ed277656972656e6432";

fn overwrite(disk: &dyn Disk, content: &[u8]) {
    disk.create("b").and_then(|mut out| out.write_all(content)).expect("written");
}

#[test]
fn every_flipped_byte_is_an_error_and_never_another_value() {
    let disk = Simulated::new(1);
    write(&disk);
    let whole = disk.read("b").expect("there");
    let all = SelectRequest {
        matchers: vec![Matcher::equal("__name__", "up")],
        range: TimeRange::ALL,
        want: Want::Samples,
        series_max: 10,
        cancel: Cancel::default(),
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x04;
        overwrite(&disk, &bytes);
        let read = Block::open(&disk, "b").and_then(|block| {
            let mut out = Columns::default();
            for (_, piece) in Arc::new(block).pieces(&all, &Cuts::default())? {
                piece.read_into(TimeRange::ALL, &mut out)?;
            }
            Ok(out)
        });
        assert!(matches!(read, Err(Error::Corrupt { .. })), "byte {at}: {read:?}");
    }
    for length in (0..whole.len()).step_by(9) {
        overwrite(&disk, &whole[..length]);
        assert!(Block::open(&disk, "b").is_err(), "{length} bytes");
    }
}

#[test]
fn the_tail_of_a_block_is_all_that_opens_it() {
    let disk = Simulated::new(1);
    write(&disk);
    let whole = disk.read("b").expect("there");
    let tail = tail_bytes(&*disk.open("b").expect("opens")).expect("reads");
    let tail_at = whole.len() - tail as usize;
    let mut bytes = whole.clone();
    bytes[MAGIC.len()..tail_at].fill(0);
    overwrite(&disk, &bytes);
    Block::open(&disk, "b").expect("opens without its chunks");
    bytes[tail_at] ^= 1;
    overwrite(&disk, &bytes);
    Block::open(&disk, "b").expect_err("its index is damaged");
    overwrite(&disk, b"short");
    assert_eq!(tail_bytes(&*disk.open("b").expect("opens")).expect("reads"), 5);
}
