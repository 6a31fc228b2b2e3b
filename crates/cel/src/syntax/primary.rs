//! What operators stand between: names, calls, literals, lists, maps, messages.

use super::ast::{Element, Entry, Expr, Field, Message, Node};
use super::lexer::{Kind, Token};
use super::literal;
use super::parser::{Parse, Parser, Stop, Tree};
use crate::names::RESERVED;
use crate::value::Value;

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Parse<Tree> {
        let token = self.peek();
        match token.kind {
            Kind::Identifier => self.name(),
            Kind::Dot if self.kind_after(1) == Kind::Identifier => self.name(),
            Kind::OpenParen => {
                self.next();
                let tree = self.expr()?;
                self.expect(Kind::CloseParen)?;
                Ok(tree)
            }
            Kind::OpenBracket => self.list(),
            Kind::OpenBrace => self.map(),
            Kind::Dot => Err(Stop::Syntax),
            _ => self.literal(),
        }
    }

    fn literal(&mut self) -> Parse<Tree> {
        let sign = self.accept(Kind::Minus);
        let token = self.peek();
        let start = sign.unwrap_or(token).start;
        let text = token.text(self.text);
        let value = match token.kind {
            Kind::Int => literal::int(text, sign.is_some()).map(Value::Int).ok_or("invalid int literal"),
            Kind::Uint => literal::uint(text).map(Value::Uint).ok_or("invalid uint literal"),
            Kind::Float => match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::Double(if sign.is_some() { -number } else { number })),
                _ => Err("invalid double literal"),
            },
            Kind::String => literal::unquote(text, false)
                .and_then(|text| String::from_utf8(text).map_err(|_| literal::BAD))
                .map(Value::text),
            Kind::Bytes => literal::unquote(&text[1..], true).map(Value::bytes),
            Kind::True => Ok(Value::Bool(true)),
            Kind::False => Ok(Value::Bool(false)),
            Kind::Null => Ok(Value::Null),
            _ => return Err(Stop::Syntax),
        };
        self.next();
        match value {
            Ok(value) => Ok(self.leaf(start, Node::Literal(value))),
            Err(message) => Ok(Tree { expr: self.report(start, message), height: 0 }),
        }
    }

    /// A variable, a function call or a message.
    fn name(&mut self) -> Parse<Tree> {
        let dot = self.accept(Kind::Dot);
        let token = self.next();
        let id = token.text(self.text);
        let start = dot.unwrap_or(token).start;
        let name = if dot.is_some() { format!(".{id}") } else { id.to_owned() };
        if let Some(length) = self.message_name() {
            return self.message(name, length);
        }
        let reserved = RESERVED.contains(&id).then(|| format!("reserved identifier: {id}"));
        if let Some(open) = self.accept(Kind::OpenParen) {
            let (args, height) = self.arguments()?;
            if let Some(message) = reserved {
                return Ok(Tree { expr: self.report(start, message), height });
            }
            return self.call(open.start, height, name, None, args);
        }
        match reserved {
            Some(message) => Ok(Tree { expr: self.report(start, message), height: 0 }),
            None => Ok(self.leaf(token.start, Node::Ident(name))),
        }
    }

    /// Whether the names from here on lead to `{`, and over how many tokens.
    fn message_name(&self) -> Option<usize> {
        let mut n = 0;
        while self.kind_after(n) == Kind::Dot && self.kind_after(n + 1) == Kind::Identifier {
            n += 2;
        }
        (self.kind_after(n) == Kind::OpenBrace).then_some(n)
    }

    fn message(&mut self, mut name: String, rest: usize) -> Parse<Tree> {
        for _ in 0..rest {
            name.push_str(self.next().text(self.text));
        }
        let open = self.expect(Kind::OpenBrace)?;
        let (mut fields, mut height) = (vec![], 0);
        while self.peek_kind() != Kind::CloseBrace && !(fields.is_empty() && self.peek_kind() == Kind::Comma) {
            let optional = self.accept(Kind::Question).is_some();
            let token = self.peek();
            let name = match token.kind {
                Kind::Identifier => token.text(self.text).to_owned(),
                Kind::Escaped => self.quoted_name(token),
                _ => return Err(Stop::Syntax),
            };
            self.next();
            let colon = self.expect(Kind::Colon)?;
            let id = self.id(colon.start);
            let value = self.expr()?;
            height = height.max(value.height);
            fields.push(Field { id, name, value: value.expr, optional });
            if self.peek_kind() != Kind::Comma || self.kind_after(1) == Kind::CloseBrace {
                break;
            }
            self.next();
        }
        self.accept(Kind::Comma);
        self.expect(Kind::CloseBrace)?;
        let id = self.id(open.start);
        Ok(Tree { expr: Expr { id, kind: Node::Struct(Box::new(Message { name, fields })) }, height })
    }

    fn list(&mut self) -> Parse<Tree> {
        let open = self.next();
        let (mut elements, mut height) = (vec![], 0);
        while self.peek_kind() != Kind::CloseBracket && !(elements.is_empty() && self.peek_kind() == Kind::Comma) {
            let optional = self.accept(Kind::Question).is_some();
            let value = self.expr()?;
            height = height.max(value.height);
            elements.push(Element { value: value.expr, optional });
            if self.peek_kind() != Kind::Comma || self.kind_after(1) == Kind::CloseBracket {
                break;
            }
            self.next();
        }
        self.accept(Kind::Comma);
        self.expect(Kind::CloseBracket)?;
        let id = self.id(open.start);
        Ok(Tree { expr: Expr { id, kind: Node::List(elements) }, height })
    }

    fn map(&mut self) -> Parse<Tree> {
        let open = self.next();
        let (mut entries, mut height) = (vec![], 0);
        while self.peek_kind() != Kind::CloseBrace && !(entries.is_empty() && self.peek_kind() == Kind::Comma) {
            let optional = self.accept(Kind::Question).is_some();
            let key = self.expr()?;
            self.expect(Kind::Colon)?;
            height = height.max(key.height);
            let value = self.expr()?;
            height = height.max(value.height);
            entries.push(Entry { key: key.expr, value: value.expr, optional });
            if self.peek_kind() != Kind::Comma || self.kind_after(1) == Kind::CloseBrace {
                break;
            }
            self.next();
        }
        self.accept(Kind::Comma);
        self.expect(Kind::CloseBrace)?;
        let id = self.id(open.start);
        Ok(Tree { expr: Expr { id, kind: Node::Map(entries) }, height })
    }

    /// The name between backquotes, which the API server does not take.
    pub(super) fn quoted_name(&mut self, token: Token) -> String {
        if !self.syntax.quoted_names {
            self.issues.push((token.start, "unsupported syntax: '`'".to_owned()));
        }
        token.text(self.text).trim_matches('`').to_owned()
    }
}
