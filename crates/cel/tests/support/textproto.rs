//! Reads protocol buffers' text format, as far as the conformance tests use it.

/// A field's value.
#[derive(Clone, Debug)]
pub enum Node {
    /// A number, a word or a text; texts are bytes.
    Scalar(Vec<u8>),
    /// A message.
    Message(Message),
}

/// The fields of a message, in their order.
#[derive(Clone, Debug, Default)]
pub struct Message(pub Vec<(String, Node)>);

impl Message {
    /// The messages in a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Message> {
        self.0.iter().filter_map(move |(field, node)| match node {
            Node::Message(message) if field == name => Some(message),
            _ => None,
        })
    }

    /// The message in a field.
    pub fn get(&self, name: &str) -> Option<&Message> {
        self.0.iter().find_map(|(field, node)| match node {
            Node::Message(message) if field == name => Some(message),
            _ => None,
        })
    }

    /// The text in a field; empty when there is none.
    pub fn text(&self, name: &str) -> String {
        let scalar = self.0.iter().find_map(|(field, node)| match node {
            Node::Scalar(scalar) if field == name => Some(scalar),
            _ => None,
        });
        scalar.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default()
    }

    /// Whether a field is `true`.
    pub fn flag(&self, name: &str) -> bool {
        self.text(name) == "true"
    }
}

/// Reads a file.
pub fn read(text: &str) -> Message {
    let mut reader = Reader { bytes: text.as_bytes(), at: 0 };
    reader.fields(None)
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn skip(&mut self) {
        loop {
            match self.bytes.get(self.at) {
                Some(b) if b.is_ascii_whitespace() || matches!(b, b',' | b';') => self.at += 1,
                Some(b'#') => {
                    while self.bytes.get(self.at).is_some_and(|b| *b != b'\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip();
        self.bytes.get(self.at).copied()
    }

    fn word(&mut self) -> String {
        self.skip();
        if self.bytes[self.at] == b'[' {
            let end = self.bytes[self.at..].iter().position(|b| *b == b']').expect("the end of a name") + self.at;
            let name = String::from_utf8_lossy(&self.bytes[self.at..=end]).into_owned();
            self.at = end + 1;
            return name;
        }
        let start = self.at;
        while self.bytes.get(self.at).is_some_and(|b| b.is_ascii_alphanumeric() || b"_.+-".contains(b)) {
            self.at += 1;
        }
        assert!(self.at > start, "a word at byte {start}");
        String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()
    }

    fn fields(&mut self, end: Option<u8>) -> Message {
        let mut message = Message::default();
        loop {
            match self.peek() {
                None => return message,
                found if found == end => {
                    self.at += 1;
                    return message;
                }
                _ => {}
            }
            let name = self.word();
            if self.peek() == Some(b':') {
                self.at += 1;
            }
            if self.peek() == Some(b'[') {
                self.at += 1;
                while self.peek() != Some(b']') {
                    let value = self.value();
                    message.0.push((name.clone(), value));
                }
                self.at += 1;
                continue;
            }
            let value = self.value();
            message.0.push((name, value));
        }
    }

    fn value(&mut self) -> Node {
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                Node::Message(self.fields(Some(b'}')))
            }
            Some(b'"' | b'\'') => {
                let mut text = Vec::new();
                while matches!(self.peek(), Some(b'"' | b'\'')) {
                    self.string(&mut text);
                }
                Node::Scalar(text)
            }
            _ => Node::Scalar(self.word().into_bytes()),
        }
    }

    fn string(&mut self, out: &mut Vec<u8>) {
        let quote = self.bytes[self.at];
        self.at += 1;
        while self.bytes[self.at] != quote {
            let byte = self.bytes[self.at];
            self.at += 1;
            if byte != b'\\' {
                out.push(byte);
                continue;
            }
            let escape = self.bytes[self.at];
            self.at += 1;
            match escape {
                b'n' => out.push(b'\n'),
                b't' => out.push(b'\t'),
                b'r' => out.push(b'\r'),
                b'a' => out.push(7),
                b'b' => out.push(8),
                b'f' => out.push(12),
                b'v' => out.push(11),
                b'x' => out.push(self.number(16, 2) as u8),
                b'u' => self.character(4, out),
                b'U' => self.character(8, out),
                b'0'..=b'7' => {
                    self.at -= 1;
                    out.push(self.number(8, 3) as u8);
                }
                other => out.push(other),
            }
        }
        self.at += 1;
    }

    fn number(&mut self, radix: u32, most: usize) -> u32 {
        let mut number = 0;
        for _ in 0..most {
            let Some(digit) = char::from(self.bytes[self.at]).to_digit(radix) else { break };
            number = number * radix + digit;
            self.at += 1;
        }
        number
    }

    fn character(&mut self, digits: usize, out: &mut Vec<u8>) {
        let c = char::from_u32(self.number(16, digits)).expect("a character");
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
