//! A report beside an earlier one.

use serde_json::Value;

use crate::rig::Variant;

/// Prints the ratios to the kernel of both, and how they changed. Ratios, not figures: machines and
/// days differ, and the kernel was measured on both.
pub(crate) fn print(before: &Value, now: &Value) {
    let [_, xdp, tc, _] = Variant::ALL.map(Variant::name);
    println!(
        "\n{:<4}{:<27}{:<10}{:>24}{:>24}",
        "row", "earlier → now", "setup", xdp, tc
    );
    for line in lines(now) {
        let same = |other: &&Value| {
            ["row", "what", "setup"].map(|key| other[key] == line[key]) == [true; 3]
        };
        let Some(earlier) = lines(before).find(same) else {
            continue;
        };
        let cell = |variant: Variant| {
            let ratio = |line: &Value| line["variants"][variant.name()]["ratio"].as_f64();
            match (ratio(earlier), ratio(line)) {
                (Some(earlier), Some(now)) => {
                    let change = (now / earlier - 1.0) * 100.0;
                    format!("{earlier:.2}x → {now:.2}x {change:+.0}%")
                }
                _ => "-".to_owned(),
            }
        };
        println!(
            "{:<4}{:<27}{:<10}{:>24}{:>24}",
            line["row"].to_string(),
            line["what"].as_str().unwrap_or_default(),
            line["setup"].as_str().unwrap_or_default(),
            cell(Variant::Xdp),
            cell(Variant::Tc)
        );
    }
}

fn lines(report: &Value) -> impl Iterator<Item = &Value> {
    report["lines"].as_array().into_iter().flatten()
}
