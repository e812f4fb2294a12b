//! The codec: what is written comes back; whatever else is read is refused.

#[path = "codec/value.rs"]
mod value;

use manyhands::codec::{FIRST, MOST_BYTES, MOST_NESTED, Writer};
use std::path::Path;
use std::rc::Rc;
use value::{Value, are_alike, check, read, write};

const AGAIN: u8 = 0x08;
const INTEGER_0: u8 = 0xa0;
const TEXT: u8 = 0x10;
const TUPLE: u8 = 0x18;
const LIST: u8 = 0x1c;
const DICT: u8 = 0x20;
const LONG: u8 = 1;
const KEPT: u8 = 2;

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn tuple<const N: usize>(values: [Value; N]) -> Value {
    Value::Tuple(Rc::new(values))
}

fn list<const N: usize>(values: [Value; N]) -> Value {
    Value::List(Rc::new(values))
}

/// Values of every kind and of every length of encoding.
fn samples() -> Vec<Value> {
    let mut samples = vec![Value::None, Value::Boolean(false), Value::Boolean(true)];
    for power in 0..64 {
        let edge = 1i64.wrapping_shl(power);
        let around = [edge.wrapping_sub(1), edge, edge.wrapping_add(1)];
        samples.extend(around.into_iter().flat_map(|n| [n, n.wrapping_neg()]).map(Value::Integer));
    }
    samples.extend((-40..=100).map(Value::Integer));
    let floats = [0.0, -0.0, 1.5, f64::MAX, f64::INFINITY, f64::NAN, f64::MIN_POSITIVE];
    samples.extend(floats.map(|float| Value::Float(float.to_bits())));
    // A signalling NaN, and a quiet one with a payload and the sign.
    samples.extend([0x7ff0_0000_0000_0001, 0xfff8_dead_beef_0001].map(Value::Float));
    for count in [0, 1, 255, 256, 300, 10_000] {
        samples.push(text(&"z".repeat(count)));
        samples.push(Value::Bytes(vec![0xff; count].into()));
        samples.push(Value::Tuple(vec![Value::None; count].into()));
        samples.push(Value::List(vec![Value::Integer(-1); count].into()));
        samples.push(Value::Dict((0..2 * count as i64).map(Value::Integer).collect()));
    }
    let shared = text("the same");
    samples.push(list([shared.clone(), shared.clone(), text("the same"), tuple([shared])]));
    let pair = tuple([Value::Float(0), text("é\0€")]);
    samples.push(list([pair.clone(), list([pair.clone()]), pair]));
    samples
}

#[test]
fn what_is_written_comes_back() {
    for value in samples() {
        let message = write(&value).expect("not too long");
        assert!(are_alike(&read(&message).expect("readable"), &value), "{message:x?}");
        assert!(check(&message));
    }
}

#[test]
fn the_bytes_are_those_of_the_table() {
    let pair = tuple([Value::Integer(0), Value::Integer(1000)]);
    let value = Value::Dict(Rc::new([text("a"), pair.clone(), Value::None, pair]));
    let expected = [FIRST, DICT, 2, TEXT, 1, b'a', TUPLE | KEPT, 2, INTEGER_0, 4, 0xe8, 0x03, 0, AGAIN, 6, 0];
    assert_eq!(write(&value).expect("short"), expected);
}

#[test]
fn a_part_of_a_message_is_none() {
    for value in samples() {
        let mut message = write(&value).expect("not too long");
        message.truncate(600);
        for end in 0..message.len() - 1 {
            assert!(read(&message[..end]).is_err(), "{end} bytes of {message:x?}");
        }
    }
    assert!(read(&[]).is_err());
    assert!(read(&[FIRST]).is_err());
    assert!(read(&[0x80, 4, b'N', b'.']).is_err(), "a pickle");
}

#[test]
fn a_message_with_something_behind_it_is_none() {
    for value in samples() {
        let mut message = write(&value).expect("not too long");
        message.push(0);
        assert!(read(&message).is_err());
    }
}

#[test]
fn nothing_is_nested_deeper_than_the_limit() {
    let nested = |levels: u8| {
        let mut message = vec![FIRST];
        (0..levels).for_each(|_| message.extend([LIST, 1]));
        message.push(0);
        message
    };
    assert!(check(&nested(MOST_NESTED)));
    assert!(read(&nested(MOST_NESTED + 1)).is_err());
}

#[test]
fn a_count_without_its_values_is_refused() {
    for tag in [TEXT, 0x14, TUPLE, LIST, DICT] {
        assert!(read(&[FIRST, tag | LONG, 0xff, 0xff, 0]).is_err());
        assert!(read(&[FIRST, tag | LONG | KEPT, 0xff, 0xff, 0]).is_err());
        assert!(read(&[FIRST, tag, 2, 0]).is_err());
    }
}

