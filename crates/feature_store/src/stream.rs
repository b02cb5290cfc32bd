//! Arrow streams that others wrote, looked through before they are decoded: the decoder makes room
//! for what a message announces before it has read it, and a column of nulls has no bytes at all.

use std::panic::AssertUnwindSafe;

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
        let message = root_as_message(metadata).map_err(no_head)?;
        let body = take(&mut stream, message.bodyLength())?;
        rows = rows.saturating_add(rows_of(metadata, body.len())?);
    }
    Ok(rows)
}

/// How many rows a message announces, by its head.
///
/// # Errors
/// When it announces more than the rows that there can be, or bytes outside of its body.
pub(crate) fn rows_of(head: &[u8], body_bytes: usize) -> Result<usize, ArrowError> {
    let message = root_as_message(head).map_err(no_head)?;
    let dictionary = message.header_as_dictionary_batch();
    if let Some(values) = dictionary.and_then(|dictionary| dictionary.data()) {
        length_of(&values, body_bytes)?;
    }
    let batch = message.header_as_record_batch();
    batch.map_or(Ok(0), |batch| length_of(&batch, body_bytes))
}

fn no_head(error: impl std::fmt::Display) -> ArrowError {
    ArrowError::ParseError(format!("a message has no head: {error}"))
}

/// What a decoder makes of bytes that others wrote: it panics over some that are damaged.
///
/// # Errors
/// Its own, and when it panics.
pub(crate) fn decoded<T>(
    decode: impl FnOnce() -> Result<T, Error>,
    damaged: impl FnOnce() -> Error,
) -> Result<T, Error> {
    let decoded = std::panic::catch_unwind(AssertUnwindSafe(decode));
    decoded.unwrap_or_else(|_panic| Err(damaged()))
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
fn length_of(batch: &RecordBatch<'_>, body_bytes: usize) -> Result<usize, ArrowError> {
    for buffer in batch.buffers().into_iter().flatten() {
        let end = buffer.offset().checked_add(buffer.length());
        let inside = buffer.offset() >= 0 && buffer.length() >= 0;
        let end = end.and_then(|end| usize::try_from(end).ok());
        if !inside || end.is_none_or(|end| end > body_bytes) {
            return Err(too_much(buffer.length()));
        }
    }
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

    use arrow_array::{ArrayRef, Int64Array, NullArray, RecordBatch};

    use super::testing::{announcing, written};
    use super::*;

    fn numbers() -> ArrayRef {
        Arc::new(Int64Array::from(vec![1, 2, 3]))
    }

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
        let mut stream = written(&RecordBatch::try_from_iter([("a", numbers())]).unwrap());
        let at = {
            let mut rest = &stream[..];
            let length = metadata_length(&mut rest).unwrap().unwrap();
            take(&mut rest, length).unwrap();
            let length = metadata_length(&mut rest).unwrap().unwrap();
            let head = take(&mut rest, length).unwrap();
            let message = arrow_ipc::root_as_message(head).unwrap();
            let buffers = message.header_as_record_batch().unwrap().buffers().unwrap();
            let values = buffers.get(1);
            let place = std::ptr::from_ref(values).addr() - stream.as_ptr().addr();
            assert_eq!(values.length(), 24);
            place
        };
        assert_eq!(rows(&stream).unwrap(), 3);
        // Where the bytes of the values are.
        stream[at..at + 8].copy_from_slice(&(1_i64 << 40).to_le_bytes());
        assert!(rows(&stream).is_err());
        let head = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(rows(&head).is_err() && rows(&head[..5]).is_err());
        assert_eq!(rows(&[]).unwrap(), 0);
    }
}
