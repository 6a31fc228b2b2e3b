//! What is wrong with the syntax of an expression, as ANTLR's parser with its default error strategy would report it.

use super::automaton::{Automaton, Edge, Frame, Role, Set, Stacks, State};
use super::grammar::{RULES, repeats_itself};
use super::lexer::{Kind, Token, Unrecognized};
use super::parser::{DEEPEST, too_deep};

/// How often the parser goes on after an error.
const MOST_RECOVERIES: usize = 30;
/// How many steps it takes at the most.
const MOST_STEPS: usize = 100_000;

/// How many tokens it skips after an error.
const MOST_SKIPPED: usize = 256;

/// An error.
pub(super) struct Problem {
    /// The first byte of a token; none if it is about the whole.
    pub(super) at: Option<u32>,
    pub(super) message: String,
}

/// The errors; at least that the token number `failed` is one.
pub(super) fn diagnose(
    text: &str,
    tokens: &[Token],
    unrecognized: &[Unrecognized],
    failed: Option<usize>,
) -> Vec<Problem> {
    let kinds: Vec<Kind> = tokens.iter().map(|token| token.kind).collect();
    let automaton = Automaton::new();
    let mut parser = Parser {
        text,
        tokens,
        unrecognized,
        kinds: &kinds,
        automaton: &automaton,
        stacks: Stacks::default(),
        state: automaton.starts[0],
        stack: None,
        rules: vec![],
        depths: [0; RULES],
        at: 0,
        recovering: false,
        last_error: None,
        error_states: vec![],
        recoveries: 0,
        errors: vec![],
    };
    parser.run();
    if let (true, Some(failed)) = (parser.errors.is_empty(), failed) {
        let message = format!("no viable alternative at input {}", parser.token(failed));
        parser.error(failed, message);
    }
    parser.errors
}

struct Parser<'a> {
    text: &'a str,
    tokens: &'a [Token],
    unrecognized: &'a [Unrecognized],
    kinds: &'a [Kind],
    automaton: &'a Automaton,
    stacks: Stacks,
    state: State,
    stack: Option<usize>,
    /// The rules that are being read, and how deep each is nested in itself.
    rules: Vec<(usize, usize)>,
    depths: [usize; RULES],
    at: usize,
    /// After an error, until a token fits again.
    recovering: bool,
    /// The token of the last error, and the states in which it was met.
    last_error: Option<usize>,
    error_states: Vec<State>,
    recoveries: usize,
    errors: Vec<Problem>,
}

/// Why a rule cannot go on.
enum Bad {
    Mismatch,
    /// No way goes on at this token.
    NoWay(usize),
    /// The parser gives up.
    Enough,
}

type Step = Result<(), Bad>;

