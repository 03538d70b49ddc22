//! Characters and the numbers that stand for them.

use core::fmt::{self, Write};

/// Characters of a text, from number 1 on; 0 is padding.
pub const SOURCE: &str = " ',-./0123456789:abcdefghijklmnopqrstuvwxyzßàäèéöûü";
/// Characters of a translation, from number 1 on; 0 stands before and behind it.
pub const TARGET: &str = "-0123456789:T";
/// Numbers that a text may consist of.
pub const SOURCES: usize = 1 + 51;
/// Numbers that a translation may consist of.
pub const TARGETS: usize = 1 + TARGET.len();
/// Characters that a text may have.
pub const LONGEST: usize = 64;
/// Tokens of the longest translation with the 0 behind it.
pub const STEPS: usize = "2026-11-03T16:15".len() + 1;

/// A text that cannot be translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TextError {
    /// There is nothing in it.
    Empty,
    /// It has more than [`LONGEST`] characters.
    TooLong {
        /// How many.
        given: usize,
    },
    /// The model knows no such character.
    Unknown {
        /// The character.
        character: char,
        /// Its place, from 1 on.
        place: usize,
    },
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextError::Empty => write!(f, "given an empty text, wanted a date or a time"),
            TextError::TooLong { given } => {
                write!(f, "given {given} characters, wanted at most {LONGEST}")
            }
            TextError::Unknown { character, place } => write!(
                f,
                "given {character:?} at character {place}, wanted letters of English, German or \
                 French, digits, spaces and any of ',-./:"
            ),
        }
    }
}

impl core::error::Error for TextError {}

/// A text as numbers.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    tokens: [u8; LONGEST],
    len: usize,
}

impl Text {
    /// The numbers of `text`, in which case does not matter, nor space around it.
    ///
    /// # Errors
    /// If it is empty, too long, or has a character that the model does not know.
    ///
    /// ```
    /// use translate_model::text::{Text, TextError};
    /// assert_eq!(Text::new("3 MAI").unwrap().tokens(), Text::new(" 3 mai").unwrap().tokens());
    /// let error = TextError::Unknown { character: '%', place: 2 };
    /// assert_eq!(Text::new("3%").unwrap_err(), error);
    /// ```
    pub fn new(text: &str) -> Result<Self, TextError> {
        let text = text.trim_matches(is_space);
        let (mut tokens, given) = ([0; LONGEST], text.chars().count());
        if given == 0 {
            return Err(TextError::Empty);
        }
        if given > LONGEST {
            return Err(TextError::TooLong { given });
        }
        for (i, (place, character)) in tokens.iter_mut().zip(text.chars()).enumerate() {
            let known = plain(character);
            let number = SOURCE.chars().position(|c| c == known);
            let number = number.ok_or(TextError::Unknown { character, place: i + 1 })?;
            *place = number as u8 + 1;
        }
        Ok(Text { tokens, len: given })
    }

    /// Its numbers.
    pub fn tokens(&self) -> &[u8] {
        self.tokens.get(..self.len).unwrap_or(&[])
    }
}

/// The character as the model knows it: small, and one kind of space and apostrophe.
fn plain(character: char) -> char {
    match character {
        // Latin-1 has its small letters 32 places behind the capitals.
        'À'..='Þ' if character != '×' => {
            char::from_u32(character as u32 + 32).unwrap_or(character)
        }
        'ẞ' => 'ß',
        '’' => '\'',
        space if is_space(space) => ' ',
        _ => character.to_ascii_lowercase(),
    }
}

/// Blanks, tabs, and the spaces that do not break.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\u{a0}' | '\u{202f}')
}

/// What has been written of a translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    tokens: [u8; STEPS],
    len: usize,
    /// A hash (FNV-1a) of the bits of every logit on the way: equal wherever the arithmetic is.
    pub hash: u32,
}

impl Default for Translation {
    fn default() -> Self {
        Translation { tokens: [0; STEPS], len: 0, hash: 0x811c_9dc5 }
    }
}

impl Translation {
    /// Writes the next token and notes the logits that it was chosen by. Nothing after the end.
    pub fn push(&mut self, token: u8, logits: &[f32]) {
        if self.ended() {
            return;
        }
        if let Some(place) = self.tokens.get_mut(self.len) {
            *place = token;
            self.len += 1;
        }
        for byte in logits.iter().flat_map(|logit| logit.to_bits().to_le_bytes()) {
            self.hash = (self.hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
    }

    /// The last token; 0 before the first.
    pub fn last(&self) -> u8 {
        self.tokens().last().copied().unwrap_or(0)
    }

    /// Whether its end has been written, or there is no room for more.
    pub fn ended(&self) -> bool {
        self.len == STEPS || self.tokens().last() == Some(&0)
    }

    /// The characters.
    pub fn characters(&self) -> impl Iterator<Item = char> {
        let at = |token: &u8| usize::from(*token).checked_sub(1);
        let character = move |token| TARGET.as_bytes().get(at(token)?).copied().map(char::from);
        self.tokens().iter().map_while(character)
    }

    /// The tokens, with the 0 behind them once it has ended.
    pub fn tokens(&self) -> &[u8] {
        self.tokens.get(..self.len).unwrap_or(&[])
    }
}

impl fmt::Display for Translation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.characters().try_for_each(|character| f.write_char(character))
    }
}
