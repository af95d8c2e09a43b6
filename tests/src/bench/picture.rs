//! The ratios of a report as a picture.

use std::fmt::Write as _;

use serde_json::Value;

use crate::rig::Variant;

const WIDTH: f64 = 860.0;
/// Where names end and bars begin.
const LEFT: f64 = 330.0;
const BAR: f64 = 9.0;
const LINE: f64 = 27.0;
const TOP: f64 = 62.0;
/// Colours that are told apart on white and on black, and without seeing red.
const COLOURS: [(&str, &str); 2] = [("vtep xdp", "#2f7ed8"), ("vtep tc", "#e0902b")];

/// One line for each row that vtep and the kernel have, a bar for each way of vtep; longer is better.
pub(crate) fn svg(report: &Value) -> String {
    let lines = report["lines"].as_array().into_iter().flatten();
    let lines: Vec<_> = lines.filter_map(Line::read).collect();
    let bars = lines.iter().flat_map(|line| line.ratios);
    let longest = bars.flatten().fold(1.0, f64::max);
    let scale = (WIDTH - LEFT - 70.0) / longest;
    let height = TOP + LINE * lines.len() as f64 + 16.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"#888\">\n\
         <text x=\"8\" y=\"20\" font-size=\"15\">times the kernel's bridge and vxlan; longer is \
         better</text>\n"
    );
    // Writing into a String cannot fail.
    for (index, (name, colour)) in COLOURS.into_iter().enumerate() {
        let x = LEFT + 110.0 * index as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"34\" width=\"12\" height=\"{BAR}\" fill=\"{colour}\"/>\
             <text x=\"{}\" y=\"43\">{name}</text>",
            x + 18.0
        );
    }
    let one = LEFT + scale;
    let _ = writeln!(
        svg,
        "<line x1=\"{one:.1}\" y1=\"{}\" x2=\"{one:.1}\" y2=\"{}\" stroke=\"#888\" \
         stroke-dasharray=\"4 3\"/>",
        TOP - 8.0,
        height - 10.0
    );
    for (index, line) in lines.iter().enumerate() {
        let y = TOP + LINE * index as f64;
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 10.0,
            y + BAR + 4.0,
            escape(&line.name)
        );
        for (bar, ratio) in line.ratios.into_iter().enumerate() {
            let (Some(ratio), Some((_, colour))) = (ratio, COLOURS.get(bar)) else {
                continue;
            };
            let y = y + (BAR + 2.0) * bar as f64;
            let width = ratio * scale;
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" \
                 fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\" font-size=\"10\">{ratio:.2}</text>",
                LEFT + width + 5.0,
                y + BAR
            );
        }
    }
    svg + "</svg>\n"
}

struct Line {
    name: String,
    /// Those of [`COLOURS`].
    ratios: [Option<f64>; 2],
}

impl Line {
    /// `None` for what has nothing to be compared with.
    fn read(line: &Value) -> Option<Self> {
        let ratio = |variant: Variant| line["variants"][variant.name()]["ratio"].as_f64();
        let ratios = [Variant::Xdp, Variant::Tc].map(ratio);
        ratios.iter().any(Option::is_some).then(|| Self {
            name: format!(
                "{} {}, {}",
                line["row"],
                line["what"].as_str().unwrap_or_default(),
                line["setup"].as_str().unwrap_or_default()
            ),
            ratios,
        })
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
