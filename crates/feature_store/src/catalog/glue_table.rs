//! A table's entry in Glue: how it says that it is Iceberg's, and what stands in it for Athena.

use iceberg::spec::{PrimitiveType, TableMetadata, Type};
use serde_json::{Map, Value, json};

const TABLE_TYPE: &str = "table_type";
const LOCATION: &str = "metadata_location";
const PREVIOUS: &str = "previous_metadata_location";

/// Whether an entry is an Iceberg table.
pub(super) fn is_iceberg(entry: &Value) -> bool {
    let kind = entry["Parameters"][TABLE_TYPE].as_str();
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("iceberg"))
}

/// The table's newest metadata file.
pub(super) fn metadata_location(entry: &Value) -> Option<&str> {
    entry["Parameters"][LOCATION].as_str()
}

/// What is written into Glue: for a new table, or over the entry that there is, of which
/// everything that others have put there stays.
pub(super) fn input(
    name: &str,
    metadata: &TableMetadata,
    location: &str,
    before: Option<&Value>,
) -> Value {
    let mut parameters = Map::new();
    if let Some(Value::Object(known)) = before.map(|entry| &entry["Parameters"]) {
        parameters.clone_from(known);
    }
    if let Some(old) = before.and_then(metadata_location) {
        parameters.insert(PREVIOUS.to_owned(), json!(old));
    }
    parameters.insert(TABLE_TYPE.to_owned(), json!("ICEBERG"));
    parameters.insert(LOCATION.to_owned(), json!(location));
    let fields = metadata.current_schema().as_struct().fields();
    let columns: Vec<Value> = fields
        .iter()
        .map(|field| {
            json!({
                "Name": field.name,
                "Type": hive_type(&field.field_type),
                "Parameters": {
                    "iceberg.field.id": field.id.to_string(),
                    "iceberg.field.optional": (!field.required).to_string(),
                    "iceberg.field.current": "true",
                },
            })
        })
        .collect();
    let mut input = json!({
        "Name": name,
        "TableType": "EXTERNAL_TABLE",
        "Parameters": parameters,
        "StorageDescriptor": {"Columns": columns, "Location": metadata.location()},
    });
    for kept in ["Description", "Owner"] {
        if let Some(value) = before.map(|entry| &entry[kept])
            && !value.is_null()
        {
            input[kept] = value.clone();
        }
    }
    input
}

/// The type as Glue, which is a Hive catalog, names it.
fn hive_type(kind: &Type) -> String {
    match kind {
        Type::Primitive(kind) => match kind {
            PrimitiveType::Boolean => "boolean".to_owned(),
            PrimitiveType::Int => "int".to_owned(),
            PrimitiveType::Long => "bigint".to_owned(),
            PrimitiveType::Float => "float".to_owned(),
            PrimitiveType::Double => "double".to_owned(),
            PrimitiveType::Date => "date".to_owned(),
            PrimitiveType::Timestamp
            | PrimitiveType::Timestamptz
            | PrimitiveType::TimestampNs
            | PrimitiveType::TimestamptzNs => "timestamp".to_owned(),
            PrimitiveType::Decimal { precision, scale } => format!("decimal({precision},{scale})"),
            PrimitiveType::Fixed(_) | PrimitiveType::Binary => "binary".to_owned(),
            _ => "string".to_owned(),
        },
        Type::List(list) => format!("array<{}>", hive_type(&list.element_field.field_type)),
        Type::Map(map) => format!(
            "map<{},{}>",
            hive_type(&map.key_field.field_type),
            hive_type(&map.value_field.field_type)
        ),
        Type::Struct(parts) => {
            let fields = parts.fields().iter();
            let fields = fields.map(|f| format!("{}:{}", f.name, hive_type(&f.field_type)));
            format!("struct<{}>", fields.collect::<Vec<_>>().join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iceberg::spec::{ListType, NestedField};

    #[test]
    fn an_entry_of_another_format_is_no_iceberg_table() {
        let of = |kind: Value| is_iceberg(&json!({"Parameters": {"table_type": kind}}));
        assert!(of(json!("ICEBERG")) && of(json!("iceberg")));
        assert!(!of(json!("DELTA")) && !of(Value::Null) && !is_iceberg(&json!({})));
    }

    #[test]
    fn types_are_named_as_hive_names_them() {
        let element = NestedField::list_element(1, Type::Primitive(PrimitiveType::Long), true);
        let list = Type::List(ListType::new(element.into()));
        assert_eq!(hive_type(&list), "array<bigint>");
        let decimal = Type::Primitive(PrimitiveType::Decimal {
            precision: 9,
            scale: 2,
        });
        assert_eq!(hive_type(&decimal), "decimal(9,2)");
        assert_eq!(hive_type(&Type::Primitive(PrimitiveType::Uuid)), "string");
    }
}
