//! Values for the codec that need no interpreter, and what must be true of any bytes: used by the tests and by the fuzz
//! target.

use manyhands::codec::{Build, Damaged, Place, Reader, Scratch, TooLong, Writer};
use std::collections::HashMap;
use std::rc::Rc;
use std::vec::Drain;

/// A value; its identity is its `Rc`'s.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    None,
    Boolean(bool),
    Integer(i64),
    /// The bits.
    Float(u64),
    Text(Rc<str>),
    Bytes(Rc<[u8]>),
    Tuple(Rc<[Value]>),
    List(Rc<[Value]>),
    /// A key, its value, the next key, and so on.
    Dict(Rc<[Value]>),
}

impl Value {
    fn address(&self) -> Option<usize> {
        match self {
            Self::None | Self::Boolean(_) | Self::Integer(_) | Self::Float(_) => None,
            Self::Text(text) => Some(Rc::as_ptr(text).cast::<u8>() as usize),
            Self::Bytes(bytes) => Some(Rc::as_ptr(bytes).cast::<u8>() as usize),
            Self::Tuple(values) | Self::List(values) | Self::Dict(values) => {
                Some(Rc::as_ptr(values).cast::<Value>() as usize)
            }
        }
    }
}

struct Values;

impl Build for Values {
    type Object = Value;
    type Error = Damaged;

    fn none(&mut self) -> Value {
        Value::None
    }

    fn boolean(&mut self, value: bool) -> Value {
        Value::Boolean(value)
    }

    fn integer(&mut self, value: i64) -> Result<Value, Damaged> {
        Ok(Value::Integer(value))
    }

    fn float(&mut self, value: f64) -> Result<Value, Damaged> {
        Ok(Value::Float(value.to_bits()))
    }

    fn text(&mut self, utf8: &[u8]) -> Result<Value, Damaged> {
        Ok(Value::Text(std::str::from_utf8(utf8).map_err(|_| Damaged)?.into()))
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Value, Damaged> {
        Ok(Value::Bytes(bytes.into()))
    }

    fn tuple(&mut self, values: Drain<'_, Value>) -> Result<Value, Damaged> {
        Ok(Value::Tuple(values.collect()))
    }

    fn list(&mut self, values: Drain<'_, Value>) -> Result<Value, Damaged> {
        Ok(Value::List(values.collect()))
    }

    fn dict(&mut self, values: Drain<'_, Value>) -> Result<Value, Damaged> {
        Ok(Value::Dict(values.collect()))
    }

    fn again(&mut self, value: &Value) -> Value {
        value.clone()
    }
}

pub(crate) fn read(message: &[u8]) -> Result<Value, Damaged> {
    let mut scratch = Scratch::new();
    Reader::read(message, Values, &mut scratch)
}

pub(crate) fn write(value: &Value) -> Result<Vec<u8>, TooLong> {
    let mut message = vec![0; 3];
    let mut writer = Writer::new(&mut message);
    write_into(&mut writer, value, &mut HashMap::new())?;
    Ok(message)
}

fn write_into(
    writer: &mut Writer<'_>,
    value: &Value,
    written: &mut HashMap<usize, Place>,
) -> Result<(), TooLong> {
    if let Some(place) = value.address().and_then(|address| written.get(&address)) {
        return writer.again(*place);
    }
    let (place, inner) = match value {
        Value::None => return writer.none(),
        Value::Boolean(value) => return writer.boolean(*value),
        Value::Integer(value) => return writer.integer(*value),
        Value::Float(bits) => return writer.float(f64::from_bits(*bits)),
        Value::Text(text) => (writer.text(text)?, None),
        Value::Bytes(bytes) => (writer.bytes(bytes)?, None),
        Value::Tuple(values) => (writer.tuple(values.len())?, Some(values)),
        Value::List(values) => (writer.list(values.len())?, Some(values)),
        Value::Dict(values) => (writer.dict(values.len() / 2)?, Some(values)),
    };
    for value in inner.into_iter().flat_map(|values| values.iter()) {
        write_into(writer, value, written)?;
    }
    written.extend(value.address().map(|address| (address, place)));
    Ok(())
}

/// Whether two values are equal, bit by bit, and each part of one is the same part again wherever that of the other is.
pub(crate) fn are_alike(one: &Value, other: &Value) -> bool {
    are_alike_beside(one, other, &mut HashMap::new(), &mut HashMap::new())
}

fn are_alike_beside(
    one: &Value,
    other: &Value,
    there: &mut HashMap<usize, usize>,
    back: &mut HashMap<usize, usize>,
) -> bool {
    if let (Some(a), Some(b)) = (one.address(), other.address()) {
        match (there.insert(a, b), back.insert(b, a)) {
            (None, None) => {}
            // Compared before, or being compared.
            (was, back_was) => return was == Some(b) && back_was == Some(a),
        }
    }
    match (one, other) {
        (Value::None, Value::None) => true,
        (Value::Boolean(a), Value::Boolean(b)) => a == b,
        (Value::Integer(a), Value::Integer(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Tuple(a), Value::Tuple(b))
        | (Value::List(a), Value::List(b))
        | (Value::Dict(a), Value::Dict(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| are_alike_beside(a, b, there, back))
        }
        _ => false,
    }
}

/// What must be true of any bytes: they are refused, or are a value that is the same after it was written and read
/// again. Whether they were a value.
///
/// # Panics
/// When it is not so.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let Ok(value) = read(bytes) else { return false };
    let written = write(&value).expect("no longer than what was read");
    assert!(written.len() <= bytes.len(), "{written:x?} of {bytes:x?}");
    let again = read(&written).expect("what was written can be read");
    assert!(are_alike(&value, &again), "{written:x?} of {bytes:x?}");
    assert_eq!(write(&again), Ok(written), "there is one way to write a value");
    true
}
