//! How many bytes the values of a row take: by their types, and those of lists by how many values
//! the table's manifests have counted in them.

use std::collections::HashMap;

use arrow_schema::{DataType, Schema};
use iceberg::arrow::type_to_arrow_type;
use iceberg::spec::{ManifestContentType, NestedField, Type};
use iceberg::table::Table;

use crate::dtype::Dtype;
use crate::error::Error;
use crate::table::TableRef;

/// What a value is taken to need that has no width of its own.
const TEXT_BYTES: usize = 32;

/// What a list needs beside its values.
const LIST_BYTES: usize = 8;

/// Lists are of any length: those that are kept may be so many times as long as the mean.
const LONGER: usize = 2;

/// So many of a table's manifests, the newest ones, tell enough of the mean.
const MANIFESTS: usize = 8;

/// What a list is taken to need of which nothing is known: that of an embedding of 256 numbers.
pub(crate) const UNKNOWN_LIST_BYTES: usize = 1024;

/// How many bytes a row of some of the table's columns takes, whose types are those of the schema;
/// none when that cannot be told.
///
/// # Errors
/// When the storage does not answer.
pub(crate) async fn of_row(
    name: &TableRef,
    table: &Table,
    snapshot: Option<i64>,
    schema: &Schema,
    columns: &[String],
) -> Result<Option<usize>, Error> {
    let (mut bytes, mut lists) = (0_usize, Vec::new());
    for (field, column) in schema.fields().iter().zip(columns) {
        match of(field.data_type()) {
            Some(width) => bytes = bytes.saturating_add(width),
            None => lists.push(column),
        }
    }
    if lists.is_empty() {
        return Ok(Some(bytes));
    }
    let schema = table.metadata().current_schema();
    let mut leaves = Vec::new();
    for column in lists {
        bytes = bytes.saturating_add(LIST_BYTES);
        let Some(field) = schema.field_by_name(column) else {
            return Ok(None);
        };
        add_leaves(field, &mut leaves);
    }
    let counted = Counted::read(name, table, snapshot).await?;
    let widths = leaves.iter().map(|leaf| counted.mean(leaf));
    let widths = widths.sum::<Option<usize>>();
    Ok(widths.map(|width| bytes.saturating_add(width.saturating_mul(LONGER))))
}

/// How many bytes a value is taken to need that is in no table.
pub(super) fn of_dtype(dtype: Dtype) -> usize {
    let kind = dtype.arrow_type();
    kind.map_or(TEXT_BYTES, |kind| of(&kind).unwrap_or(UNKNOWN_LIST_BYTES))
}

/// How many bytes a value of a type takes; none when that depends on the value, as in lists, which
/// may be of any length.
fn of(kind: &DataType) -> Option<usize> {
    match kind {
        DataType::Null => Some(0),
        DataType::Boolean => Some(1),
        DataType::FixedSizeBinary(bytes) => usize::try_from(*bytes).ok(),
        DataType::FixedSizeList(item, count) => usize::try_from(*count)
            .ok()?
            .checked_mul(of(item.data_type())?),
        DataType::Struct(fields) => fields.iter().map(|field| of(field.data_type())).sum(),
        DataType::List(_) | DataType::LargeList(_) | DataType::Map(..) => None,
        other => Some(other.primitive_width().unwrap_or(TEXT_BYTES)),
    }
}

/// The values inside of others, that manifests count.
struct Leaf {
    id: i32,
    width: usize,
}

fn add_leaves(field: &NestedField, leaves: &mut Vec<Leaf>) {
    match &*field.field_type {
        Type::Primitive(_) => {
            let kind = type_to_arrow_type(&field.field_type).ok();
            let width = kind.and_then(|kind| of(&kind)).unwrap_or(TEXT_BYTES);
            leaves.push(Leaf {
                id: field.id,
                width,
            });
        }
        Type::Struct(inner) => {
            for field in inner.fields() {
                add_leaves(field, leaves);
            }
        }
        Type::List(list) => add_leaves(&list.element_field, leaves),
        Type::Map(map) => {
            add_leaves(&map.key_field, leaves);
            add_leaves(&map.value_field, leaves);
        }
    }
}

