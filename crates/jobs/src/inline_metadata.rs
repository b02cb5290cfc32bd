//! The `# /// script` block of a script (PEP 723): its dependencies and its Python.

use serde::Deserialize;

/// What a script says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct InlineMetadata {
    #[serde(default)]
    pub(crate) dependencies: Option<Vec<String>>,
    #[serde(default, rename = "requires-python")]
    pub(crate) requires_python: Option<String>,
}

/// Reads the block; `None` when there is none.
///
/// # Errors
/// A sentence when the block is there and cannot be read.
pub(crate) fn read(script: &str) -> Result<Option<InlineMetadata>, String> {
    let mut blocks = Vec::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        if line.trim_end() != "# /// script" {
            continue;
        }
        let mut content = String::new();
        let mut closed = false;
        for line in lines.by_ref() {
            if line.trim_end() == "# ///" {
                closed = true;
                break;
            }
            match line.strip_prefix('#') {
                Some(rest) => content.push_str(rest.strip_prefix(' ').unwrap_or(rest)),
                None => break,
            }
            content.push('\n');
        }
        if closed {
            blocks.push(content);
        }
    }
    match blocks.as_slice() {
        [] => Ok(None),
        [block] => toml::from_str(block).map(Some).map_err(|error| {
            format!(
                "the script's inline metadata is not TOML: {}",
                error.message()
            )
        }),
        _ => Err("the script has more than one `# /// script` block".to_owned()),
    }
}

/// The Python version that `requires-python` asks for, where one specifier settles it:
/// `==3.11.*`, `~=3.11`, `>=3.12,<3.13`.
pub(crate) fn python_of(requires: &str, known: &[&str]) -> Option<String> {
    let specifiers: Vec<(&str, Vec<u32>)> = requires
        .split(',')
        .filter_map(|part| {
            let part = part.trim();
            let split = part.find(|c: char| c.is_ascii_digit())?;
            let (operator, version) = part.split_at(split);
            let numbers = version
                .trim_end_matches(".*")
                .split('.')
                .map_while(|n| n.parse().ok())
                .collect();
            Some((operator.trim(), numbers))
        })
        .collect();
    known
        .iter()
        .find(|version| {
            let candidate: Vec<u32> = version.split('.').filter_map(|n| n.parse().ok()).collect();
            specifiers
                .iter()
                .all(|(operator, bound)| allows(operator, bound, &candidate))
        })
        .map(|version| (*version).to_owned())
}

/// Whether the minor version `candidate` can satisfy one specifier.
fn allows(operator: &str, bound: &[u32], candidate: &[u32]) -> bool {
    let minor: Vec<u32> = bound.iter().copied().take(2).collect();
    match operator {
        ">=" | "~=" if operator == ">=" || bound.len() == 2 => candidate >= minor.as_slice(),
        "==" | "~=" => candidate == minor.as_slice(),
        ">" => candidate > minor.as_slice() || bound.len() > 2 && candidate == minor.as_slice(),
        "<" => {
            candidate < minor.as_slice()
                || bound.len() > 2 && bound[2] > 0 && candidate == minor.as_slice()
        }
        "<=" => candidate <= minor.as_slice(),
        "!=" => bound.len() > 2 || candidate != minor.as_slice(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "#!/usr/bin/env python\n# /// script\n# requires-python = \">=3.11\"\n# dependencies = [\n#   \"scikit-learn==1.5.0\",\n#   \"rich\",\n# ]\n# ///\nimport rich\n";

    #[test]
    fn the_block_is_read() {
        let metadata = read(SCRIPT).unwrap().unwrap();
        assert_eq!(
            metadata.dependencies.unwrap(),
            ["scikit-learn==1.5.0", "rich"]
        );
        assert_eq!(metadata.requires_python.as_deref(), Some(">=3.11"));
    }

    #[test]
    fn a_script_without_a_block_says_nothing() {
        assert_eq!(read("import os\n# ///\n"), Ok(None));
        assert_eq!(read("# /// script\n# dependencies = []\n"), Ok(None));
    }

    #[test]
    fn a_broken_block_is_told() {
        assert!(read("# /// script\n# dependencies = [\n# ///\n").is_err());
    }

    #[test]
    fn the_python_is_chosen_by_the_specifier() {
        let known = ["3.11", "3.12", "3.10", "3.13"];
        let choose = |requires| python_of(requires, &known);
        assert_eq!(choose(">=3.11").as_deref(), Some("3.11"));
        assert_eq!(choose(">=3.12").as_deref(), Some("3.12"));
        assert_eq!(choose("==3.13.*").as_deref(), Some("3.13"));
        assert_eq!(choose(">=3.10,<3.11").as_deref(), Some("3.10"));
        assert_eq!(choose("~=3.12").as_deref(), Some("3.12"));
        assert_eq!(choose("<3.9"), None);
    }
}
