//! From text to tokens, each with its place. What is a token depends on where it stands: within braces, within brackets, and behind the first number in
//! brackets, as in Prometheus, whose words for what is none are kept. Whether a word is a keyword is for the parser to say, since most of them are names too.

mod number;
mod string;

use std::sync::LazyLock;

use regex::Regex;

use crate::ast::Span;
use crate::printer::character;
pub(crate) use number::{length as number_length, number};

/// A token and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    pub(crate) span: Span,
}

/// The kinds of token.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    /// A word; with a colon in it, a metric's name only.
    Word,
    /// A word within braces, where none is a keyword.
    Name,
    /// A number, or why it is none.
    Number(Result<f64, String>),
    /// A duration such as `1h30m`, in milliseconds, or why it is none.
    Duration(Result<i64, String>),
    /// A string, without its quotes and escapes.
    String(String),
    /// An operator or a bracket.
    Symbol(&'static str),
    /// The end of the text.
    End,
    /// What is no token; the last one.
    Error(String),
}

/// Whether a name may begin with this; `utf8` allows letters of all scripts.
fn begins_name(c: char, utf8: bool) -> bool {
    c.is_ascii_alphabetic() || c == '_' || (utf8 && !c.is_ascii() && is_letter(c))
}

/// Whether a name may go on with this; `utf8` allows letters of all scripts and dots.
fn goes_on_with_name(c: char, utf8: bool) -> bool {
    begins_name(c, utf8) || c.is_ascii_digit() || (utf8 && c == '.')
}

/// Whether a name of a label needs no quotes.
pub(crate) fn is_plain_name(name: &str, utf8: bool) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| begins_name(c, utf8)) && chars.all(|c| goes_on_with_name(c, utf8))
}

/// Whether a character is a letter in the sense of Go: of the general category L. What Rust calls alphabetic has marks and letter-like numbers too.
fn is_letter(c: char) -> bool {
    static LETTER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^\p{L}$").expect("the pattern is valid: a test runs it"));
    c.is_alphabetic() && LETTER.is_match(c.encode_utf8(&mut [0; 4]))
}

/// Splits the text. The last token is the end, or the first error.
pub(crate) fn tokens(input: &str, unquoted_utf8_names: bool) -> Vec<Token> {
    let mut lexer = Lexer { input, unquoted_utf8_names, ..Lexer::default() };
    let mut out = Vec::new();
    loop {
        let before = lexer.at;
        let kind = lexer.next().unwrap_or_else(TokenKind::Error);
        crate::work::add(1 + lexer.at - before);
        let is_last = matches!(kind, TokenKind::End | TokenKind::Error(_));
        // An error is at all that is left.
        let end = if matches!(kind, TokenKind::Error(_)) { input.len() } else { lexer.at };
        out.push(Token { kind, span: Span { start: lexer.start, end } });
        if is_last {
            return out;
        }
    }
}

/// Whose rules hold for the next token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Statement,
    /// Within braces.
    Braces,
    /// Within brackets, until a number was read.
    Duration,
}

#[derive(Debug, Default)]
struct Lexer<'a> {
    input: &'a str,
    /// Whether names may have letters of all scripts, and dots, without quotes.
    unquoted_utf8_names: bool,
    at: usize,
    /// Where the token begins that is being read.
    start: usize,
    place: Place,
    parens: usize,
    in_brackets: bool,
    /// Whether there was a colon in these brackets.
    colon: bool,
    /// Whether there was a number or a word in these brackets.
    duration: bool,
}

