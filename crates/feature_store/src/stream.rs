//! Arrow streams that others wrote, looked through before they are decoded: the decoder makes room
//! for what a message announces before it has read it, and a column of nulls has no bytes at all.

use arrow_ipc::{RecordBatch, root_as_message};
use arrow_schema::ArrowError;

use crate::error::Error;

/// The most rows that a table from outside may have.
pub(crate) const MOST_ROWS: usize = 50_000_000;

/// What stands before the length of a message, but in streams of old writers.
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Refuses a table of more rows than are taken.
///
/// # Errors
/// [`Error::Invalid`].
pub(crate) fn few_enough(rows: usize) -> Result<(), Error> {
    if rows <= MOST_ROWS {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the table has more than {MOST_ROWS} rows: send it in parts"
    )))
}

/// How many rows a stream announces.
///
/// # Errors
/// When a message announces more than the bytes or the rows that there can be.
pub(crate) fn rows(mut stream: &[u8]) -> Result<usize, ArrowError> {
    let mut rows = 0_usize;
    while let Some(length) = metadata_length(&mut stream)? {
        let metadata = take(&mut stream, length)?;
        let message = root_as_message(metadata)
            .map_err(|error| ArrowError::ParseError(format!("a message has no head: {error}")))?;
        take(&mut stream, message.bodyLength())?;
        let dictionary = message.header_as_dictionary_batch();
        if let Some(values) = dictionary.and_then(|dictionary| dictionary.data()) {
            length_of(&values)?;
        }
        if let Some(batch) = message.header_as_record_batch() {
            rows = rows.saturating_add(length_of(&batch)?);
        }
    }
    Ok(rows)
}

/// The length of the next message's head; none at the end.
fn metadata_length(stream: &mut &[u8]) -> Result<Option<i64>, ArrowError> {
    let Some((mut word, mut rest)) = stream.split_first_chunk::<4>() else {
        return Ok(None);
    };
    if *word == CONTINUATION {
        (word, rest) = rest.split_first_chunk().ok_or_else(|| too_much(4))?;
    }
    *stream = rest;
    let length = i32::from_le_bytes(*word);
    Ok((length != 0).then_some(length.into()))
}

fn take<'s>(stream: &mut &'s [u8], length: i64) -> Result<&'s [u8], ArrowError> {
    let taken = usize::try_from(length).ok();
    let taken = taken.and_then(|length| stream.split_at_checked(length));
    let (taken, rest) = taken.ok_or_else(|| too_much(length))?;
    *stream = rest;
    Ok(taken)
}

/// The rows of a batch. Its columns, those inside of others too, may not be longer than any can be.
fn length_of(batch: &RecordBatch<'_>) -> Result<usize, ArrowError> {
    let lengths = batch.nodes().into_iter().flatten();
    let lengths = lengths.map(|node| node.length()).chain([batch.length()]);
    for length in lengths {
        if usize::try_from(length).is_ok_and(|length| length <= MOST_ROWS) {
            continue;
        }
        return Err(ArrowError::ParseError(format!(
            "a message announces {length} rows, more than the {MOST_ROWS} that are taken"
        )));
    }
    Ok(batch.length() as usize)
}

fn too_much(length: i64) -> ArrowError {
    ArrowError::ParseError(format!(
        "a message announces {length} bytes, more than there are"
    ))
}

#[cfg(test)]
pub(crate) mod testing {
    use arrow_ipc::writer::StreamWriter;

    /// A batch as a stream.
    pub(crate) fn written(batch: &arrow_array::RecordBatch) -> Vec<u8> {
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        writer.into_inner().unwrap()
    }

    /// A stream of one column of three whole numbers whose batch announces `announced` bytes.
    pub(crate) fn announcing(announced: i64) -> Vec<u8> {
        let column = arrow_array::Int64Array::from(vec![1, 2, 3]);
        let columns: [(_, arrow_array::ArrayRef); 1] = [("a", std::sync::Arc::new(column))];
        let mut stream = written(&arrow_array::RecordBatch::try_from_iter(columns).unwrap());
        let mut rest = &stream[..];
        let length = super::metadata_length(&mut rest).unwrap().unwrap();
        super::take(&mut rest, length).unwrap();
        let length = super::metadata_length(&mut rest).unwrap().unwrap();
        let start = stream.len() - rest.len();
        let head = start..start + length as usize;
        let message = arrow_ipc::root_as_message(&stream[head.clone()]).unwrap();
        let body = message.bodyLength().to_le_bytes();
        let found = stream[head].windows(8).position(|bytes| bytes == body);
        let at = start + found.unwrap();
        stream[at..at + 8].copy_from_slice(&announced.to_le_bytes());
        stream
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, NullArray, RecordBatch};

    use super::testing::{announcing, written};
    use super::*;

    #[test]
    fn what_a_message_announces_must_be_there() {
        let nulls = |length| -> Vec<u8> {
            let column: ArrayRef = Arc::new(NullArray::new(length));
            written(&RecordBatch::try_from_iter([("a", column)]).unwrap())
        };
        assert_eq!(rows(&nulls(7)).unwrap(), 7);
        assert!(rows(&nulls(MOST_ROWS + 1)).is_err());
        for announced in [1 << 46, -1, i64::MAX, i64::MIN] {
            let refused = rows(&announcing(announced)).unwrap_err().to_string();
            assert!(refused.contains("more than there are"), "{refused}");
        }
        let head = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(rows(&head).is_err() && rows(&head[..5]).is_err());
        assert_eq!(rows(&[]).unwrap(), 0);
    }
}
