//! The slow truth of cleaning, and a terminal that tells what it was made to do.
//!
//! The truth goes a character at a time, where what ships goes by blocks of bytes. The terminal is another's (`vte`): that
//! nothing harmful is left is for it to say.

/// A line's text as it may stand on other people's terminals.
pub(crate) fn cleaned(text: &[u8]) -> String {
    let mend = |character: char| match character {
        '\t' => '\t',
        '\u{7F}' => '\u{2421}',
        '\0'..='\u{1F}' => char::from_u32(0x2400 + u32::from(character)).expect("a picture"),
        '\u{80}'..='\u{9F}'
        | '\u{61C}'
        | '\u{200E}'
        | '\u{200F}'
        | '\u{2028}'..='\u{202E}'
        | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        _ => character,
    };
    String::from_utf8_lossy(text).chars().map(mend).collect()
}

/// As [`cleaned`], for a stream: no character has a line feed in it, so lines can be cleaned apart.
pub(crate) fn cleaned_lines(bytes: &[u8]) -> Vec<u8> {
    let lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(|line| cleaned(line).into_bytes()).collect();
    lines.join(&b'\n')
}

/// What a terminal does when it is shown this, but for showing characters and going to a tabulator.
pub(crate) fn deeds(shown: &[u8]) -> Vec<String> {
    let mut deeds = Deeds::default();
    vte::Parser::new().advance(&mut deeds, shown);
    deeds.0
}

#[derive(Default)]
struct Deeds(Vec<String>);

impl vte::Perform for Deeds {
    fn execute(&mut self, byte: u8) {
        if byte != b'\t' {
            self.0.push(format!("execute {byte:#x}"));
        }
    }

    fn hook(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
        self.0.push(format!("device control {action}"));
    }

    fn put(&mut self, byte: u8) {
        self.0.push(format!("put {byte:#x}"));
    }

    fn osc_dispatch(&mut self, parameters: &[&[u8]], _: bool) {
        self.0.push(format!("operating system command {parameters:?}"));
    }

    fn csi_dispatch(&mut self, _: &vte::Params, _: &[u8], _: bool, action: char) {
        self.0.push(format!("control sequence {action}"));
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        self.0.push(format!("escape {byte:#x}"));
    }
}
