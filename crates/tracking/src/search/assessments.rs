//! What a trace search asks of assessments (`SearchTraceUtils.is_assessment`, MLflow 3.x).

use super::runs::Text;
use super::traces::{Condition, text};
use crate::error::Error;
use crate::filter::{Op, Operand};

/// What an assessment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Feedback,
    Expectation,
}

/// What is asked of an assessment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judged {
    Present,
    Absent,
    /// Its value is a number that compares so.
    Number {
        op: Op,
        value: f64,
    },
    /// Its value compares so: a text as it is, everything else as it is written in JSON.
    Text(Text),
}

impl Kind {
    /// As the field of the message is called.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Feedback => "feedback",
            Self::Expectation => "expectation",
        }
    }
}

pub(super) fn condition(
    kind: Kind,
    name: String,
    op: Op,
    value: Operand,
) -> Result<Condition, Error> {
    if name.is_empty() {
        return Err(Error::Invalid(
            "Assessment field name cannot be empty".to_owned(),
        ));
    }
    let what = kind.as_str();
    let is = match (op, value) {
        (Op::IsNull, _) => Judged::Absent,
        (Op::IsNotNull, _) => Judged::Present,
        (Op::Lt | Op::Le | Op::Gt | Op::Ge, Operand::Number(value)) => Judged::Number { op, value },
        (Op::Lt | Op::Le | Op::Gt | Op::Ge, _) => {
            return Err(Error::Invalid(format!(
                "Expected a numeric value for {what} when using comparator '{}', such as {what}.{name} {} 0.8",
                op.as_str(),
                op.as_str()
            )));
        }
        (Op::In | Op::NotIn, _) => {
            return Err(Error::Invalid(format!(
                "{what}.{name} comparator '{}' not one of '=', '!=', '<', '<=', '>', '>=', 'LIKE', 'ILIKE', 'RLIKE', 'IS NULL', 'IS NOT NULL'",
                op.as_str()
            )));
        }
        (_, Operand::Number(number)) => {
            return Err(Error::Invalid(format!(
                "Expected a quoted string value for {what} (e.g. '{number}'). Got value {number}"
            )));
        }
        (op, value) => Judged::Text(text(op, value)?),
    };
    Ok(Condition::Assessment { kind, name, is })
}

pub(super) fn issue(key: &str, op: Op, value: Operand) -> Result<Condition, Error> {
    match (key, op, value) {
        ("id", Op::Eq, Operand::Text(id)) => Ok(Condition::Issue(id)),
        ("id", ..) => Err(Error::Invalid(
            "issue.id is compared with a quoted text by '='".to_owned(),
        )),
        (other, ..) => Err(Error::Invalid(format!(
            "Invalid issue attribute '{other}'. Supported attributes: id"
        ))),
    }
}
