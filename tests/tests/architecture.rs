//! The import table of ARCHITECTURE.md: which module of the agent may know which.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};

/// A module, by its path below the crate, and what it never sees: modules of the agent
/// (`crate::…`), or other crates and parts of the standard library.
const NEVER_SEES: &[(&str, &[&str])] = &[
    (
        "types",
        &[
            "crate::bgp",
            "crate::config",
            "crate::control",
            "crate::core",
            "crate::daemon",
            "crate::dataplane",
            "crate::evpn",
            "crate::intent",
            "crate::kernel",
            "crate::observe",
            "crate::reconcile",
            "crate::view",
            "tokio",
        ],
    ),
    (
        "bfd",
        &[
            "crate::bgp",
            "crate::control",
            "crate::core",
            "crate::daemon",
            "crate::evpn",
            "crate::intent",
            "crate::observe",
            "crate::reconcile",
        ],
    ),
    ("bfd::wire", &["crate::config"]),
    ("bfd::fsm", &["socket2", "std::net::UdpSocket"]),
    ("bfd::table", &["socket2", "std::net::UdpSocket"]),
    (
        "bgp::wire",
        &[
            "crate::bgp::fsm",
            "crate::bgp::peer",
            "crate::bgp::rib",
            "crate::bgp::session",
            "crate::config",
            "crate::control",
            "crate::core",
            "crate::daemon",
            "crate::evpn",
            "crate::intent",
            "crate::observe",
            "crate::reconcile",
            "std::time",
            "tokio",
        ],
    ),
    (
        "bgp::fsm",
        &[
            "crate::bgp::rib",
            "crate::bgp::session",
            "crate::control",
            "crate::core",
            "crate::daemon",
            "crate::evpn",
            "crate::intent",
            "crate::observe",
            "crate::reconcile",
            "socket2",
            "std::net::TcpListener",
            "std::net::TcpStream",
        ],
    ),
    (
        "bgp::rib",
        &[
            "crate::bgp::fsm",
            "crate::bgp::session",
            "crate::control",
            "crate::core",
            "crate::daemon",
            "crate::evpn",
            "crate::intent",
            "crate::observe",
            "crate::reconcile",
            "crate::recording",
        ],
    ),
    (
        "evpn",
        &[
            "crate::bgp::fsm",
            "crate::bgp::session",
            "crate::control",
            "crate::core",
            "crate::daemon",
            "crate::observe",
            "crate::reconcile",
            "crate::recording",
        ],
    ),
    (
        "intent",
        &[
            "crate::bgp",
            "crate::control",
            "crate::core",
            "crate::daemon",
            "crate::evpn",
            "crate::observe",
            "crate::reconcile",
            "crate::recording",
            "tokio",
        ],
    ),
    (
        "core",
        &[
            "crate::bgp::fsm",
            "crate::bgp::session",
            "crate::control",
            "crate::daemon",
            "crate::observe",
            "crate::reconcile",
            "crate::recording",
        ],
    ),
    (
        "recording",
        &[
            "crate::control",
            "crate::daemon",
            "crate::observe",
            "crate::reconcile",
        ],
    ),
    (
        "reconcile",
        &[
            "crate::bgp",
            "crate::control",
            "crate::core",
            "crate::daemon",
            "crate::evpn",
            "crate::observe",
        ],
    ),
    (
        "dataplane",
        &["crate::bgp", "crate::core", "crate::daemon", "crate::evpn"],
    ),
    ("kernel", &["crate::bgp", "crate::daemon", "crate::evpn"]),
    ("control", &["crate::daemon"]),
    ("observe", &["crate::daemon"]),
    ("bfd::wire", SANS_IO),
    ("bfd::fsm", SANS_IO),
    ("bfd::table", SANS_IO),
    ("bgp::fsm", SANS_IO),
    ("bgp::rib", SANS_IO),
    ("evpn", SANS_IO),
    ("core", SANS_IO),
    ("recording", SANS_IO),
    ("bgp::rib", UNSEEDED),
    ("core", UNSEEDED),
    ("evpn", UNSEEDED),
    ("intent", UNSEEDED),
];

