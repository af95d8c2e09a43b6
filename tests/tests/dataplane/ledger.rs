//! What the programs cost the verifier.

use std::fs;

use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, Xdp},
};
use vtep_agent::dataplane::OBJECT;

/// The table in SPECIFICATION.md: what each program may need on a kernel of this release.
fn ledger(release: &str) -> Vec<(String, u32)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../SPECIFICATION.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("## Verifier ledger").unwrap();
    let cells = |line: &str| -> Vec<String> {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace(',', "")).collect()
    };
    let head = section.lines().find(|line| line.starts_with("| program"));
    let column = cells(head.unwrap())
        .iter()
        .position(|kernel| release.starts_with(&format!("{kernel}.")));
    let row = |line: &str| {
        let cells = cells(line);
        let (program, numbers) = cells.split_first()?;
        let program = program.strip_prefix('`')?.strip_suffix('`')?;
        let numbers: Vec<u32> = numbers.iter().map(|cell| cell.parse().unwrap()).collect();
        let most = match column {
            Some(column) => numbers[column - 1] * 11 / 10,
            None => numbers.iter().max()? * 2,
        };
        Some((program.to_owned(), most))
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
/// number down. Kernels differ, and each that is in the ledger has numbers of its own.
#[test]
fn the_verifier_ledger_holds() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut ebpf = EbpfLoader::new().load(OBJECT).unwrap();
    let ledger = ledger(&release);
    assert_eq!(ledger.len(), 5, "{ledger:?}");
    let found: Vec<_> = ledger
        .into_iter()
        .map(|(name, most)| (verified(&mut ebpf, &name), most, name))
        .collect();
    for (found, most, name) in &found {
        println!("{name}: {found} verified instructions, {most} allowed");
    }
    for (found, most, name) in found {
        assert!(found <= most, "{name}: {found}, not {most}");
    }
}
