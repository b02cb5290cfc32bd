//! A table's entry in Glue: how it says that it is Iceberg's, and what stands in it for Athena.

use iceberg::spec::{PrimitiveType, TableMetadata, Type};
use serde_json::{Map, Value, json};

const TABLE_TYPE: &str = "table_type";
const LOCATION: &str = "metadata_location";
const PREVIOUS: &str = "previous_metadata_location";
const FIELD_ID: &str = "iceberg.field.id";
const CURRENT: &str = "iceberg.field.current";

/// What else may be written of an entry: an update takes the place of all of it, so that what is left
/// out is lost. `GetTable` tells more, which is refused.
const KEPT: [&str; 10] = [
    "Description",
    "LastAccessTime",
    "LastAnalyzedTime",
    "Owner",
    "PartitionKeys",
    "Retention",
    "TableType",
    "TargetTable",
    "ViewExpandedText",
    "ViewOriginalText",
];

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
    let mut storage = json!({});
    if let Some(known @ Value::Object(_)) = before.map(|entry| &entry["StorageDescriptor"]) {
        storage = known.clone();
    }
    storage["Columns"] = Value::Array(columns(metadata, storage["Columns"].as_array()));
    storage["Location"] = json!(metadata.location());
    let mut input = json!({"Name": name, "TableType": "EXTERNAL_TABLE"});
    for kept in KEPT {
        if let Some(value) = before.map(|entry| &entry[kept])
            && !value.is_null()
        {
            input[kept] = value.clone();
        }
    }
    input["Parameters"] = Value::Object(parameters);
    input["StorageDescriptor"] = storage;
    input
}

/// The columns of the table as it is, with what others have noted of each, then those that they keep
/// of before.
fn columns(metadata: &TableMetadata, before: Option<&Vec<Value>>) -> Vec<Value> {
    let before = || before.into_iter().flatten();
    let is = |column: &Value, id: &str| column["Parameters"][FIELD_ID].as_str() == Some(id);
    let fields = metadata.current_schema().as_struct().fields();
    let current = fields.iter().map(|field| {
        let id = field.id.to_string();
        let known = before().find(|column| is(column, &id));
        let known = known.or_else(|| before().find(|column| column["Name"] == *field.name));
        let mut column = known.cloned().unwrap_or_else(|| json!({}));
        if !column["Parameters"].is_object() {
            column["Parameters"] = json!({});
        }
        column["Name"] = json!(field.name);
        column["Type"] = json!(hive_type(&field.field_type));
        column["Parameters"][FIELD_ID] = json!(id);
        column["Parameters"]["iceberg.field.optional"] = json!((!field.required).to_string());
        column["Parameters"][CURRENT] = json!("true");
        column
    });
    let dropped = before().filter(|column| {
        let again = fields.iter().any(|field| is(column, &field.id.to_string()));
        column["Parameters"][CURRENT] == "false" && !again
    });
    current.chain(dropped.cloned()).collect()
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
    use iceberg::TableCreation;
    use iceberg::spec::{ListType, NestedField, Schema, TableMetadataBuilder};

    #[test]
    fn what_others_have_put_into_an_entry_stays_when_rows_are_appended() {
        let id = NestedField::optional(1, "id", Type::Primitive(PrimitiveType::Long));
        let schema = Schema::builder().with_fields([id.into()]).build().unwrap();
        let creation = TableCreation::builder()
            .name("t".to_owned())
            .location("s3://lake/t".to_owned())
            .schema(schema)
            .build();
        let built = TableMetadataBuilder::from_table_creation(creation).unwrap();
        let metadata = built.build().unwrap().metadata;
        let mut entry = input("t", &metadata, "s3://lake/t/1.json", None);
        entry["Retention"] = json!(7);
        entry["PartitionKeys"] = json!([{"Name": "day", "Type": "date"}]);
        entry["Parameters"]["owner_team"] = json!("crm");
        entry["StorageDescriptor"]["SerdeInfo"] = json!({"Name": "serde"});
        entry["StorageDescriptor"]["Columns"][0]["Comment"] = json!("the customer");
        entry["StorageDescriptor"]["Columns"][0]["Parameters"]["pii"] = json!("no");
        let dropped = json!({
            "Name": "old",
            "Type": "string",
            "Parameters": {FIELD_ID: "9", CURRENT: "false"},
        });
        let columns = entry["StorageDescriptor"]["Columns"].as_array_mut();
        columns.unwrap().push(dropped.clone());
        let mut expected = entry.clone();
        expected["Parameters"][LOCATION] = json!("s3://lake/t/2.json");
        expected["Parameters"][PREVIOUS] = json!("s3://lake/t/1.json");
        // What Glue tells, and does not take back.
        entry["CreatedBy"] = json!("somebody");
        entry["VersionId"] = json!("3");
        let after = input("t", &metadata, "s3://lake/t/2.json", Some(&entry));
        assert_eq!(after, expected);
    }

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
