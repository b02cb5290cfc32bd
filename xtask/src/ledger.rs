//! The ledger (`docs/contract.md`): every item once, every place that it names there, and its
//! counts true.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The items and the resolutions of their contradictions, which are named `C1` and on.
const ITEMS: usize = 349;
const RESOLUTIONS: usize = 64;

/// What the right column begins with when nothing shows an item.
const NOT_YET: &str = "not yet";

/// The folders whose files show something.
const FOLDERS: &[&str] = &[
    "bench/",
    "crates/",
    "deploy/",
    "docs/",
    "examples/",
    "ml_deployment/",
    "python/",
    "scripts/",
    "tests/",
];

/// A row: the item's name, and what shows it.
type Row<'l> = (&'l str, &'l str);

/// All faults of the ledger, one sentence each.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let ledger = fs::read_to_string(root.join("docs/contract.md"));
    let ledger = ledger.context("reading docs/contract.md")?;
    let rows: Vec<Row<'_>> = ledger.lines().filter_map(row).collect();
    let mut faults = order_faults(&rows);
    for (name, shown) in &rows {
        let missing = places(shown).filter(|place| !is_there(root, place));
        faults
            .extend(missing.map(|place| format!("item {name} names {place}, which is not there")));
    }
    let counts = counts(&rows);
    if !ledger.lines().any(|line| line == counts) {
        faults.push(format!(
            "the counts of docs/contract.md are not those of its rows; write: {counts}"
        ));
    }
    Ok(faults)
}

fn row(line: &str) -> Option<Row<'_>> {
    let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
    let (name, rest) = cells.split_once(" | ")?;
    let (_, shown) = rest.rsplit_once(" | ")?;
    let number = name.strip_prefix('C').unwrap_or(name);
    number.parse::<usize>().ok()?;
    Some((name, shown))
}

fn order_faults(rows: &[Row<'_>]) -> Vec<String> {
    let expected = (1..=ITEMS).map(|n| n.to_string());
    let expected = expected.chain((1..=RESOLUTIONS).map(|n| format!("C{n}")));
    let wrong = expected.filter(|name| rows.iter().filter(|(n, _)| n == name).count() != 1);
    wrong
        .map(|name| format!("docs/contract.md must have item {name} once"))
        .collect()
}

/// The files and folders that a cell names; of a pattern, the folder before it.
fn places(shown: &str) -> impl Iterator<Item = &str> {
    let words = shown.split(|c: char| c.is_whitespace() || "(),;:".contains(c));
    words
        .map(|word| word.trim_start_matches("./").trim_end_matches('.'))
        .filter(|word| FOLDERS.iter().any(|folder| word.starts_with(folder)))
        .map(|word| word.split('*').next().unwrap_or(word))
}

/// Whether a file or folder exists, and of `FILE#SECTION` the heading too.
fn is_there(root: &Path, place: &str) -> bool {
    let Some((file, section)) = place.split_once('#') else {
        return root.join(place).exists();
    };
    let text = fs::read_to_string(root.join(file)).unwrap_or_default();
    let mut headings = text.lines().filter(|line| line.starts_with('#'));
    headings.any(|heading| anchor(heading.trim_start_matches('#').trim()) == section)
}

/// The name by which pages link to a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c })
        .collect::<String>()
        .to_lowercase()
}

/// The sentence that counts the rows.
fn counts(rows: &[Row<'_>]) -> String {
    let is_resolution = |(name, _): &Row<'_>| name.starts_with('C');
    let missing = |of: &[Row<'_>]| of.iter().filter(|r| r.1.starts_with(NOT_YET)).count();
    let (resolutions, items): (Vec<_>, Vec<_>) = rows.iter().copied().partition(is_resolution);
    let part = items.iter().filter(|r| r.1.contains(NOT_YET)).count() - missing(&items);
    format!(
        "Of {} items {} are shown ({part} of these only in part), {} are not yet. \
         Of {} resolutions {} are shown.",
        items.len(),
        items.len() - missing(&items),
        missing(&items),
        resolutions.len(),
        resolutions.len() - missing(&resolutions),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ledger_is_true() {
        let faults = check(Path::new(crate::tidy::ROOT)).unwrap();
        assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn rows_are_counted_and_their_places_found() {
        let text = [
            "| # | promise | shown by |",
            "| 1 | One. | ./scripts/test; crates/*/tests/it (both), docs/a.md. |",
            "| 2 | Two | or three. | tests/a.py; the rest not yet |",
            "| 3 | Four. | not yet |",
            "| C1 | -> 1 | not yet (later) |",
        ];
        let rows: Vec<Row<'_>> = text.into_iter().filter_map(row).collect();
        let found: Vec<&str> = places(rows[0].1).collect();
        assert_eq!(found, ["scripts/test", "crates/", "docs/a.md"]);
        assert_eq!(anchor("What's there, and where?"), "whats-there-and-where");
        assert_eq!(
            counts(&rows),
            "Of 3 items 2 are shown (1 of these only in part), 1 are not yet. \
             Of 1 resolutions 0 are shown."
        );
        assert_eq!(order_faults(&rows).len(), ITEMS - 3 + RESOLUTIONS - 1);
    }
}