#[test]
fn only_what_was_kept_and_is_complete_comes_again() {
    let good = [FIRST, TUPLE, 2, TEXT | KEPT, 1, b'a', AGAIN, 3, 0];
    assert!(check(&good));
    // A tuple that contains itself, a text that is not kept, a place between two, one ahead, one before all.
    assert!(read(&[FIRST, TUPLE | KEPT, 1, AGAIN, 1, 0]).is_err());
    assert!(read(&[FIRST, TUPLE, 2, TEXT, 1, b'a', AGAIN, 3, 0]).is_err());
    for place in [0, 1, 2, 4, 5, 6, 7, 255] {
        let mut bad = good;
        bad[7] = place;
        assert!(read(&bad).is_err(), "{place}");
    }
    // Texts that were kept and are met inside of something that is not complete.
    assert!(check(&[FIRST, LIST | KEPT, 2, TEXT | KEPT, 1, b'a', LIST, 1, AGAIN, 3, 0]));
}

#[test]
fn what_is_shared_at_each_level_takes_no_time() {
    let mut value = text("x");
    for _ in 0..MOST_NESTED {
        value = tuple([value.clone(), value]);
    }
    let message = write(&value).expect("short");
    assert!(check(&message));
}

#[test]
fn no_tag_but_those_of_the_table() {
    let with_values = |tag: u8| [&[FIRST, tag][..], &[1; 16]].concat();
    let good: Vec<u8> =
        (0..=255).filter(|tag| (1..18).any(|len| read(&with_values(*tag)[..len]).is_ok())).collect();
    // After `FIRST, tag` come ones: counts of one, and each a truth value. Nothing is kept at place 257; no dict of one.
    let counted = [TEXT, 0x14, TUPLE, LIST, DICT].into_iter().flat_map(|tag| [tag, tag | KEPT]);
    let expected: Vec<u8> = (0..AGAIN).chain(counted).chain(0x80..=255).collect();
    assert_eq!(good, expected);
}

#[test]
fn a_message_has_an_end() {
    let mut buffer = Vec::new();
    let mut writer = Writer::new(&mut buffer);
    let most = MOST_BYTES - 4;
    assert!(writer.bytes(&vec![0; most]).is_ok());
    assert_eq!(buffer.len(), MOST_BYTES);
    assert!(check(&buffer));
    let mut writer = Writer::new(&mut buffer);
    assert!(writer.bytes(&vec![0; most + 1]).is_err());
    assert!(Writer::new(&mut buffer).tuple(1 << 16).is_err());
    let mut writer = Writer::new(&mut buffer);
    let full = (0..).find(|_| writer.float(0.5).is_err());
    assert_eq!(full, Some((MOST_BYTES - 1) / 9));
    assert!(read(&vec![FIRST; MOST_BYTES + 1]).is_err());
}

/// A generator of bytes that are the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 8) as usize % end
    }
}

#[test]
fn random_damage_is_refused_or_is_another_message() {
    let mut random = Random(0x1234_5678_9abc_def1);
    let messages: Vec<Vec<u8>> = samples().iter().filter_map(|value| write(value).ok()).collect();
    let mut good = 0;
    for _ in 0..100_000 {
        let mut message = messages[random.below(messages.len())].clone();
        message.truncate(400);
        for _ in 0..=random.below(4) {
            let at = random.below(message.len());
            message[at] = random.next() as u8;
        }
        good += u32::from(check(&message));
    }
    assert!(good > 1_000, "the damage is too great to find anything: {good}");
}

#[test]
fn random_bytes_are_refused_or_a_message() {
    let mut random = Random(0xfeed_beef_0bad_cafe);
    // Mostly tags, so that there is something behind the first byte.
    let tags: Vec<u8> = (0..=AGAIN).chain([TUPLE, TUPLE | KEPT, LIST | KEPT, DICT, TEXT, 1, 2, 3]).collect();
    let mut good = 0;
    for _ in 0..100_000 {
        let mut message = vec![FIRST];
        for _ in 0..1 + random.below(24) {
            let tag = tags[random.below(tags.len())];
            message.push(if random.below(8) == 0 { random.next() as u8 } else { tag });
        }
        good += u32::from(check(&message));
    }
    assert!(good > 100, "{good}");
}

/// What fuzzing begins with, and what it has found.
#[test]
fn the_seeds_of_the_fuzz_target_hold() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/codec");
    let (mut good, mut bad) = (0, 0);
    for entry in std::fs::read_dir(folder).expect("the seeds") {
        let bytes = std::fs::read(entry.expect("a seed").path()).expect("a seed");
        *(if check(&bytes) { &mut good } else { &mut bad }) += 1;
    }
    assert!(good >= 8 && bad >= 4, "{good} messages, {bad} others");
}
