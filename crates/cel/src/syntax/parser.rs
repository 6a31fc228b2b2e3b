//! The grammar: cel-spec's `CEL.g4`, with the limits and the words of cel-go.

use super::ast::{Call, Expr, Id, Node, Select, operator};
use super::diagnose::{Problem, diagnose};
use super::lexer::{Kind, Token, Unrecognized, tokens};
use super::source::{Issue, Issues, Location, Places};
use super::{Syntax, macros};
use crate::value::Value;

/// The longest expression, in code points.
const LONGEST: usize = 100_000;
/// How deep a rule of the grammar may nest, and a tree.
pub(super) const DEEPEST: usize = 250;
/// How many errors of the syntax are told.
const MOST_SYNTAX_ERRORS: usize = 100;

/// A tree and where its nodes stand in the text.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) tree: Expr,
    /// The byte offset of every node, by id.
    pub(crate) offsets: Vec<u32>,
}

/// Reads an expression.
pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<Parsed, Issues> {
    let whole = |message: String| Err(Issues::new(text, vec![Issue { at: Location::NONE, message }]));
    let size = text.chars().count();
    if size > LONGEST {
        return whole(format!("expression code point size exceeds limit: size: {size}, limit {LONGEST}"));
    }
    let (tokens, unrecognized) = tokens(text);
    let mut parser =
        Parser { text, tokens: &tokens, at: 0, offsets: vec![0], issues: vec![], syntax, depth: Depth::default() };
    let result = parser.start();
    let places = Places::new(text);
    let mut issues: Vec<Issue> = parser
        .issues
        .iter()
        .map(|(offset, message)| Issue { at: places.at(*offset), message: message.clone() })
        .collect();
    match result {
        Ok(tree) if issues.is_empty() && unrecognized.is_empty() => Ok(Parsed { tree, offsets: parser.offsets }),
        Err(Stop::TooDeep(message)) => whole(message),
        result => {
            if result.is_err() || !unrecognized.is_empty() {
                let failed = result.is_err().then_some(parser.at);
                issues.extend(syntax_issues(text, &places, &tokens, &unrecognized, failed));
            }
            Err(Issues::new(text, issues))
        }
    }
}

fn syntax_issues(
    text: &str,
    places: &Places<'_>,
    tokens: &[Token],
    unrecognized: &[Unrecognized],
    failed: Option<usize>,
) -> Vec<Issue> {
    let told = unrecognized.iter().map(|(start, end)| {
        let what = text[*start as usize..*end as usize].replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t");
        Problem { at: Some(*start), message: format!("token recognition error at: '{what}'") }
    });
    let issue = |problem: Problem| match problem.at {
        Some(offset) => {
            let mut at = places.at(offset);
            // cel-go has no column in an empty text.
            if text.is_empty() {
                at.column = -1;
            }
            Issue { at, message: format!("Syntax error: {}", problem.message) }
        }
        None => Issue { at: Location::NONE, message: problem.message },
    };
    told.chain(diagnose(text, tokens, unrecognized, failed)).take(MOST_SYNTAX_ERRORS).map(issue).collect()
}

/// A rule is nested too often.
pub(super) fn too_deep() -> String {
    format!("expression recursion limit exceeded: {DEEPEST}")
}

/// Why there is no tree.
#[derive(Debug)]
pub(super) enum Stop {
    /// The text does not follow the grammar; [`diagnose`] says how.
    Syntax,
    TooDeep(String),
}

pub(super) type Parse<T> = Result<T, Stop>;

/// How deep each recursive rule is nested now.
#[derive(Default)]
struct Depth {
    expr: usize,
    relation: usize,
    calc: usize,
    member: usize,
}

/// A subtree and its height, as the limit counts it.
pub(super) struct Tree {
    pub(super) expr: Expr,
    pub(super) height: usize,
}

