//! What the programs cost the verifier.

use std::fs;

use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, Xdp},
};
use vtep_agent::dataplane::OBJECT;

/// The table in SPECIFICATION.md, by program.
fn ledger() -> Vec<(String, u32)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../SPECIFICATION.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("## Verifier ledger").unwrap();
    let row = |line: &str| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let program = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let number = cells.next()?.replace(',', "").parse().ok()?;
        Some((program.to_owned(), number))
    };
    section.lines().filter_map(row).collect()
}

fn verified(ebpf: &mut Ebpf, name: &str) -> u32 {
    let program = ebpf.program_mut(name).unwrap();
    let info = if name.starts_with("underlay_xdp") {
        let program: &mut Xdp = program.try_into().unwrap();
        program.load().unwrap();
        program.info()
    } else {
        let program: &mut SchedClassifier = program.try_into().unwrap();
        program.load().unwrap();
        program.info()
    };
    info.unwrap().verified_instruction_count().unwrap()
}

/// A tenth more than the ledger says is a change that nobody meant: find out why, or write the new
/// number down. Kernels differ; the numbers are Linux 6.18's, others get twice as much.
#[test]
fn the_verifier_ledger_holds() {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let tenths = if kernel.starts_with("6.18.") { 11 } else { 20 };
    let mut ebpf = EbpfLoader::new().load(OBJECT).unwrap();
    let ledger = ledger();
    assert_eq!(ledger.len(), 5, "{ledger:?}");
    let found: Vec<_> = ledger
        .into_iter()
        .map(|(name, wanted)| (verified(&mut ebpf, &name), wanted, name))
        .collect();
    for (found, wanted, name) in &found {
        println!("{name}: {found} verified instructions, {wanted} in the ledger");
    }
    for (found, wanted, name) in found {
        assert!(
            found <= wanted * tenths / 10,
            "{name}: {found}, not {wanted}"
        );
    }
}