type Lexed = Result<TokenKind, String>;

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.input[self.at..]
    }

    fn next(&mut self) -> Lexed {
        self.blank();
        self.start = self.at;
        match self.place {
            Place::Braces => self.in_braces(),
            Place::Duration => self.in_duration(),
            Place::Statement => self.statement(),
        }
    }

    /// Skips blanks, and comments where they may be.
    fn blank(&mut self) {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            if self.place == Place::Duration || !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find(['\n', '\r']).unwrap_or(self.rest().len());
        }
    }

    /// Takes the first character, which is this.
    fn bump(&mut self, c: char) {
        self.at += c.len_utf8();
    }

    fn symbol(&mut self, symbol: &'static str) -> Lexed {
        self.at += symbol.len();
        Ok(TokenKind::Symbol(symbol))
    }

    /// The first of these that the text begins with.
    fn one_of(&mut self, symbols: &[&'static str]) -> Option<Lexed> {
        let symbol = symbols.iter().find(|symbol| self.rest().starts_with(**symbol))?;
        Some(self.symbol(symbol))
    }

    /// An error behind a token that was taken.
    fn behind<T>(&mut self, message: String) -> Result<T, String> {
        self.start = self.at;
        Err(message)
    }

    fn statement(&mut self) -> Lexed {
        let Some(first) = self.rest().chars().next() else {
            return match () {
                () if self.parens > 0 => Err("unclosed left parenthesis".to_owned()),
                () if self.in_brackets => Err("unclosed left bracket".to_owned()),
                () => Ok(TokenKind::End),
            };
        };
        match first {
            '=' | '!' => {
                if let Some(symbol) = self.one_of(&["==", "!="]) {
                    return symbol;
                }
                self.bump(first);
                let next = self.rest().chars().next();
                if first == '=' && next != Some('~') {
                    return Ok(TokenKind::Symbol("="));
                }
                // The end is shown as what is no character.
                Err(format!("unexpected character after '{first}': {}", character(next.unwrap_or('\u{fffd}'))))
            }
            '0'..='9' => self.number_or_duration(),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number_or_duration(),
            '"' | '\'' | '`' => self.string(),
            first if first == ':' || begins_name(first, self.unquoted_utf8_names) => self.word(first),
            '(' | ')' => self.parenthesis(first),
            '{' => {
                self.place = Place::Braces;
                self.symbol("{")
            }
            '[' if self.in_brackets => Err(format!("unexpected left bracket {}", character('['))),
            '[' => {
                (self.in_brackets, self.colon, self.duration, self.place) = (true, false, false, Place::Duration);
                self.symbol("[")
            }
            ']' if !self.in_brackets => Err(format!("unexpected right bracket {}", character(']'))),
            ']' => {
                self.in_brackets = false;
                self.symbol("]")
            }
            _ => {
                let symbols = ["<=", "</", ">=", ">/", "<", ">", ",", "*", "/", "%", "+", "-", "^", "@"];
                self.one_of(&symbols).unwrap_or_else(|| Err(format!("unexpected character: {}", character(first))))
            }
        }
    }

    fn parenthesis(&mut self, c: char) -> Lexed {
        if c == '(' {
            self.parens += 1;
            return self.symbol("(");
        }
        let symbol = self.symbol(")");
        if self.parens == 0 {
            return self.behind(format!("unexpected right parenthesis {}", character(')')));
        }
        self.parens -= 1;
        symbol
    }

    /// A word, or what stands for one in brackets.
    fn word(&mut self, first: char) -> Lexed {
        if !self.in_brackets {
            self.name(true);
            return Ok(TokenKind::Word);
        }
        if first == ':' {
            if self.colon {
                return Err(format!("unexpected colon {}", character(':')));
            }
            self.colon = true;
            return self.symbol(":");
        }
        if self.keyword() {
            return Ok(TokenKind::Word);
        }
        Err(format!("unexpected character: {}, expected {}", character(first), character(':')))
    }

    /// Takes a name, which may have colons or not.
    fn name(&mut self, colons: bool) {
        let utf8 = self.unquoted_utf8_names;
        let is_part = |c: &char| goes_on_with_name(*c, utf8) || (colons && *c == ':');
        self.at += self.rest().chars().take_while(is_part).map(char::len_utf8).sum::<usize>();
    }

    /// Takes a word that may stand in a duration, if one is next.
    fn keyword(&mut self) -> bool {
        let length = self.rest().bytes().take_while(|b| b.is_ascii_alphabetic() || *b == b'_').count();
        let word = &self.rest()[..length];
        let is_one = ["step", "range", "max_of", "min_of"].iter().any(|known| word.eq_ignore_ascii_case(known));
        self.at += if is_one { length } else { 0 };
        is_one
    }

    fn in_duration(&mut self) -> Lexed {
        let Some(first) = self.rest().chars().next() else {
            return Err("unexpected end of input in duration expression".to_owned());
        };
        match first {
            ']' => {
                (self.in_brackets, self.colon, self.place) = (false, false, Place::Statement);
                self.symbol("]")
            }
            ':' => {
                let symbol = self.symbol(":");
                if !self.duration {
                    return self.behind("unexpected colon before duration in duration expression".to_owned());
                }
                if self.colon {
                    return self.behind("unexpected repeated colon in duration expression".to_owned());
                }
                self.colon = true;
                symbol
            }
            '(' | ')' => self.parenthesis(first),
            '0'..='9' => self.first_duration(),
            '.' if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.first_duration(),
            _ => {
                if let Some(symbol) = self.one_of(&["+", "-", "*", "/", "%", "^", ","]) {
                    return symbol;
                }
                if self.keyword() {
                    self.duration = true;
                    return Ok(TokenKind::Word);
                }
                Err(format!("unexpected character in duration expression: {}", character(first)))
            }
        }
    }

    fn first_duration(&mut self) -> Lexed {
        (self.duration, self.place) = (true, Place::Statement);
        self.number_or_duration()
    }

    fn in_braces(&mut self) -> Lexed {
        let Some(first) = self.rest().chars().next() else {
            return Err("unexpected end of input inside braces".to_owned());
        };
        match first {
            first if begins_name(first, self.unquoted_utf8_names) => {
                self.name(false);
                Ok(TokenKind::Name)
            }
            '"' | '\'' | '`' => self.string(),
            '!' => {
                if let Some(symbol) = self.one_of(&["!~", "!="]) {
                    return symbol;
                }
                let next = self.rest().chars().nth(1).unwrap_or('\u{fffd}');
                Err(format!("unexpected character after '!' inside braces: {}", character(next)))
            }
            '{' => Err(format!("unexpected left brace {}", character('{'))),
            '}' => {
                self.place = Place::Statement;
                self.symbol("}")
            }
            _ => self
                .one_of(&["=~", "=", ","])
                .unwrap_or_else(|| Err(format!("unexpected character inside braces: {}", character(first)))),
        }
    }

    fn number_or_duration(&mut self) -> Lexed {
        let (kind, length) = number::scan(self.rest())?;
        self.at += length;
        Ok(kind)
    }

    fn string(&mut self) -> Lexed {
        let (text, length) = string::scan(self.rest())?;
        self.at += length;
        Ok(TokenKind::String(text))
    }
}