/// Bytes and time come in, messages and deadlines go out: nothing here waits, or asks for the time.
const SANS_IO: &[&str] = &["Instant::now", "SystemTime::now", "tokio"];

/// Hash tables whose order does not follow from the process's seed: a recording could not be replayed.
const UNSEEDED: &[&str] = &[
    "foldhash",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::hash::RandomState",
];

/// Reading a clock, however it is written. Times themselves are values like any other.
const CLOCKS: [&str; 2] = ["Instant::now", "SystemTime::now"];

/// What only one module (and the wiring) may see.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("aya", &["dataplane"]),
    ("aya_obj", &["dataplane"]),
    ("netlink_packet_core", &["kernel"]),
    ("netlink_packet_route", &["kernel"]),
    ("netlink_sys", &["kernel"]),
    ("crate::dataplane", &["dataplane", "daemon", "doctor"]),
    ("crate::kernel", &["kernel", "daemon", "doctor"]),
];

#[test]
fn modules_import_only_what_they_may() -> Result<()> {
    let mut broken = Vec::new();
    let mut seen = BTreeSet::new();
    for (module, text) in modules()? {
        let paths = paths_in(&text, &module);
        for path in &paths {
            for forbidden in forbidden_in(&module) {
                if is_within(path, forbidden) {
                    broken.push(format!(
                        "{module} must not see {forbidden}, and uses {path}"
                    ));
                }
            }
        }
        seen.extend(paths);
    }
    ensure!(broken.is_empty(), "\n{}", broken.join("\n"));
    // The scanner works: these are certainly there.
    for known in ["crate::types", "std::net"] {
        ensure!(
            seen.iter().any(|path| is_within(path, known)),
            "{known} was not found"
        );
    }
    Ok(())
}

/// A clock that jumps changes nothing: nobody asks for the time of day but the log's lines, whose
/// timestamps come from elsewhere.
#[test]
fn nobody_asks_for_the_time_of_day() -> Result<()> {
    let mut monotonic = 0;
    for (module, text) in modules()? {
        for path in paths_in(&text, &module) {
            let own = [
                "std::time::SystemTime",
                "std::time::UNIX_EPOCH",
                "SystemTime::now",
            ];
            ensure!(
                !own.iter().any(|clock| is_within(&path, clock)),
                "{module} uses {path}"
            );
            monotonic += usize::from(path == "std::time::Instant");
        }
        for clock in [
            "CLOCK_REALTIME",
            "gettimeofday",
            "libc::time(",
            "SO_TIMESTAMP",
        ] {
            ensure!(!text.contains(clock), "{module} uses {clock}");
        }
    }
    // The scanner works: this is certainly there.
    ensure!(monotonic > 20, "{monotonic}");
    Ok(())
}

/// The scanner itself: groups, nesting, comments, `super`, and paths in expressions.
#[test]
fn paths_are_found() {
    let text = "use std::{net::IpAddr, time::{Duration, Instant}};\n\
                // use tokio::net;\n\
                use super::{wire::Update, *};\n\
                pub(crate) use aya::Ebpf as Programs;\n\
                fn f() { let x = crate::core::Core::new(); }\n\
                fn g() { let now = std::time::Instant::now(); }\n\
                #[cfg(test)]\nmod tests {\n    use crate::evpn::Thing;\n}\n";
    let paths = paths_in(text, "bgp::rib");
    let expected = [
        "Instant::now",
        "aya::Ebpf",
        "crate::bgp::*",
        "crate::bgp::wire::Update",
        "crate::core::Core::new",
        "std::net::IpAddr",
        "std::time::Duration",
        "std::time::Instant",
        "std::time::Instant::now",
    ];
    assert_eq!(
        paths.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
    assert!(is_within("crate::bgp::wire::Update", "crate::bgp"));
    assert!(!is_within("crate::bgpx", "crate::bgp"));
}

/// The agent's modules and their text.
fn modules() -> Result<Vec<(String, String)>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../vtep-agent/src");
    let mut files = Vec::new();
    collect(&source, &mut files)?;
    ensure!(
        files.len() > 20,
        "only {} files below {}",
        files.len(),
        source.display()
    );
    let module = |file: &PathBuf| {
        let module = module_of(file.strip_prefix(&source)?)?;
        Ok((module, fs::read_to_string(file)?))
    };
    files.iter().map(module).collect()
}

