//! From the rows of the table to one HTML page with inline SVG: nothing is loaded from anywhere, and no script runs. The page is
//! also well-formed XML.

use std::fmt::Write;

use crate::report::{FLOORS, Line, OWN, Verdict, number};

/// One page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Machine, rounds and settings, a paragraph each.
    pub(crate) circumstances: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// What could not be measured, and what to know of a product.
    pub(crate) notes: Vec<String>,
}

/// One row of the table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    /// Rows of the same group stand below one heading.
    group: String,
    /// What is measured, with the unit.
    title: String,
    bars: Vec<Bar>,
    /// The highest value of Bowline's that meets every bar.
    limit: Option<f64>,
    /// What became of the bars, one sentence each.
    verdicts: Vec<String>,
    /// What ratios are of: the best peer's value.
    reference: Option<f64>,
}

/// One product in a row, with median, lowest and highest value in the row's unit, or the reason why there are none.
#[derive(Clone, Debug)]
struct Bar {
    product: String,
    value: Result<[f64; 3], String>,
}

impl Row {
    /// `products`: the names of the line's cells.
    pub(crate) fn new(line: &Line<'_>, products: &[&str]) -> Self {
        let bars = line.cells.iter().zip(products).filter_map(|(cell, product)| {
            let value = match (cell.spread(), cell.void()) {
                (Some(spread), _) => Ok(spread),
                (None, Some(reason)) => Err(format!("void: {reason}")),
                (None, None) if cell.is_unable() => Err("cannot do it".to_owned()),
                (None, None) => return None,
            };
            Some(Bar { product: (*product).to_owned(), value })
        });
        let verdict = |text: &str, verdict: &Verdict| match verdict {
            Verdict::Pass => format!("{text}: pass"),
            Verdict::Fail => format!("{text}: FAIL"),
            Verdict::Open(reason) => format!("{text}: open, {reason}"),
        };
        Self {
            group: line.group.to_owned(),
            title: line.title.clone(),
            bars: bars.collect(),
            limit: line.judgements.iter().filter_map(|judgement| judgement.limit).reduce(f64::min),
            verdicts: line.judgements.iter().map(|judgement| verdict(&judgement.text, &judgement.verdict)).collect(),
            reference: line.best.map(|(value, _)| value),
        }
    }
}

/// Pixels, which the browser scales to the width of the page.
const WIDTH: f64 = 900.0;
const NAMES: f64 = 110.0;
const LABELS: f64 = 230.0;
const PLOT: f64 = WIDTH - NAMES - LABELS;
const LINE: f64 = 24.0;
const THICKNESS: f64 = 14.0;
/// Above the bars, for the number at the limit.
const HEAD: f64 = 18.0;

const STYLE: &str = "\
:root { color-scheme: light dark; --text: #1b1f24; --faint: #5c6670; --page: #ffffff; --own: #0b62c4; --peer: #9aa7b4; --floor: #c9a227; --limit: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ec; --faint: #9aa4ae; --page: #15181c; --own: #62a8ff; --peer: #66727e; --floor: #a9882a; --limit: #ff8a80; } }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: var(--text); background: var(--page); }
h2 { margin: 1.6em 0 0; } h2::first-letter { text-transform: uppercase; }
h3 { font-size: 1em; margin: 1.4em 0 0.2em; }
h3 span, p { color: var(--faint); font-weight: normal; }
svg { width: 100%; height: auto; display: block; }
text { font: 13px system-ui, sans-serif; fill: var(--text); paint-order: stroke; stroke: var(--page); stroke-width: 4px; }
.peer { fill: var(--peer); } .own { fill: var(--own); } .floor { fill: var(--floor); }
.spread { stroke: var(--text); stroke-width: 1.5; }
.limit { stroke: var(--limit); stroke-width: 1.5; stroke-dasharray: 4 3; } text.limit { fill: var(--limit); stroke: none; stroke-dasharray: none; }
";

