//! Reading a GraphQL document into the fields that are asked for, within limits: a document of a
//! few bytes can ask for very much (CVE-2025-0453).

use async_graphql_parser::types::{
    DocumentOperations, ExecutableDocument, FragmentDefinition, OperationDefinition, OperationType,
    Selection, SelectionSet,
};
use async_graphql_parser::{Positioned, parse_query};
use async_graphql_value::{ConstValue, Name, Value as Argument};
use serde_json::{Map, Value};

/// The longest document; MLflow's page sends less than 2 KiB.
const MAX_BYTES: usize = 64 * 1024;

/// How deep brackets may stand in each other, before the document is read at all.
const MAX_NESTING: usize = 64;

/// MLflow's own limits (`graphql_no_batching.py`).
const MAX_DEPTH: usize = 10;
const MAX_SELECTIONS: usize = 1_000;
const MAX_ROOT_FIELDS: usize = 10;
const MAX_ALIASES: usize = 10;

/// A field that is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    /// Its alias, else its name.
    pub(super) key: String,
    pub(super) arguments: Map<String, Value>,
    pub(super) fields: Vec<Field>,
}

/// The root fields of an operation, with its variables filled in and its fragments spread.
///
/// # Errors
/// A message for the caller: what cannot be read, or is beyond a limit.
pub(super) fn read(
    query: &str,
    operation_name: Option<&str>,
    variables: &Map<String, Value>,
) -> Result<Vec<Field>, String> {
    if query.len() > MAX_BYTES {
        return Err(format!("Query exceeds maximum length of {MAX_BYTES} bytes"));
    }
    check_nesting(query)?;
    let document = parse_query(query).map_err(|error| format!("Syntax Error: {error}"))?;
    let operation = operation(&document, operation_name)?;
    if operation.ty == OperationType::Subscription {
        return Err("Subscriptions are not supported.".to_owned());
    }
    let mut reader = Reader {
        document: &document,
        variables: with_defaults(operation, variables),
        selections: 0,
    };
    let fields = reader.fields(&operation.selection_set.node, 1)?;
    if fields.len() > MAX_ROOT_FIELDS {
        return Err(too_many("root fields", MAX_ROOT_FIELDS, fields.len()));
    }
    Ok(fields)
}

/// The parser goes as deep as the document does; so this comes first.
fn check_nesting(query: &str) -> Result<(), String> {
    let mut depth = 0_usize;
    for byte in query.bytes() {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Err(too_deep());
        }
    }
    Ok(())
}

fn too_deep() -> String {
    format!("Query exceeds maximum depth of {MAX_DEPTH}")
}

fn too_many(what: &str, most: usize, got: usize) -> String {
    format!("GraphQL queries should have at most {most} {what}, got {got} {what}.")
}

fn operation<'d>(
    document: &'d ExecutableDocument,
    name: Option<&str>,
) -> Result<&'d OperationDefinition, String> {
    match (&document.operations, name.filter(|name| !name.is_empty())) {
        (DocumentOperations::Single(only), _) => Ok(&only.node),
        (DocumentOperations::Multiple(several), Some(name)) => several
            .get(name)
            .map(|operation| &operation.node)
            .ok_or_else(|| format!("Unknown operation named '{name}'.")),
        (DocumentOperations::Multiple(several), None) => {
            let mut several = several.values();
            match (several.next(), several.next()) {
                (Some(only), None) => Ok(&only.node),
                _ => Err(
                    "Must provide operation name if query contains multiple operations.".to_owned(),
                ),
            }
        }
    }
}

fn with_defaults(
    operation: &OperationDefinition,
    given: &Map<String, Value>,
) -> Map<String, Value> {
    let mut variables = Map::new();
    for definition in &operation.variable_definitions {
        let name = definition.node.name.node.as_str();
        let default = || {
            let default = definition.node.default_value.as_ref()?;
            default.node.clone().into_json().ok()
        };
        let value = given.get(name).cloned().or_else(default);
        variables.insert(name.to_owned(), value.unwrap_or_default());
    }
    variables
}

struct Reader<'d> {
    document: &'d ExecutableDocument,
    variables: Map<String, Value>,
    selections: usize,
}

impl<'d> Reader<'d> {
    fn fields(&mut self, set: &'d SelectionSet, depth: usize) -> Result<Vec<Field>, String> {
        let mut fields = Vec::new();
        self.collect(set, depth, 0, &mut fields)?;
        let aliases = fields
            .iter()
            .filter(|field| field.key != field.name)
            .count();
        if aliases > MAX_ALIASES && depth > 1 {
            return Err(too_many("aliases", MAX_ALIASES, aliases));
        }
        Ok(fields)
    }

