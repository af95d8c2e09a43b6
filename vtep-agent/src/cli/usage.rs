/// What clap has to say, on one line: `problem; tip; usage`.
pub(super) fn one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let paragraphs: Vec<_> = rendered
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.starts_with("For more information"))
        .map(|paragraph| paragraph.replace("Usage:", "usage:"))
        .collect();
    let text = paragraphs.join("; ");
    text.strip_prefix("error: ").unwrap_or(&text).to_owned()
}