/// The page as text.
pub(crate) fn html(page: &Page) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width\"/>\n<title>Bowline beside its peers</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<h1>Bowline beside its peers</h1>\n"
    );
    let paragraphs = |out: &mut String, texts: &[String]| {
        for text in texts {
            _ = writeln!(out, "<p>{}</p>", escape(text));
        }
    };
    paragraphs(&mut out, &page.circumstances);
    out.push_str(
        "<p>A bar is the median of the rounds, the thin line goes from the lowest to the highest; less is better. Behind each \
         value stands its ratio to the best peer's. The dashed line is the bar that Bowline has to stay below.</p>\n",
    );
    let mut group = "";
    for row in &page.rows {
        if row.group != group {
            group = &row.group;
            _ = writeln!(out, "<h2>{}</h2>", escape(group));
        }
        _ = writeln!(out, "<h3>{} <span>{}</span></h3>", escape(&row.title), escape(&row.verdicts.join("; ")));
        out.push_str(&svg(row));
    }
    paragraphs(&mut out, &page.notes);
    out.push_str("</body>\n</html>\n");
    out
}

fn svg(row: &Row) -> String {
    let highest = row.bars.iter().filter_map(|bar| bar.value.as_ref().ok().map(|[.., highest]| *highest));
    let largest = highest.chain(row.limit).fold(0.0, f64::max);
    // Nothing is drawn to the left of zero: the label tells the number.
    let x = |value: f64| NAMES + if largest > 0.0 { value.max(0.0) / largest * PLOT } else { 0.0 };
    let height = HEAD + LINE * row.bars.len() as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">\n",
        escape(&row.title)
    );
    // Below all text.
    if let Some(limit) = row.limit {
        let (at, label) = (x(limit), number(limit));
        _ = writeln!(out, "<path class=\"limit\" d=\"M{at:.1} {:.1}V{height:.1}\"/>", HEAD - 4.0);
        _ = writeln!(out, "<text class=\"limit\" x=\"{at:.1}\" y=\"11\" text-anchor=\"middle\">≤ {label}</text>");
    }
    for (index, Bar { product, value }) in row.bars.iter().enumerate() {
        let top = HEAD + LINE * index as f64;
        let (middle, base) = (top + THICKNESS / 2.0, top + THICKNESS - 2.5);
        let (end, label) = match value {
            Ok([median, lowest, highest]) => {
                let class = match product.as_str() {
                    OWN => "own",
                    name if FLOORS.contains(&name) => "floor",
                    _ => "peer",
                };
                let width = x(*median) - NAMES;
                _ = writeln!(
                    out,
                    "<rect class=\"{class}\" x=\"{NAMES:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{THICKNESS:.1}\"/>"
                );
                if lowest < highest {
                    let ([left, right], whisker) = ([x(*lowest), x(*highest)], middle - 4.0);
                    _ = writeln!(
                        out,
                        "<path class=\"spread\" d=\"M{left:.1} {middle:.1}H{right:.1}M{left:.1} {whisker:.1}v8M{right:.1} {whisker:.1}v8\"/>"
                    );
                }
                let ratio = row.reference.filter(|reference| *reference > 0.0);
                let ratio = ratio.map_or(String::new(), |reference| format!(" · {:.2}", median / reference));
                (x(*highest), format!("{}{ratio}", number(*median)))
            }
            Err(reason) => (NAMES, reason.clone()),
        };
        let (left, right) = (NAMES - 8.0, end + 8.0);
        _ = writeln!(out, "<text x=\"{left:.1}\" y=\"{base:.1}\" text-anchor=\"end\">{}</text>", escape(product));
        _ = writeln!(out, "<text x=\"{right:.1}\" y=\"{base:.1}\">{}</text>", escape(&label));
    }
    out.push_str("</svg>\n");
    out
}