pub(super) struct Parser<'a> {
    pub(super) text: &'a str,
    tokens: &'a [Token],
    at: usize,
    offsets: Vec<u32>,
    pub(super) issues: Vec<(u32, String)>,
    pub(super) syntax: Syntax,
    depth: Depth,
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Token {
        self.tokens[self.at]
    }

    pub(super) fn peek_kind(&self) -> Kind {
        self.peek().kind
    }

    pub(super) fn kind_after(&self, n: usize) -> Kind {
        self.tokens.get(self.at + n).map_or(Kind::End, |t| t.kind)
    }

    pub(super) fn next(&mut self) -> Token {
        let token = self.peek();
        if token.kind != Kind::End {
            self.at += 1;
        }
        token
    }

    pub(super) fn accept(&mut self, kind: Kind) -> Option<Token> {
        (self.peek_kind() == kind).then(|| self.next())
    }

    pub(super) fn expect(&mut self, kind: Kind) -> Parse<Token> {
        match self.accept(kind) {
            Some(token) => Ok(token),
            None => Err(Stop::Syntax),
        }
    }

    pub(super) fn id(&mut self, offset: u32) -> Id {
        let id = self.offsets.len() as Id;
        self.offsets.push(offset);
        id
    }

    pub(super) fn report(&mut self, offset: u32, message: impl Into<String>) -> Expr {
        self.issues.push((offset, message.into()));
        self.leaf(offset, Node::Literal(Value::Null)).expr
    }

    pub(super) fn leaf(&mut self, offset: u32, kind: Node) -> Tree {
        Tree { expr: Expr { id: self.id(offset), kind }, height: 0 }
    }

    /// A node above others, which makes the tree higher.
    fn above(&mut self, offset: u32, height: usize, kind: Node) -> Parse<Tree> {
        if height >= DEEPEST {
            return Err(Stop::TooDeep("max recursion depth exceeded".to_owned()));
        }
        Ok(Tree { expr: Expr { id: self.id(offset), kind }, height: height + 1 })
    }

    fn enter(&mut self, rule: fn(&mut Depth) -> &mut usize) -> Parse<()> {
        let depth = rule(&mut self.depth);
        *depth += 1;
        if *depth > DEEPEST {
            return Err(Stop::TooDeep(too_deep()));
        }
        Ok(())
    }

    fn start(&mut self) -> Parse<Expr> {
        let tree = self.expr()?;
        if self.peek_kind() == Kind::End {
            return Ok(tree.expr);
        }
        Err(Stop::Syntax)
    }

    pub(super) fn expr(&mut self) -> Parse<Tree> {
        self.enter(|depth| &mut depth.expr)?;
        let tree = self.binary(Level::Or)?;
        let tree = if self.peek_kind() == Kind::Question { self.conditional(tree)? } else { tree };
        self.depth.expr -= 1;
        Ok(tree)
    }

    fn conditional(&mut self, condition: Tree) -> Parse<Tree> {
        let op = self.next();
        let yes = self.binary(Level::Or)?;
        self.expect(Kind::Colon)?;
        let no = self.expr()?;
        let height = condition.height.max(yes.height).max(no.height);
        self.operation(op.start, height, operator::CONDITIONAL, vec![condition.expr, yes.expr, no.expr])
    }

    /// Operators from a level on.
    fn binary(&mut self, from: Level) -> Parse<Tree> {
        let before = (self.depth.relation, self.depth.calc);
        self.enter(|depth| &mut depth.relation)?;
        self.enter(|depth| &mut depth.calc)?;
        let mut left = self.unary()?;
        while let Some((level, function)) = binary_operator(self.peek_kind()).filter(|(level, _)| *level >= from) {
            left = self.operator(left, level, function)?;
        }
        (self.depth.relation, self.depth.calc) = before;
        Ok(left)
    }

    // What follows an operand is read by functions of its own, here and below: the frames of those that call each other
    // for every nested expression stay small.
    fn operator(&mut self, left: Tree, level: Level, function: &str) -> Parse<Tree> {
        match level {
            Level::Or => self.logical(left, function, Level::And),
            Level::And => self.logical(left, function, Level::Relation),
            Level::Relation => self.infix(left, function, Level::Sum, |depth| &mut depth.relation),
            Level::Sum => self.infix(left, function, Level::Product, |depth| &mut depth.calc),
            Level::Product | Level::Unary => self.infix(left, function, Level::Unary, |depth| &mut depth.calc),
        }
    }

    fn infix(&mut self, left: Tree, function: &str, right: Level, rule: fn(&mut Depth) -> &mut usize) -> Parse<Tree> {
        let op = self.next();
        self.enter(rule)?;
        let right = self.binary(right)?;
        self.operation(op.start, left.height.max(right.height), function, vec![left.expr, right.expr])
    }

    /// `a || b || c` and `a && b && c`, which become balanced trees.
    fn logical(&mut self, first: Tree, function: &str, terms_from: Level) -> Parse<Tree> {
        let kind = self.peek_kind();
        let mut height = first.height;
        let (mut terms, mut ops) = (vec![Some(first.expr)], vec![]);
        while let Some(op) = self.accept(kind) {
            let term = self.binary(terms_from)?;
            height = height.max(term.height);
            terms.push(Some(term.expr));
            ops.push(op.start);
        }
        let expr = self.balanced(function, &mut terms, &ops);
        Ok(Tree { expr, height })
    }

    fn balanced(&mut self, function: &str, terms: &mut [Option<Expr>], ops: &[u32]) -> Expr {
        let Some(last) = ops.len().checked_sub(1) else {
            return terms[0].take().unwrap_or(Expr { id: 0, kind: Node::Literal(Value::Null) });
        };
        let middle = last.div_ceil(2);
        let (left_terms, right_terms) = terms.split_at_mut(middle + 1);
        let left = self.balanced(function, left_terms, &ops[..middle]);
        let right = self.balanced(function, right_terms, &ops[middle + 1..]);
        let id = self.id(ops[middle]);
        Expr {
            id,
            kind: Node::Call(Box::new(Call { function: function.to_owned(), target: None, args: vec![left, right] })),
        }
    }

    fn operation(&mut self, offset: u32, height: usize, function: &str, args: Vec<Expr>) -> Parse<Tree> {
        self.above(offset, height, Node::Call(Box::new(Call { function: function.to_owned(), target: None, args })))
    }

    fn unary(&mut self) -> Parse<Tree> {
        match self.peek_kind() {
            Kind::Exclam => self.prefix(Kind::Exclam, operator::NOT),
            Kind::Minus if !matches!(self.kind_after(1), Kind::Int | Kind::Float) => {
                self.prefix(Kind::Minus, operator::NEGATE)
            }
            _ => self.member(),
        }
    }

    fn prefix(&mut self, kind: Kind, function: &str) -> Parse<Tree> {
        let first = self.peek();
        let mut count = 0;
        while self.accept(kind).is_some() {
            count += 1;
        }
        let tree = self.member()?;
        // An even number of them says nothing.
        if count % 2 == 0 {
            return Ok(tree);
        }
        let id = self.id(first.start);
        let call = Call { function: function.to_owned(), target: None, args: vec![tree.expr] };
        Ok(Tree { expr: Expr { id, kind: Node::Call(Box::new(call)) }, height: tree.height })
    }

    fn member(&mut self) -> Parse<Tree> {
        let before = self.depth.member;
        self.enter(|depth| &mut depth.member)?;
        let mut tree = self.primary()?;
        while matches!(self.peek_kind(), Kind::Dot | Kind::OpenBracket) {
            self.enter(|depth| &mut depth.member)?;
            tree = if self.peek_kind() == Kind::Dot { self.dot(tree)? } else { self.index(tree)? };
        }
        self.depth.member = before;
        Ok(tree)
    }

    /// `[index]` and `[?index]`.
    fn index(&mut self, operand: Tree) -> Parse<Tree> {
        let open = self.next();
        let optional = self.accept(Kind::Question).is_some();
        let function = if optional { operator::OPTIONAL_INDEX } else { operator::INDEX };
        let index = self.expr()?;
        self.expect(Kind::CloseBracket)?;
        let height = operand.height.max(index.height);
        self.operation(open.start, height, function, vec![operand.expr, index.expr])
    }

    /// `.field`, `.?field` and `.method(...)`.
    fn dot(&mut self, operand: Tree) -> Parse<Tree> {
        let dot = self.next();
        let optional = self.accept(Kind::Question).is_some();
        let name = self.peek();
        let field = match name.kind {
            Kind::Identifier => name.text(self.text).to_owned(),
            Kind::Escaped => self.quoted_name(name),
            _ => return Err(Stop::Syntax),
        };
        self.next();
        if optional {
            let id = self.id(name.start);
            let field = Expr { id, kind: Node::Literal(Value::text(field)) };
            let call =
                Call { function: operator::OPTIONAL_SELECT.to_owned(), target: None, args: vec![operand.expr, field] };
            let id = self.id(dot.start);
            return Ok(Tree { expr: Expr { id, kind: Node::Call(Box::new(call)) }, height: operand.height + 1 });
        }
        if name.kind == Kind::Identifier
            && let Some(open) = self.accept(Kind::OpenParen)
        {
            let (args, height) = self.arguments()?;
            let height = height.max(operand.height);
            return self.call(open.start, height, field, Some(operand.expr), args);
        }
        self.above(
            dot.start,
            operand.height,
            Node::Select(Box::new(Select { operand: operand.expr, field, test: false })),
        )
    }

    pub(super) fn arguments(&mut self) -> Parse<(Vec<Expr>, usize)> {
        let (mut args, mut height) = (vec![], 0);
        if self.accept(Kind::CloseParen).is_some() {
            return Ok((args, height));
        }
        loop {
            let arg = self.expr()?;
            height = height.max(arg.height);
            args.push(arg.expr);
            if self.accept(Kind::Comma).is_none() {
                break;
            }
        }
        self.expect(Kind::CloseParen)?;
        Ok((args, height))
    }

    /// A call, or what a macro makes of it.
    pub(super) fn call(
        &mut self,
        offset: u32,
        height: usize,
        function: String,
        target: Option<Expr>,
        args: Vec<Expr>,
    ) -> Parse<Tree> {
        let call = Call { function, target, args };
        let call = match macros::expand(self.syntax, call, &mut |expr| match expr {
            Some(from) => self.copy_id(from),
            None => self.id(offset),
        }) {
            macros::Expansion::None(call) => call,
            macros::Expansion::Done(expr) => return self.higher(height, expr),
            macros::Expansion::Wrong(at, message) => {
                let at = at.map_or(offset, |id| self.offsets[id as usize]);
                let expr = self.report(at, message);
                return Ok(Tree { expr, height });
            }
        };
        if call.target.is_some() {
            return self.above(offset, height, Node::Call(Box::new(call)));
        }
        let id = self.id(offset);
        Ok(Tree { expr: Expr { id, kind: Node::Call(Box::new(call)) }, height })
    }

    fn copy_id(&mut self, from: Id) -> Id {
        self.id(self.offsets[from as usize])
    }

    fn higher(&self, height: usize, expr: Expr) -> Parse<Tree> {
        if height >= DEEPEST {
            return Err(Stop::TooDeep("max recursion depth exceeded".to_owned()));
        }
        Ok(Tree { expr, height: height + 1 })
    }
}

/// How tightly operators bind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Or,
    And,
    Relation,
    Sum,
    Product,
    Unary,
}

fn binary_operator(kind: Kind) -> Option<(Level, &'static str)> {
    Some(match kind {
        Kind::Or => (Level::Or, operator::OR),
        Kind::And => (Level::And, operator::AND),
        Kind::Less => (Level::Relation, operator::LESS),
        Kind::LessEquals => (Level::Relation, operator::LESS_EQUALS),
        Kind::Greater => (Level::Relation, operator::GREATER),
        Kind::GreaterEquals => (Level::Relation, operator::GREATER_EQUALS),
        Kind::Equals => (Level::Relation, operator::EQUALS),
        Kind::NotEquals => (Level::Relation, operator::NOT_EQUALS),
        Kind::In => (Level::Relation, operator::IN),
        Kind::Plus => (Level::Sum, operator::ADD),
        Kind::Minus => (Level::Sum, operator::SUBTRACT),
        Kind::Star => (Level::Product, operator::MULTIPLY),
        Kind::Slash => (Level::Product, operator::DIVIDE),
        Kind::Percent => (Level::Product, operator::MODULO),
        _ => return None,
    })
}
