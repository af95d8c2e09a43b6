//! Medians, ratios, and the table.

use std::{fs, thread};

use anyhow::Result;
use serde_json::json;

use crate::{
    rig::Variant,
    rows::{Better, Value},
};

/// A line of the table: one number of one row, for every variant.
#[derive(Debug)]
pub(crate) struct Line {
    row: usize,
    setup: &'static str,
    what: &'static str,
    unit: &'static str,
    better: Better,
    /// One list for each of [`Variant::ALL`].
    samples: [Vec<f64>; 4],
}

/// All lines so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Adds what one measurement gave.
    pub(crate) fn add(
        &mut self,
        row: usize,
        setup: &'static str,
        variant: Variant,
        values: &[Value],
    ) {
        for value in values {
            let known = self
                .lines
                .iter()
                .position(|line| (line.row, line.setup, line.what) == (row, setup, value.what));
            let index = known.unwrap_or_else(|| {
                self.lines.push(Line {
                    row,
                    setup,
                    what: value.what,
                    unit: value.unit,
                    better: value.better,
                    samples: Default::default(),
                });
                self.lines.len() - 1
            });
            if let Some(samples) = self
                .lines
                .get_mut(index)
                .and_then(|line| line.samples.get_mut(variant as usize))
            {
                samples.push(value.value);
            }
        }
    }

    /// Prints the table: medians with their spread, and ratios to the kernel.
    pub(crate) fn print(&self) {
        let [kernel, xdp, tc, raw] = Variant::ALL.map(Variant::name);
        println!(
            "\n{:<4}{:<27}{:<10}{:<10}{kernel:>17}{xdp:>17}{tc:>17}{raw:>17}{:>9}{:>9}",
            "row", "what", "setup", "unit", "xdp/k", "tc/k"
        );
        for line in &self.lines {
            let [kernel, xdp, tc, raw] = line.samples.each_ref().map(|samples| cell(samples));
            let ratio = |variant| {
                line.ratio(variant)
                    .map_or_else(String::new, |ratio| format!("{ratio:.2}x"))
            };
            println!(
                "{:<4}{:<27}{:<10}{:<10}{kernel:>17}{xdp:>17}{tc:>17}{raw:>17}{:>9}{:>9}",
                line.row,
                line.what,
                line.setup,
                line.unit,
                ratio(Variant::Xdp),
                ratio(Variant::Tc)
            );
        }
        println!(
            "\nmedian ±half the interquartile range; ratios of medians, above 1 is better than the \
             kernel's bridge and vxlan"
        );
    }

    /// Everything, every sample included, and where it was measured; `control` is what [`crate::control`] gave.
    pub(crate) fn json(&self, control: Option<serde_json::Value>) -> Result<serde_json::Value> {
        Ok(json!({
            "kernel": fs::read_to_string("/proc/sys/kernel/osrelease")?.trim_end(),
            "processors": thread::available_parallelism()?.get(),
            "lines": self.lines.iter().map(Line::json).collect::<Vec<_>>(),
            "control": control,
        }))
    }
}

impl Line {
    /// How many times better than the kernel a variant is, by medians.
    fn ratio(&self, variant: Variant) -> Option<f64> {
        let value = quantile(self.samples.get(variant as usize)?, 0.5)?;
        let kernel = quantile(self.samples.first()?, 0.5)?;
        Some(match self.better {
            Better::More => value / kernel,
            Better::Less => kernel / value,
        })
    }

    fn json(&self) -> serde_json::Value {
        let variants = Variant::ALL.iter().zip(&self.samples);
        let variants = variants.map(|(variant, samples)| {
            let of = |share| quantile(samples, share);
            let value = json!({
                "samples": samples,
                "median": of(0.5),
                "quartiles": [of(0.25), of(0.75)],
                "ratio": self.ratio(*variant),
            });
            (variant.name().to_owned(), value)
        });
        json!({
            "row": self.row,
            "what": self.what.trim(),
            "setup": self.setup,
            "unit": self.unit,
            "more_is_better": self.better == Better::More,
            "variants": variants.collect::<serde_json::Map<_, _>>(),
        })
    }
}

fn cell(samples: &[f64]) -> String {
    match (
        quantile(samples, 0.25),
        quantile(samples, 0.5),
        quantile(samples, 0.75),
    ) {
        (Some(low), Some(median), Some(high)) => {
            format!("{median:.2} ±{:.0}%", (high - low) / 2.0 / median * 100.0)
        }
        _ => "-".to_owned(),
    }
}

/// By linear interpolation between the samples around it.
pub(crate) fn quantile(samples: &[f64], share: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (place.floor(), place.ceil());
    let (a, b) = (sorted.get(low as usize)?, sorted.get(high as usize)?);
    Some(a + (b - a) * (place - low))
}