    /// Adds the fields of a selection set, those of its fragments included. `spread` counts the
    /// fragments around: one that holds itself has no end.
    fn collect(
        &mut self,
        set: &'d SelectionSet,
        depth: usize,
        spread: usize,
        fields: &mut Vec<Field>,
    ) -> Result<(), String> {
        if depth > MAX_DEPTH || spread > MAX_DEPTH {
            return Err(too_deep());
        }
        for item in &set.items {
            self.selections += 1;
            if self.selections > MAX_SELECTIONS {
                return Err(format!(
                    "Query exceeds maximum total selections of {MAX_SELECTIONS}"
                ));
            }
            match &item.node {
                Selection::Field(field) => fields.push(self.field(&field.node, depth)?),
                Selection::InlineFragment(inline) => {
                    let inner = &inline.node.selection_set.node;
                    self.collect(inner, depth, spread + 1, fields)?;
                }
                Selection::FragmentSpread(named) => {
                    let fragment = self.fragment(&named.node.fragment_name.node)?;
                    self.collect(&fragment.selection_set.node, depth, spread + 1, fields)?;
                }
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        field: &'d async_graphql_parser::types::Field,
        depth: usize,
    ) -> Result<Field, String> {
        let name = field.name.node.to_string();
        let alias = field.alias.as_ref().map(|alias| alias.node.to_string());
        let arguments = field
            .arguments
            .iter()
            .map(|(name, value)| Ok((name.node.to_string(), self.argument(value)?)))
            .collect::<Result<_, String>>()?;
        let inner = &field.selection_set.node;
        Ok(Field {
            key: alias.unwrap_or_else(|| name.clone()),
            name,
            arguments,
            fields: if inner.items.is_empty() {
                Vec::new()
            } else {
                self.fields(inner, depth + 1)?
            },
        })
    }

    fn argument(&self, value: &Positioned<Argument>) -> Result<Value, String> {
        let filled = value.node.clone().into_const_with(|name: Name| {
            let value = self.variables.get(name.as_str());
            let value = value.ok_or_else(|| format!("Variable '${name}' is not defined."))?;
            ConstValue::from_json(value.clone()).map_err(|error| error.to_string())
        })?;
        filled.into_json().map_err(|error| error.to_string())
    }

    fn fragment(&self, name: &Name) -> Result<&'d FragmentDefinition, String> {
        let fragment = self.document.fragments.get(name);
        fragment
            .map(|fragment| &fragment.node)
            .ok_or_else(|| format!("Unknown fragment '{name}'."))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(query: &str) -> Result<Vec<Field>, String> {
        super::read(query, None, &Map::new())
    }

    #[test]
    fn variables_aliases_and_fragments_are_filled_in() {
        let query = "query Q($d: In!, $n: Int = 3) @component(name: \"x\") {
            a: get(input: $d, n: $n) { ...F ... on T { d } __typename } }
            fragment F on T { b c }";
        let variables = json!({"d": {"runId": "r"}});
        let read = super::read(query, Some("Q"), variables.as_object().unwrap());
        let [field] = &read.unwrap()[..] else {
            panic!("one root field");
        };
        assert_eq!((field.key.as_str(), field.name.as_str()), ("a", "get"));
        let arguments = json!({"input": {"runId": "r"}, "n": 3});
        assert_eq!(Value::Object(field.arguments.clone()), arguments);
        let names: Vec<&str> = field.fields.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["b", "c", "d", "__typename"]);
    }

    #[test]
    fn a_document_without_bounds_is_refused_quickly() {
        let many: String = (0..11)
            .map(|i| format!("a{i}: test {{ output }} "))
            .collect();
        let aliases: String = (0..11).map(|i| format!("b{i}: name ")).collect();
        let wide = "name ".repeat(1_001);
        for (query, said) in [
            (format!("{{ {many} }}"), "at most 10 root fields, got 11"),
            (format!("{{ a {{ {aliases} }} }}"), "at most 10 aliases"),
            (
                format!("{}{}", "{a".repeat(11), "}".repeat(11)),
                "maximum depth",
            ),
            ("{a".repeat(20_000), "maximum depth"),
            (
                format!("{{ a(b: {}) }}", "[".repeat(20_000)),
                "maximum depth",
            ),
            (format!("{{ a {{ {wide} }} }}"), "total selections of 1000"),
            (format!("{{ a }} #{}", " ".repeat(70_000)), "maximum length"),
            (
                "{ ...A } fragment A on T { ...B ...B } fragment B on T { ...A ...A }".to_owned(),
                "maximum depth",
            ),
            ("{ a(b: $c) }".to_owned(), "'$c' is not defined"),
            ("{ ...A }".to_owned(), "Unknown fragment"),
            ("subscription { a }".to_owned(), "not supported"),
            ("query A { a } query B { b }".to_owned(), "operation name"),
            ("{ a".to_owned(), "Syntax Error"),
        ] {
            let message = read(&query).unwrap_err();
            assert!(message.contains(said), "{message}: {:.60}", query);
        }
    }
}
