//! The frames between asgard and a worker; `python/worker.py` has their description.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fit::Features;
use crate::frame::{Buffer, Frame, Layout};
use crate::values::{Data, Values};

/// The longest call.
const LONGEST_CALL: usize = 1 << 30;

/// The longest reply: a million rows with 32 numbers each. A worker that sends more has lost its
/// way, or means harm.
pub(crate) const LONGEST_REPLY: u32 = 256 << 20;

pub(crate) const LOAD: u8 = b'L';
pub(crate) const DUMP: u8 = b'D';
const LAYOUT: u8 = b'T';
const PREDICT: u8 = b'P';

/// What a worker says about the model that it has loaded.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Facts {
    /// Which loader took it.
    pub(crate) flavor: String,
    /// The class of the model, with its module.
    pub(crate) class: String,
    pub(crate) features: Features,
    /// Why there are no probabilities; `None` when there are.
    pub(crate) no_probabilities: Option<String>,
    /// Whether a row's answer does not depend on the rows beside it, to the bit.
    pub(crate) row_by_row: bool,
    pub(crate) load_ms: f64,
}

/// An exception of the model's Python code.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Raised {
    /// The exception's class.
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    pub traceback: String,
    /// The module that could not be imported, if that was it.
    pub module: Option<String>,
}

/// What a worker answered to one call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) predictions: Values,
    pub(crate) probabilities: Option<Values>,
}

/// A frame from a worker.
#[derive(Debug)]
pub(crate) enum Reply {
    Ready(Facts),
    Failed(Raised),
    Answer(Answer),
    Raised(Raised),
    /// The model's own numbers.
    Numbers(Vec<u8>),
    /// Why there are none.
    Unknown(Raised),
}

impl Answer {
    /// Whether every bit is the same.
    pub(crate) fn same_bits(&self, other: &Self) -> bool {
        let probabilities = match (&self.probabilities, &other.probabilities) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => ours.same_bits(theirs),
            _ => false,
        };
        probabilities && self.predictions.same_bits(&other.predictions)
    }
}

/// A frame of JSON.
pub(crate) fn json_frame(kind: u8, content: &Value) -> Vec<u8> {
    let mut out = begin(kind);
    out.extend_from_slice(content.to_string().as_bytes());
    finish(out)
}

/// Tells a worker what columns the calls with this number have.
pub(crate) fn layout_frame(number: u16, layout: &Layout) -> serde_json::Result<Vec<u8>> {
    let mut out = begin(LAYOUT);
    out.extend_from_slice(&number.to_le_bytes());
    serde_json::to_writer(&mut out, layout)?;
    Ok(finish(out))
}

/// Asks for predictions.
///
/// # Errors
/// When there are more rows or bytes than a frame can count.
pub(crate) fn predict_frame(
    number: u16,
    frame: &Frame,
    probabilities: bool,
) -> Result<Vec<u8>, TooLong> {
    let rows = u32::try_from(frame.rows).map_err(|_| TooLong)?;
    let mut out = begin(PREDICT);
    out.extend_from_slice(&number.to_le_bytes());
    out.push(u8::from(probabilities));
    out.extend_from_slice(&rows.to_le_bytes());
    for column in &frame.columns {
        write_column(&mut out, column)?;
    }
    if out.len() > LONGEST_CALL {
        return Err(TooLong);
    }
    Ok(finish(out))
}

/// A call that does not fit into a frame.
#[derive(Debug)]
pub(crate) struct TooLong;

fn write_column(out: &mut Vec<u8>, column: &Buffer) -> Result<(), TooLong> {
    match column {
        Buffer::F64(v) => v
            .iter()
            .for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        Buffer::F32(v) => v
            .iter()
            .for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        Buffer::I64(v) | Buffer::Datetime(v) => {
            v.iter()
                .for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
        }
        Buffer::I32(v) => v
            .iter()
            .for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
        Buffer::Bool(v) => v.iter().for_each(|x| out.push(u8::from(*x))),
        Buffer::Json(v) | Buffer::Binary(v) => {
            let text = serde_json::to_vec(v).map_err(|_| TooLong)?;
            let length = u32::try_from(text.len()).map_err(|_| TooLong)?;
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&text);
        }
    }
    Ok(())
}

fn begin(kind: u8) -> Vec<u8> {
    vec![0, 0, 0, 0, kind]
}

