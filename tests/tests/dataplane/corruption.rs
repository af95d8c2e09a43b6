//! Every truncation and every single-byte corruption of a valid frame: a verdict from the table, no
//! byte from beyond the frame, no frame to a wrong tenant.

use vtep_common::abi::SettingsFlags;

use crate::{
    frames::{Outer, arp, tcp4, udp4, udp6},
    rig::*,
};

fn samples() -> Vec<Vec<u8>> {
    let sender = (VM9, "10.0.0.9".parse().unwrap());
    let target = (VM1, "10.0.0.1".parse().unwrap());
    [
        tcp4(VM9, VM1, 20),
        udp4(VM9, VM1, 20),
        udp6(VM9, VM1, 8),
        arp((VM9, VM1), 2, sender, target),
    ]
    .map(|inner| Outer::default().wrap(&inner))
    .to_vec()
}

/// Passed untouched, dropped for one reason, or stripped for a port of the VNI's bridge domain.
#[track_caller]
fn judge_xdp(frame: &[u8], run: &Run, what: &str) {
    match run.verdict {
        XDP_DROP => assert_eq!(
            run.drops.values().sum::<u64>(),
            1,
            "{what}: {:?}",
            run.drops
        ),
        XDP_PASS if run.bytes == frame => assert!(run.drops.is_empty(), "{what}"),
        XDP_PASS => {
            assert!(run.drops.is_empty(), "{what}");
            let (meta, inner) = run.split_meta();
            let vni = u32::from_be_bytes([0, frame[46], frame[47], frame[48]]);
            let (bd, slots): (_, &[u32]) = match vni {
                BLUE_VNI => (BLUE, &[SLOT1, SLOT2]),
                RED_VNI => (RED, &[RED_SLOT]),
                other => panic!("{what}: VNI {other} was delivered"),
            };
            assert_eq!(meta.bd, bd, "{what}");
            assert!(slots.contains(&meta.slot), "{what}");
            assert_inner(frame, inner, what);
        }
        other => panic!("{what}: verdict {other}"),
    }
}

/// As [`judge_xdp`]; a flooded frame is consumed, with nothing counted as dropped.
#[track_caller]
fn judge_tc(frame: &[u8], run: &Run, what: &str) {
    match run.verdict {
        TC_SHOT => assert!(
            run.drops.values().sum::<u64>() <= 1,
            "{what}: {:?}",
            run.drops
        ),
        TC_NEXT => {
            assert!(run.drops.is_empty(), "{what}");
            assert_eq!(run.bytes, frame, "{what}: passed, hence untouched");
        }
        TC_REDIRECT => {
            assert!(run.drops.is_empty(), "{what}");
            assert_inner(frame, &run.bytes, what);
        }
        other => panic!("{what}: verdict {}", other as i32),
    }
}

/// Delivered bytes are those of the frame behind the outer header, but for ECN.
#[track_caller]
fn assert_inner(frame: &[u8], inner: &[u8], what: &str) {
    let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    let expected = &frame[50..14 + total];
    assert_eq!(inner.len(), expected.len(), "{what}");
    for (index, (got, want)) in inner.iter().zip(expected).enumerate() {
        let ecn = matches!(index, 15 | 24 | 25);
        assert!(
            got == want || ecn,
            "{what}: byte {index} of the inner frame"
        );
    }
}

/// The kernel takes no IPv4 frame without a whole IP header for a TC test run.
const SHORTEST: usize = 34;

#[test]
fn every_truncation() {
    let mut rig = Rig::new();
    for sample in samples() {
        for length in 14..sample.len() {
            let frame = &sample[..length];
            let what = format!("{length} of {} bytes", sample.len());
            let run = rig.xdp(frame);
            judge_xdp(frame, &run, &what);
            assert!(
                run.drops.len() == 1 || run.bytes == frame,
                "{what}: a truncated frame must not be delivered"
            );
            if length < SHORTEST {
                continue;
            }
            let run = rig.underlay(frame);
            judge_tc(frame, &run, &what);
            assert_ne!(run.verdict, TC_REDIRECT, "{what}");
            // From a port: dropped, answered or tunnelled, never passed to the host.
            let run = rig.access(frame);
            assert!(
                matches!(run.verdict, TC_SHOT | TC_REDIRECT),
                "{what}: {}",
                run.verdict as i32
            );
        }
    }
}

#[test]
fn every_single_byte_corruption() {
    let mut rig = Rig::new();
    for flags in [SettingsFlags::SOURCE_LOOSE, SettingsFlags::PASS_UNKNOWN_VNI] {
        rig.settings(flags);
        for sample in samples() {
            for index in 0..sample.len() {
                for bits in [0x01, 0x80, 0xff, 0x10] {
                    let mut frame = sample.clone();
                    frame[index] ^= bits;
                    let what = format!("byte {index} xor {bits:#x}");
                    let run = rig.xdp(&frame);
                    judge_xdp(&frame, &run, &what);
                    let run = rig.underlay(&frame);
                    judge_tc(&frame, &run, &what);
                    let run = rig.access(&frame);
                    assert!(matches!(run.verdict, TC_SHOT | TC_REDIRECT), "{what}");
                }
            }
        }
    }
}
