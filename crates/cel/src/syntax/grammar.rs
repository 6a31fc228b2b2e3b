//! The grammar of `CEL.g4`, in the shape that ANTLR gives to it.

use super::automaton::Set;
use super::lexer::Kind;

/// The grammar, in the form in which the automaton is built.
pub(super) enum Piece {
    Token(Set),
    Rule(usize, u8),
    Precedence(u8),
    Sequence(Vec<Piece>),
    Choice(Vec<Piece>),
    Maybe(Box<Piece>),
    Any(Box<Piece>),
    Some(Box<Piece>),
}

const EXPR: usize = 1;
const OR: usize = 2;
const AND: usize = 3;
const RELATION: usize = 4;
const CALC: usize = 5;
const UNARY: usize = 6;
const MEMBER: usize = 7;
const PRIMARY: usize = 8;
const EXPR_LIST: usize = 9;
const LIST_INIT: usize = 10;
const FIELDS: usize = 11;
const FIELD: usize = 12;
const ENTRIES: usize = 13;
const NAME: usize = 14;
const OPTIONAL: usize = 15;
const LITERAL: usize = 16;

/// How many rules there are.
pub(super) const RULES: usize = 17;

/// Whether the rule is left-recursive in the grammar as it is written.
pub(super) fn repeats_itself(rule: usize) -> bool {
    matches!(rule, RELATION | CALC | MEMBER)
}

fn token(kind: Kind) -> Piece {
    Piece::Token(Set::of(&[kind]))
}

fn one_of(kinds: &[Kind]) -> Piece {
    Piece::Token(Set::of(kinds))
}

fn rule(rule: usize) -> Piece {
    Piece::Rule(rule, 0)
}

fn all<const N: usize>(pieces: [Piece; N]) -> Piece {
    Piece::Sequence(pieces.into())
}

fn choice<const N: usize>(pieces: [Piece; N]) -> Piece {
    Piece::Choice(pieces.into())
}

fn maybe(piece: Piece) -> Piece {
    Piece::Maybe(Box::new(piece))
}

fn any(piece: Piece) -> Piece {
    Piece::Any(Box::new(piece))
}

fn some(piece: Piece) -> Piece {
    Piece::Some(Box::new(piece))
}

/// The rules by number; the first is the start.
pub(super) fn grammar() -> Vec<Piece> {
    use Kind as K;
    let separated = |by: usize| all([rule(by), any(all([token(K::Comma), rule(by)]))]);
    let pair = |key: usize| all([rule(key), token(K::Colon), rule(EXPR)]);
    vec![
        all([rule(EXPR), token(K::End)]),
        all([rule(OR), maybe(all([token(K::Question), rule(OR), token(K::Colon), rule(EXPR)]))]),
        all([rule(AND), any(all([token(K::Or), rule(AND)]))]),
        all([rule(RELATION), any(all([token(K::And), rule(RELATION)]))]),
        all([
            rule(CALC),
            any(all([
                Piece::Precedence(1),
                one_of(&[K::Equals, K::NotEquals, K::In, K::Less, K::LessEquals, K::GreaterEquals, K::Greater]),
                Piece::Rule(RELATION, 2),
            ])),
        ]),
        all([
            rule(UNARY),
            any(choice([
                all([Piece::Precedence(2), one_of(&[K::Star, K::Slash, K::Percent]), Piece::Rule(CALC, 3)]),
                all([Piece::Precedence(1), one_of(&[K::Plus, K::Minus]), Piece::Rule(CALC, 2)]),
            ])),
        ]),
        choice([rule(MEMBER), all([some(token(K::Exclam)), rule(MEMBER)]), all([some(token(K::Minus)), rule(MEMBER)])]),
        all([
            rule(PRIMARY),
            any(choice([
                all([token(K::Dot), maybe(token(K::Question)), rule(NAME)]),
                all([
                    token(K::Dot),
                    token(K::Identifier),
                    token(K::OpenParen),
                    maybe(rule(EXPR_LIST)),
                    token(K::CloseParen),
                ]),
                all([token(K::OpenBracket), maybe(token(K::Question)), rule(EXPR), token(K::CloseBracket)]),
            ])),
        ]),
        choice([
            all([maybe(token(K::Dot)), token(K::Identifier)]),
            all([
                maybe(token(K::Dot)),
                token(K::Identifier),
                token(K::OpenParen),
                maybe(rule(EXPR_LIST)),
                token(K::CloseParen),
            ]),
            all([token(K::OpenParen), rule(EXPR), token(K::CloseParen)]),
            all([token(K::OpenBracket), maybe(rule(LIST_INIT)), maybe(token(K::Comma)), token(K::CloseBracket)]),
            all([token(K::OpenBrace), maybe(rule(ENTRIES)), maybe(token(K::Comma)), token(K::CloseBrace)]),
            all([
                maybe(token(K::Dot)),
                token(K::Identifier),
                any(all([token(K::Dot), token(K::Identifier)])),
                token(K::OpenBrace),
                maybe(rule(FIELDS)),
                maybe(token(K::Comma)),
                token(K::CloseBrace),
            ]),
            rule(LITERAL),
        ]),
        separated(EXPR),
        separated(OPTIONAL),
        all([pair(FIELD), any(all([token(K::Comma), pair(FIELD)]))]),
        all([maybe(token(K::Question)), rule(NAME)]),
        all([pair(OPTIONAL), any(all([token(K::Comma), pair(OPTIONAL)]))]),
        choice([token(K::Identifier), token(K::Escaped)]),
        all([maybe(token(K::Question)), rule(EXPR)]),
        choice([
            all([maybe(token(K::Minus)), token(K::Int)]),
            token(K::Uint),
            all([maybe(token(K::Minus)), token(K::Float)]),
            token(K::String),
            token(K::Bytes),
            token(K::True),
            token(K::False),
            token(K::Null),
        ]),
    ]
}