fn finish(mut out: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(out.len() - 4).unwrap_or(u32::MAX);
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

/// Reads a frame that came from a worker, without its length.
///
/// # Errors
/// What is wrong with it: a worker runs foreign code, which may have written over its memory.
pub(crate) fn read_reply(frame: &[u8]) -> Result<Reply, String> {
    let (kind, content) = frame.split_first().ok_or("an empty frame")?;
    let json = |what: serde_json::Error| format!("a frame that is not JSON: {what}");
    match kind {
        b'R' => serde_json::from_slice(content)
            .map(Reply::Ready)
            .map_err(json),
        b'F' => serde_json::from_slice(content)
            .map(Reply::Failed)
            .map_err(json),
        b'E' => serde_json::from_slice(content)
            .map(Reply::Raised)
            .map_err(json),
        b'N' => Ok(Reply::Numbers(content.to_vec())),
        b'U' => serde_json::from_slice(content)
            .map(Reply::Unknown)
            .map_err(json),
        b'A' => read_answer(content).ok_or_else(|| "a broken answer".to_owned()),
        other => Err(format!("a frame of the unknown kind {other}")),
    }
}

fn read_answer(content: &[u8]) -> Option<Reply> {
    let mut reader = Reader(content);
    let predictions = reader.values()??;
    let probabilities = reader.values()?;
    Some(Reply::Answer(Answer {
        predictions,
        probabilities,
    }))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).ok()
    }

    /// One part of an answer; `Some(None)` when it is absent.
    fn values(&mut self) -> Option<Option<Values>> {
        let [kind] = self.array()?;
        Some(match kind {
            0 => None,
            b'j' | b's' => {
                let length = self.length()?;
                let json: Value = serde_json::from_slice(self.take(length)?).ok()?;
                Some(of_json(kind == b'j', json)?)
            }
            _ => {
                let [dimensions] = self.array()?;
                let shape: Vec<usize> = (0..dimensions)
                    .map(|_| self.length())
                    .collect::<Option<_>>()?;
                let count = shape.iter().try_fold(1_usize, |n, d| n.checked_mul(*d))?;
                let data = match kind {
                    b'f' => Data::Floats(self.elements(count, f64::from_le_bytes)?),
                    b'i' => Data::Integers(self.elements(count, i64::from_le_bytes)?),
                    b'u' => Data::Unsigned(self.elements(count, u64::from_le_bytes)?),
                    b'b' => Data::Booleans(self.elements(count, |[byte]| byte != 0)?),
                    _ => return None,
                };
                Some(Values { shape, data })
            }
        })
    }

    fn elements<const N: usize, T>(
        &mut self,
        count: usize,
        read: fn([u8; N]) -> T,
    ) -> Option<Vec<T>> {
        let bytes = self.take(count.checked_mul(N)?)?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Some(chunks.iter().map(|chunk| read(*chunk)).collect())
    }
}

fn of_json(by_row: bool, json: Value) -> Option<Values> {
    match json {
        Value::Array(rows) if by_row => Some(Values {
            shape: vec![rows.len()],
            data: Data::Json(rows),
        }),
        _ if by_row => None,
        one => Some(Values {
            shape: vec![],
            data: Data::Json(vec![one]),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Form;

    fn answer(content: &[u8]) -> Option<Answer> {
        match read_answer(content)? {
            Reply::Answer(answer) => Some(answer),
            _ => None,
        }
    }

    #[test]
    fn a_call_lies_in_its_frame_column_after_column() {
        let frame = Frame::new(
            Form::Table,
            2,
            vec![
                ("a".to_owned(), Buffer::F64(vec![1.5, -2.0])),
                (
                    "b".to_owned(),
                    Buffer::Json(vec![Value::Null, Value::from("x")]),
                ),
            ],
        );
        let bytes = predict_frame(3, &frame, true).unwrap();
        assert_eq!(&bytes[..4], (bytes.len() as u32 - 4).to_le_bytes());
        assert_eq!(bytes[4], b'P');
        assert_eq!(&bytes[5..12], [3, 0, 1, 2, 0, 0, 0]);
        assert_eq!(&bytes[12..20], 1.5_f64.to_le_bytes());
        assert_eq!(&bytes[20..28], (-2.0_f64).to_le_bytes());
        assert_eq!(&bytes[28..], b"\x0a\0\0\0[null,\"x\"]");
    }

    #[test]
    fn an_answer_is_read_with_its_shape() {
        let mut content = b"i\x01\x02\0\0\0".to_vec();
        content.extend(7_i64.to_le_bytes());
        content.extend((-7_i64).to_le_bytes());
        content.extend(b"f\x02\x02\0\0\0\x01\0\0\0");
        content.extend(0.5_f64.to_le_bytes());
        content.extend(f64::NAN.to_le_bytes());
        let answer = answer(&content).unwrap();
        assert_eq!(answer.predictions.data, Data::Integers(vec![7, -7]));
        assert_eq!(answer.probabilities.unwrap().shape, [2, 1]);
    }

    #[test]
    fn json_answers_are_rows_or_one_for_all() {
        let content = |kind: u8, json: &str| {
            let mut content = vec![kind];
            content.extend(u32::try_from(json.len()).unwrap().to_le_bytes());
            content.extend(json.as_bytes());
            content.push(0);
            answer(&content).map(|answer| answer.predictions)
        };
        assert_eq!(content(b'j', r#"["a","b"]"#).unwrap().rows(), Some(2));
        assert_eq!(content(b's', r#"{"a":1}"#).unwrap().rows(), None);
        assert_eq!(content(b'j', "1"), None);
    }

    #[test]
    fn a_broken_frame_is_refused_not_believed() {
        assert!(read_reply(b"").is_err());
        assert!(read_reply(b"X").is_err());
        assert!(read_reply(b"R{").is_err());
        assert!(read_reply(b"Af\x02\xff\xff\xff\xff\xff\xff\xff\xff").is_err());
        assert!(read_reply(b"Ai\x01\x02\0\0\0abc").is_err());
    }
}
