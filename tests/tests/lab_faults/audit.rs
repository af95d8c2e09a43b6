//! Somebody else writes to the maps of a running agent.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use vtep_common::abi::ABI_VERSION;
use vtep_tests::{Lab, Pair, Ping, eventually, wait_flood};

/// An audit begins every 15 seconds, and takes some.
const PATIENCE: Duration = Duration::from_secs(120);

/// The maps that get damaged, and how many entries differ then.
const DAMAGED: [(&str, u64); 5] = [
    ("fdb", 3),
    ("port_index", 1),
    ("vnis", 1),
    ("sources", 1),
    ("vteps", 1),
];

struct Map<'a> {
    pair: &'a Pair,
    path: PathBuf,
}

impl<'a> Map<'a> {
    /// A map of the first agent.
    fn of(pair: &'a Pair, name: &str) -> Self {
        let path = format!("h1/v{ABI_VERSION}/maps/{name}");
        let path = pair.lab.bpffs().join(path);
        Self { pair, path }
    }

    fn bpftool(&self, command: &str, arguments: &str) -> Result<String> {
        let path = self.path.display();
        let line = format!("bpftool --json map {command} pinned {path} {arguments}");
        self.pair.h1.ns().run(&line)
    }

    /// Its entries that are not zero, as bytes in words that bpftool takes.
    fn entries(&self) -> Result<Vec<(String, String)>> {
        let dump: Value = serde_json::from_str(&self.bpftool("dump", "")?)?;
        let bytes = |field: &Value| -> Option<String> {
            let bytes = field.as_array()?.iter().filter_map(Value::as_str);
            Some(bytes.collect::<Vec<_>>().join(" "))
        };
        let entries = dump.as_array().context("no list")?.iter();
        let entries: Option<Vec<_>> = entries
            .map(|entry| Some((bytes(&entry["key"])?, bytes(&entry["value"])?)))
            .collect();
        let mut entries = entries.with_context(|| format!("{dump}"))?;
        entries.retain(|(_, value)| value.replace("0x00", "").contains("0x"));
        entries.sort();
        Ok(entries)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.bpftool("delete", &format!("key {key}")).map(drop)
    }

    fn write(&self, key: &str, value: &str) -> Result<()> {
        let arguments = format!("key {key} value {value}");
        self.bpftool("update", &arguments).map(drop)
    }
}

/// What the map holds, but for the second in which a MAC was seen.
fn content(map: &Map<'_>, name: &str) -> Result<Vec<(String, String)>> {
    let mut entries = map.entries()?;
    if name == "fdb" {
        for (_, value) in &mut entries {
            value.truncate("0x00 ".len() * 8);
        }
    }
    Ok(entries)
}

/// Lost, changed and foreign entries of a live map are found, counted, said, and made good while the
/// agent goes on; what was cut off by them can be reached again.
#[test]
fn a_damaged_map_is_healed() -> Result<()> {
    let lab = Lab::new("audit")?;
    let underlay = lab.underlay()?;
    let mut pair = Pair::start(&lab, &underlay)?;
    wait_flood(&pair.a1, "blue", 1)?;
    pair.pings()?;
    let contents = |pair: &Pair| -> Result<Vec<_>> {
        let content = |(name, _): &(&str, u64)| content(&Map::of(pair, name), name);
        DAMAGED.iter().map(content).collect()
    };
    let before = contents(&pair)?;

    let fdb = Map::of(&pair, "fdb");
    let entries = fdb.entries()?;
    let [(gone, _), (changed, other)] = &entries[..] else {
        anyhow::bail!("not the MACs of two VMs: {entries:?}");
    };
    fdb.delete(gone)?;
    // Another target.
    let wrong = other.replacen("0x0", "0x7", 1);
    ensure!(wrong != *other, "{other}");
    fdb.write(changed, &wrong)?;
    let foreign = changed.replace("0x02", "0x06");
    ensure!(foreign != *changed, "{changed}");
    fdb.write(&foreign, other)?;
    for name in ["port_index", "vnis", "sources"] {
        let map = Map::of(&pair, name);
        let (key, _) = map.entries()?.first().cloned().context(name)?;
        map.delete(&key)?;
    }
    let vteps = Map::of(&pair, "vteps");
    let (key, value) = vteps.entries()?.first().cloned().context("vteps")?;
    let zeros = vec!["0x00"; value.split(' ').count()].join(" ");
    vteps.write(&key, &zeros)?;
    ensure!(contents(&pair)? != before);

    eventually(PATIENCE, || {
        let counters = pair.a1.show("counters")?;
        for (map, count) in DAMAGED {
            let found = &counters["audit_differences"][map];
            ensure!(*found == count, "{map}: {counters}");
        }
        let now = contents(&pair)?;
        ensure!(now == before, "{before:?}\n{now:?}");
        Ok(())
    })?;
    Ping::to("10.0.0.2").until_answered(pair.vm1.ns())?;
    pair.pings()?;
    let expected = "entries were not as the agent wrote them";
    pair.a1.daemon().wait_for_log(expected, PATIENCE)?;
    let metrics = pair.a1.metrics()?;
    for (map, count) in DAMAGED {
        let label = format!("map=\"{map}\"");
        let found = metrics.value("vtep_audit_differences_total", &[&label])?;
        ensure!(found == count as f64, "{map}: {found}");
    }

    // Nothing more is found, and nothing was found where nobody wrote.
    let audits = metrics.value("vtep_audits_total", &[])?;
    eventually(PATIENCE, || {
        let now = pair.a1.metrics()?.value("vtep_audits_total", &[])?;
        ensure!(now > audits, "{now} audits");
        Ok(())
    })?;
    let all: u64 = DAMAGED.iter().map(|(_, count)| count).sum();
    let found = pair
        .a1
        .metrics()?
        .value("vtep_audit_differences_total", &[])?;
    ensure!(found == all as f64, "{found}");
    let innocent = pair
        .a2
        .metrics()?
        .value("vtep_audit_differences_total", &[])?;
    ensure!(innocent == 0.0, "{innocent}");
    Ok(())
}