/// For text and for attributes in double quotes. What XML does not allow at all becomes a replacement character.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            control if control.is_control() && !matches!(control, '\n' | '\t') => out.push(char::REPLACEMENT_CHARACTER),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(product: &str, lowest: f64, median: f64, highest: f64) -> Bar {
        Bar { product: product.to_owned(), value: Ok([median, lowest, highest]) }
    }

    fn once(product: &str, value: f64) -> Bar {
        bar(product, value, value, value)
    }

    fn row(bars: Vec<Bar>) -> Row {
        Row { title: "CPU, µs".to_owned(), bars, ..Row::default() }
    }

    #[test]
    fn bars_are_as_long_as_their_share_of_the_longest() {
        let drawing = svg(&row(vec![once("bowline", 25.0), bar("hitch", 40.0, 50.0, 100.0)]));
        let rectangle = |class: &str, y: f64, width: f64| {
            format!("class=\"{class}\" x=\"{NAMES:.1}\" y=\"{y:.1}\" width=\"{width:.1}\"")
        };
        assert!(drawing.contains(&rectangle("own", HEAD, PLOT / 4.0)), "{drawing}");
        assert!(drawing.contains(&rectangle("peer", HEAD + LINE, PLOT / 2.0)), "{drawing}");
        // One round has no spread.
        assert_eq!(drawing.matches("class=\"spread\"").count(), 1);
        assert!(drawing.contains(&format!("H{:.1}", NAMES + PLOT)), "{drawing}");
    }

    #[test]
    fn the_limit_is_a_line_within_the_drawing_even_if_all_are_below_it() {
        let drawing = svg(&Row { limit: Some(80.0), ..row(vec![once("bowline", 20.0)]) });
        assert!(drawing.contains(&format!("class=\"limit\" d=\"M{:.1} ", NAMES + PLOT)), "{drawing}");
        assert!(drawing.contains("≤ 80.0"), "{drawing}");
        assert!(!svg(&row(vec![once("bowline", 20.0)])).contains("limit"));
    }

    #[test]
    fn ratios_are_of_the_best_peer() {
        let bars = vec![once("bowline", 45.0), once("hitch", 100.0)];
        let drawing = svg(&Row { reference: Some(100.0), ..row(bars.clone()) });
        assert!(drawing.contains(">45.0 · 0.45<") && drawing.contains(">100 · 1.00<"), "{drawing}");
        assert!(svg(&row(bars)).contains(">45.0<"));
    }

    #[test]
    fn nothing_and_less_than_nothing_have_no_length() {
        let drawing = svg(&row(vec![once("bowline", 0.0), bar("hitch", -4.0, -3.0, -2.0)]));
        assert_eq!(drawing.matches("width=\"0.0\"").count(), 2, "{drawing}");
        assert!(drawing.contains(">-3.00<") && !drawing.contains("NaN"), "{drawing}");
    }

    #[test]
    fn a_value_that_is_missing_has_its_reason_instead() {
        let drawing = svg(&row(vec![Bar { product: "hitch".to_owned(), value: Err("3 errors".to_owned()) }]));
        assert!(drawing.contains(">3 errors<") && !drawing.contains("<rect"), "{drawing}");
    }

    #[test]
    fn text_cannot_become_markup() {
        let hostile = "</svg><script>\"&\u{1b}".to_owned();
        let safe = "&lt;/svg&gt;&lt;script&gt;&quot;&amp;\u{fffd}";
        let page = html(&Page {
            circumstances: vec![hostile.clone()],
            rows: vec![Row {
                group: hostile.clone(),
                title: hostile.clone(),
                verdicts: vec![hostile.clone()],
                bars: vec![once(&hostile, 1.0), Bar { product: "x".to_owned(), value: Err(hostile.clone()) }],
                ..Row::default()
            }],
            notes: vec![hostile.clone()],
        });
        assert!(!page.contains("<script") && !page.contains('\u{1b}'));
        // The title is also what the drawing is called.
        assert_eq!(page.matches(safe).count(), 8);
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = html(&Page { rows: vec![row(vec![once("bowline", 1.0)])], ..Page::default() });
        let own = page.replace("http://www.w3.org/1999/xhtml", "").replace("http://www.w3.org/2000/svg", "");
        assert!(
            !["http:", "https:", "src=", "url(", "@import", "<script"].iter().any(|word| own.contains(word)),
            "{own}"
        );
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
