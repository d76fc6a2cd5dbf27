use model::{Cancel, Matcher, Want};

use super::*;
use crate::disk::simulated::Simulated;

fn write(disk: &dyn Disk) {
    let mut writer = Writer::create(disk, "b").expect("creates");
    for job in ["a", "b"] {
        let labels = Labels::new(&[("__name__", "up"), ("job", job)]).expect("valid");
        let samples = Columns { t: vec![1000, 2000, 3000], v: vec![1.0, 0.5, 1.0] };
        writer.push(&labels, &samples.t, &samples.v).expect("adds");
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
const GOLDEN: &str = "77656972626c6b3103d00f05e807020001011404050101020002570a5803d00f05e807020001011404050101020002570a58\
    0514085f5f6e616d655f5f027570036a6f6201610162021a0200010203010815d00fd00f030200010204011d15d00fd00f03\
    0d0d02085f5f6e616d655f5f2803000000000000000000000000000000001089d30100000000000000130000000000000063\
    32d0a0143a30000001000000000001001000000000000100036a6f622c030000000000000000000000000000000100000062\
    611102020000000000000017000000000000005f5913b2123a3000000100000000000000100000000000123a300000010000\
    00000000001000000001003200000000000000d30000000000000050670ec40600000000000000e803000000000000b80b00\
    0000000000977b90ad77656972656e6431";

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
            for (_, piece) in Arc::new(block).pieces(&all)? {
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
