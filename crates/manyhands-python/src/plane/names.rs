//! Which names of the main module a pickle has in it, read off its opcodes.
//!
//! Opcodes are those of `pickletools` in the standard library, as the C pickler writes them at protocol 5. A name is pushed
//! as two strings, the module's and its own, each written out or got from the memo, and `STACK_GLOBAL`.

/// Longer pickles are not read: that takes longer than what it saves.
const LONGEST_READ: usize = 64 << 10;

const STACK_GLOBAL: u8 = 0x93;
const MEMOIZE: u8 = 0x94;

/// The names, nested ones with their dots; `None` where the pickle cannot be read in full, or is long.
pub(super) fn of_main(pickle: &[u8]) -> Option<Vec<&str>> {
    if pickle.len() > LONGEST_READ {
        return None;
    }
    let mut reader = Reader { rest: pickle };
    let (mut memo, mut names) = (Vec::new(), Vec::new());
    // What was pushed last, and before: strings alone are known.
    let (mut before, mut last) = (None, None);
    while let Some(opcode) = reader.byte() {
        let pushed = match opcode {
            b'.' => return Some(names),
            // Pushes nothing: a frame, the protocol, or the memo's next place.
            0x95 => {
                reader.bytes(8)?;
                continue;
            }
            0x80 => {
                reader.bytes(1)?;
                continue;
            }
            MEMOIZE => {
                memo.push(last);
                continue;
            }
            STACK_GLOBAL => {
                if matches!(before?, "__main__" | "__mp_main__") {
                    names.push(last?);
                }
                None
            }
            b'h' => *memo.get(usize::from(reader.byte()?))?,
            b'j' => *memo.get(reader.length(4)?)?,
            0x8c => Some(reader.text(1)?),
            b'X' => Some(reader.text(4)?),
            0x8d => Some(reader.text(8)?),
            _ => {
                reader.skip_argument(opcode)?;
                None
            }
        };
        (before, last) = (last, pushed);
    }
    None
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(bytes)
    }

    /// A number of so many bytes, the lowest first.
    fn length(&mut self, bytes: usize) -> Option<usize> {
        let mut number = [0; 8];
        number[..bytes].copy_from_slice(self.bytes(bytes)?);
        usize::try_from(u64::from_le_bytes(number)).ok()
    }

    fn text(&mut self, length_bytes: usize) -> Option<&'a str> {
        let length = self.length(length_bytes)?;
        // A lone surrogate is no text to Rust, and in no name.
        std::str::from_utf8(self.bytes(length)?).ok().or(Some(""))
    }

    fn skip_argument(&mut self, opcode: u8) -> Option<()> {
        let length = match opcode {
            // Marks, constants, and what works on the stack alone.
            b'(' | b'0' | b'1' | b'2' | b'N' | b'Q' | b'R' | b'a' | b'b' | b'd' | b'}' | b'e' | b']'
            | b'l' | b'o' | b's' | b't' | b')' | b'u' => 0,
            0x81 | 0x85..=0x89 | 0x8f..=0x92 | 0x97 | 0x98 => 0,
            b'K' | 0x82 => 1,
            b'M' | 0x83 => 2,
            b'J' | 0x84 => 4,
            b'G' => 8,
            b'C' | 0x8a => self.length(1)?,
            b'B' | 0x8b => self.length(4)?,
            0x8e | 0x96 => self.length(8)?,
            _ => return None,
        };
        self.bytes(length).map(|_| ())
    }
}