/// Of each leaf how many values there are, and in how many rows.
#[derive(Default)]
struct Counted(HashMap<i32, (u64, u64)>);

impl Counted {
    async fn read(name: &TableRef, table: &Table, snapshot: Option<i64>) -> Result<Self, Error> {
        let failed = || format!("the files of table {name} cannot be read");
        let mut counted = Self::default();
        let snapshot = snapshot.and_then(|id| table.metadata().snapshot_by_id(id));
        let Some(snapshot) = snapshot else {
            return Ok(counted);
        };
        let list = table.manifest_list_reader(snapshot).load().await;
        let list = list.map_err(Error::iceberg(failed()))?;
        let data = |content| content == ManifestContentType::Data;
        let mut manifests: Vec<_> = list.entries().iter().collect();
        manifests.retain(|manifest| data(manifest.content));
        manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.sequence_number));
        for manifest in manifests.into_iter().take(MANIFESTS) {
            let manifest = manifest.load_manifest(table.file_io()).await;
            let manifest = manifest.map_err(Error::iceberg(failed()))?;
            for entry in manifest.entries().iter().filter(|entry| entry.is_alive()) {
                let file = entry.data_file();
                counted.add(file.record_count(), file.value_counts());
            }
        }
        Ok(counted)
    }

    /// Takes a file; a leaf that it does not count, maybe since it has none of it, is left out.
    fn add(&mut self, rows: u64, values: &HashMap<i32, u64>) {
        for (leaf, count) in values {
            let (all, of_rows) = self.0.entry(*leaf).or_default();
            *all = all.saturating_add(*count);
            *of_rows = of_rows.saturating_add(rows);
        }
    }

    /// How many bytes a row has of a leaf in the mean, rounded up.
    fn mean(&self, leaf: &Leaf) -> Option<usize> {
        let (values, rows) = self.0.get(&leaf.id).filter(|(_, rows)| *rows > 0)?;
        let bytes = u128::from(*values) * leaf.width as u128;
        usize::try_from(bytes.div_ceil(u128::from(*rows))).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Field;
    use iceberg::spec::{ListType, PrimitiveType};

    use super::*;

    #[test]
    fn the_memory_of_values_is_told_by_their_type_or_not_at_all() {
        let item = Arc::new(Field::new_list_field(DataType::Float32, true));
        let wide = DataType::FixedSizeList(item.clone(), 768);
        assert_eq!(of(&wide), Some(4 * 768));
        assert_eq!(of(&DataType::List(item.clone())), None);
        let fields = [("a", DataType::Int64), ("b", DataType::Utf8)];
        let fields = fields.map(|(name, kind)| Field::new(name, kind, true));
        assert_eq!(
            of(&DataType::Struct(fields.to_vec().into())),
            Some(8 + TEXT_BYTES)
        );
        let list = Field::new("list", DataType::List(item), true);
        assert_eq!(of(&DataType::Struct(vec![list].into())), None);
    }

    #[test]
    fn the_memory_of_lists_is_told_by_what_is_counted_in_them() {
        let element = Type::Primitive(PrimitiveType::Float);
        let element = NestedField::list_element(7, element, false);
        let list = Type::List(ListType::new(element.into()));
        let mut leaves = Vec::new();
        add_leaves(&NestedField::optional(6, "list", list), &mut leaves);
        let [leaf] = leaves.as_slice() else {
            panic!("a list of numbers has one leaf")
        };
        let mut counted = Counted::default();
        assert_eq!(counted.mean(leaf), None);
        counted.add(10, &HashMap::from([(7, 7_680), (1, 10)]));
        counted.add(10, &HashMap::from([(7, 7_681), (1, 10)]));
        // This one is of before the column was there.
        counted.add(1_000, &HashMap::from([(1, 1_000)]));
        assert_eq!(counted.mean(leaf), Some(3_073));
        counted.add(u64::MAX, &HashMap::from([(7, u64::MAX)]));
        assert!(counted.mean(leaf).is_some());
    }
}