fn forbidden_in(module: &str) -> impl Iterator<Item = &'static str> {
    let wiring = ["", "daemon", "main"].contains(&module);
    let within = |outer: &str| module == outer || module.starts_with(&format!("{outer}::"));
    let never = NEVER_SEES.iter().filter(move |(name, _)| within(name));
    let only = ONLY_IN
        .iter()
        .filter(move |(_, owners)| !wiring && !owners.iter().any(|owner| within(owner)));
    let never: Vec<_> = never.flat_map(|(_, paths)| paths.iter().copied()).collect();
    let only: Vec<_> = only.map(|(path, _)| *path).collect();
    never.into_iter().chain(only)
}

fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `bgp/wire/mod.rs` is `bgp::wire`; `lib.rs` is the empty path.
fn module_of(file: &Path) -> Result<String> {
    let parts: Vec<&str> = file
        .iter()
        .map(|part| part.to_str().context("a file name that is not UTF-8"))
        .collect::<Result<_>>()?;
    let path = parts.join("::");
    let path = path.trim_end_matches(".rs");
    Ok(path
        .trim_end_matches("mod")
        .trim_end_matches("::")
        .replace("lib", ""))
}

/// Every path that the code of a module names in `use`, and those from `crate` on anywhere. Tests
/// at the end of a file may see more.
fn paths_in(text: &str, module: &str) -> BTreeSet<String> {
    let code = text
        .split("#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default();
    let code: String = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .map(|line| format!("{line}\n"))
        .collect();
    let mut paths = BTreeSet::new();
    let mut rest = code.as_str();
    while let Some((before, after)) = rest.split_once("use ") {
        rest = after;
        // The keyword, not the end of another word.
        if !before.is_empty() && !before.ends_with([' ', '\n', ')']) {
            continue;
        }
        if let Some((tree, next)) = after.split_once(';') {
            expand("", tree, module, &mut paths);
            rest = next;
        }
    }
    let clocks = CLOCKS.iter().filter(|clock| code.contains(**clock));
    paths.extend(clocks.map(|clock| (*clock).to_owned()));
    for root in ["crate::", "aya::", "tokio::", "std::time::", "std::net::"] {
        for (index, _) in code.match_indices(root) {
            let starts =
                code[..index].ends_with(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            let path = code[index..].split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            if let Some(path) = path
                .into_iter()
                .next()
                .filter(|path| starts && !path.ends_with("::"))
            {
                paths.insert(path.to_owned());
            }
        }
    }
    paths
}

/// Adds the paths of a `use` tree.
fn expand(prefix: &str, tree: &str, module: &str, paths: &mut BTreeSet<String>) {
    let tree = tree.trim();
    match tree.split_once('{') {
        Some((head, group)) => {
            let prefix = format!("{prefix}{}", head.trim());
            let group = group.trim_end().strip_suffix('}').unwrap_or(group);
            for part in split_group(group) {
                expand(&prefix, part, module, paths);
            }
        }
        None => {
            let path = tree.split(" as ").next().unwrap_or_default().trim();
            if !path.is_empty() {
                paths.insert(absolute(&format!("{prefix}{path}"), module));
            }
        }
    }
}

/// The parts of a group, split at commas that are not in an inner group.
fn split_group(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&group[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts
}

/// Resolves `self` and `super` against the module.
fn absolute(path: &str, module: &str) -> String {
    let mut here: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest: Vec<&str> = path.split("::").collect();
    let relative = matches!(rest.first(), Some(&"self" | &"super"));
    while let Some(first @ ("self" | "super")) = rest.first().copied() {
        if first == "super" {
            here.pop();
        }
        rest.remove(0);
    }
    if relative {
        ["crate"]
            .into_iter()
            .chain(here)
            .chain(rest)
            .collect::<Vec<_>>()
            .join("::")
    } else {
        path.to_owned()
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        // Tests may see more.
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}