impl Parser<'_> {
    fn run(&mut self) {
        for _ in 0..MOST_STEPS {
            if self.automaton.roles[self.state] == Role::Stop {
                if !self.leave() {
                    return;
                }
                continue;
            }
            match self.step() {
                Ok(()) => {}
                Err(Bad::Enough) => return,
                Err(bad) => {
                    self.report(&bad);
                    if self.recover().is_err() || !self.leave() {
                        return;
                    }
                }
            }
        }
    }

    /// Ends the rule; false if there is none around it.
    fn leave(&mut self) -> bool {
        let Some(stack) = self.stack else { return false };
        let frame = self.stacks.top(stack);
        if let Some((rule, depth)) = self.rules.pop() {
            self.depths[rule] -= depth;
        }
        self.state = frame.then;
        self.stack = frame.outer;
        true
    }

    fn step(&mut self) -> Step {
        let role = self.automaton.roles[self.state];
        if role != Role::Plain {
            self.sync(role == Role::Back)?;
        }
        if role == Role::Back
            && let Some((rule, depth)) = self.rules.last_mut().filter(|(rule, _)| repeats_itself(*rule))
        {
            // What ANTLR makes of left recursion counts as nested in itself.
            *depth += 1;
            let rule = *rule;
            self.deeper(rule)?;
        }
        let edges = &self.automaton.edges[self.state];
        let mut edge = 0;
        if edges.len() > 1 {
            edge = self.predict(self.state)?;
        } else if let (Role::Back, [Edge::Free(entry)]) = (role, &**edges) {
            // The loop decides where it began.
            self.state = *entry;
            edge = self.predict(*entry)?;
        }
        match self.automaton.edges[self.state].get(edge) {
            Some(Edge::Free(to) | Edge::Precedence(_, to)) => self.state = *to,
            Some(Edge::Token(set, to)) => {
                self.take(*set)?;
                self.state = *to;
            }
            Some(Edge::Rule { rule, precedence, then }) => {
                let frame = Frame { outer: self.stack, then: *then, precedence: *precedence };
                self.stack = Some(self.stacks.push(frame));
                self.state = self.automaton.starts[*rule];
                self.rules.push((*rule, 1));
                self.deeper(*rule)?;
            }
            None => return Err(Bad::Enough),
        }
        Ok(())
    }

    fn deeper(&mut self, rule: usize) -> Step {
        self.depths[rule] += 1;
        if self.depths[rule] <= DEEPEST {
            return Ok(());
        }
        self.errors.push(Problem { at: None, message: too_deep() });
        Err(Bad::Enough)
    }

    fn predict(&mut self, state: State) -> Result<usize, Bad> {
        let tokens = &self.kinds[self.at..];
        self.automaton.predict(&mut self.stacks, state, self.stack, tokens).map_err(|n| Bad::NoWay(self.at + n))
    }

    fn kind(&self, ahead: usize) -> Kind {
        self.kinds.get(self.at + ahead).copied().unwrap_or(Kind::End)
    }

    fn consume(&mut self) {
        if self.kind(0) != Kind::End {
            self.at += 1;
        }
    }

    fn matched(&mut self) {
        self.recovering = false;
        self.error_states.clear();
        self.last_error = None;
    }

    fn take(&mut self, set: Set) -> Step {
        if set.contains(self.kind(0)) {
            self.matched();
            self.consume();
            return Ok(());
        }
        self.count_recovery()?;
        if self.delete() {
            self.consume();
            return Ok(());
        }
        if self.insert() { Ok(()) } else { Err(Bad::Mismatch) }
    }

    /// What may come next, in this rule and, where it may end, in those around.
    fn expected(&self, state: State, stack: Option<usize>) -> Set {
        let (mut set, mut ends) = self.automaton.next_tokens(state);
        let mut stack = stack;
        while let (true, Some(at)) = (ends, stack) {
            let frame = self.stacks.top(at);
            let (more, end) = self.automaton.next_tokens(frame.then);
            set.add(more);
            ends = end;
            stack = frame.outer;
        }
        set
    }

    /// At a decision: whether the next token is one that is foreseen here. If it is not, perhaps it is one too many.
    fn sync(&mut self, back: bool) -> Step {
        if self.recovering {
            return Ok(());
        }
        let (next, ends) = self.automaton.next_tokens(self.state);
        if ends || next.contains(self.kind(0)) {
            return Ok(());
        }
        if back {
            self.report_extraneous();
            let mut follow = self.expected(self.state, self.stack);
            follow.add(self.follow());
            self.consume_until(follow, usize::MAX);
            return Ok(());
        }
        if self.delete() { Ok(()) } else { Err(Bad::Mismatch) }
    }

    /// Leaves the token out if the one after it would do.
    fn delete(&mut self) -> bool {
        if !self.expected(self.state, self.stack).contains(self.kind(1)) || self.kind(0) == Kind::End {
            return false;
        }
        self.report_extraneous();
        self.consume();
        self.matched();
        true
    }

    /// Makes the token up if this one would do after it.
    fn insert(&mut self) -> bool {
        let Some(Edge::Token(_, then)) = self.automaton.edges[self.state].first() else { return false };
        if !self.expected(*then, self.stack).contains(self.kind(0)) {
            return false;
        }
        if !self.recovering {
            self.recovering = true;
            let message =
                format!("missing {} at {}", shown(self.expected(self.state, self.stack)), self.token(self.at));
            self.error(self.at, message);
        }
        true
    }

    fn token(&self, at: usize) -> String {
        let token = self.tokens[at.min(self.tokens.len() - 1)];
        quoted(if token.kind == Kind::End { "<EOF>" } else { token.text(self.text) })
    }

    fn error(&mut self, at: usize, message: String) {
        let at = at.min(self.tokens.len() - 1);
        self.errors.push(Problem { at: Some(self.tokens[at].start), message });
    }

    fn report_extraneous(&mut self) {
        if self.recovering {
            return;
        }
        self.recovering = true;
        let expected = shown(self.expected(self.state, self.stack));
        let message = format!("extraneous input {} expecting {expected}", self.token(self.at));
        self.error(self.at, message);
    }

    fn report(&mut self, bad: &Bad) {
        if self.recovering {
            return;
        }
        self.recovering = true;
        match *bad {
            Bad::NoWay(at) => {
                let input = if self.kind(0) == Kind::End { "<EOF>".to_owned() } else { self.input(at) };
                let message = match input.as_str() {
                    // cel-go's own words for these words in the place of a name.
                    ".true" | ".false" | ".null" => format!("mismatched input '{}' expecting IDENTIFIER", &input[1..]),
                    _ => format!("no viable alternative at input {}", quoted(&input)),
                };
                self.error(at, message);
            }
            Bad::Mismatch | Bad::Enough => {
                let expected = shown(self.expected(self.state, self.stack));
                let message = format!("mismatched input {} expecting {expected}", self.token(self.at));
                self.error(self.at, message);
            }
        }
    }

    /// The text from this token to another, without what is no token.
    fn input(&self, to: usize) -> String {
        let mut from = self.tokens[self.at].start;
        let end = self.tokens[to.min(self.tokens.len() - 1)].end;
        let mut input = String::new();
        let part = |from: u32, to: u32| self.text.get(from as usize..to as usize).unwrap_or_default();
        let first = from;
        for (start, after) in self.unrecognized.iter().filter(|(start, _)| (first..end).contains(start)) {
            input.push_str(part(from, *start));
            from = *after;
        }
        input.push_str(part(from, end));
        input
    }

    fn count_recovery(&mut self) -> Step {
        self.recoveries += 1;
        if self.recoveries > MOST_RECOVERIES {
            self.error(self.at, format!("error recovery attempt limit exceeded: {MOST_RECOVERIES}"));
            return Err(Bad::Enough);
        }
        Ok(())
    }

    /// Skips to what may follow one of the rules that are being read.
    fn recover(&mut self) -> Step {
        self.count_recovery()?;
        if self.last_error == Some(self.at) && self.error_states.contains(&self.state) {
            self.consume();
        }
        self.last_error = Some(self.at);
        self.error_states.push(self.state);
        let follow = self.follow();
        if self.consume_until(follow, MOST_SKIPPED) {
            return Ok(());
        }
        let message = format!("error recovery token lookahead limit exceeded: {MOST_SKIPPED}");
        self.errors.push(Problem { at: None, message });
        Err(Bad::Enough)
    }

    /// What may follow the rules that are being read.
    fn follow(&self) -> Set {
        let mut set = Set::default();
        let mut stack = self.stack;
        while let Some(at) = stack {
            let frame = self.stacks.top(at);
            set.add(self.automaton.next_tokens(frame.then).0);
            stack = frame.outer;
        }
        set
    }

    /// False if it is more tokens than may be skipped.
    fn consume_until(&mut self, set: Set, most: usize) -> bool {
        let mut skipped = 0;
        while self.kind(0) != Kind::End && !set.contains(self.kind(0)) {
            if skipped == most {
                return false;
            }
            skipped += 1;
            self.consume();
        }
        true
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\n', "\\n").replace('\r', "\\r").replace('\t', "\\t"))
}

/// One kind, or `{some, kinds}`.
fn shown(set: Set) -> String {
    let kinds: Vec<String> = ALL.iter().filter(|kind| set.contains(**kind)).map(ToString::to_string).collect();
    match &*kinds {
        [only] => only.clone(),
        _ => format!("{{{}}}", kinds.join(", ")),
    }
}

/// All kinds in the order in which they are listed.
const ALL: [Kind; 36] = {
    use Kind::*;
    [
        End,
        Equals,
        NotEquals,
        In,
        Less,
        LessEquals,
        GreaterEquals,
        Greater,
        And,
        Or,
        OpenBracket,
        CloseBracket,
        OpenBrace,
        CloseBrace,
        OpenParen,
        CloseParen,
        Dot,
        Comma,
        Minus,
        Exclam,
        Question,
        Colon,
        Plus,
        Star,
        Slash,
        Percent,
        True,
        False,
        Null,
        Float,
        Int,
        Uint,
        String,
        Bytes,
        Identifier,
        Escaped,
    ]
};
