//! The grammar as an automaton: what may come next at any point, and which of several ways a text goes on.
//!
//! Good expressions are read by [`super::parser`]. This is for bad ones: cel-go reports what ANTLR's parser reports, and
//! that follows from the states of ANTLR's automaton. The shape here is the shape that ANTLR gives to `CEL.g4`.

use super::grammar::{Piece, grammar};
use super::lexer::Kind;
use std::collections::HashMap;

/// A set of kinds of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Set(u64);

impl Set {
    pub(super) fn of(kinds: &[Kind]) -> Self {
        Self(kinds.iter().fold(0, |set, kind| set | 1 << *kind as u64))
    }

    pub(super) fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u64 != 0
    }

    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

pub(super) type State = usize;

/// How to get from a state to another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edge {
    /// For nothing.
    Free(State),
    /// For a token.
    Token(Set, State),
    /// Through a rule, which operators of a lower precedence do not leave.
    Rule { rule: usize, precedence: u8, then: State },
    /// If the rule is not within an operator of a higher precedence.
    Precedence(u8, State),
}

/// What a state is, for what ANTLR does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    /// The beginning of alternatives or of a loop.
    Decision,
    /// The end of a round of a loop.
    Back,
    /// The end of a rule.
    Stop,
}

/// The automaton.
pub(super) struct Automaton {
    pub(super) edges: Vec<Vec<Edge>>,
    pub(super) roles: Vec<Role>,
    /// The first state of each rule.
    pub(super) starts: Vec<State>,
}

impl Automaton {
    pub(super) fn new() -> Self {
        let mut automaton = Self { edges: vec![], roles: vec![], starts: vec![] };
        for piece in grammar() {
            let start = automaton.state(Role::Plain);
            let end = automaton.piece(&piece, start);
            automaton.roles[end] = Role::Stop;
            automaton.starts.push(start);
        }
        automaton
    }

    fn state(&mut self, role: Role) -> State {
        self.edges.push(Vec::new());
        self.roles.push(role);
        self.edges.len() - 1
    }

    fn free(&mut self, from: State, to: State) {
        self.edges[from].push(Edge::Free(to));
    }

    /// Builds a piece from a state on; gives the state behind it.
    fn piece(&mut self, piece: &Piece, from: State) -> State {
        match piece {
            Piece::Sequence(pieces) => pieces.iter().fold(from, |at, piece| self.piece(piece, at)),
            Piece::Token(set) => {
                let to = self.state(Role::Plain);
                self.edges[from].push(Edge::Token(*set, to));
                to
            }
            Piece::Rule(rule, precedence) => {
                let then = self.state(Role::Plain);
                self.edges[from].push(Edge::Rule { rule: *rule, precedence: *precedence, then });
                then
            }
            Piece::Precedence(n) => {
                let to = self.state(Role::Plain);
                self.edges[from].push(Edge::Precedence(*n, to));
                to
            }
            Piece::Choice(ways) => {
                let (fork, end) = (self.fork(from), self.state(Role::Plain));
                for way in ways {
                    self.way(way, fork, end);
                }
                end
            }
            Piece::Maybe(way) => {
                let (fork, end) = (self.fork(from), self.state(Role::Plain));
                self.way(way, fork, end);
                self.free(fork, end);
                end
            }
            Piece::Any(round) => {
                let (entry, back, end) = (self.fork(from), self.state(Role::Back), self.state(Role::Plain));
                self.way(round, entry, back);
                self.free(entry, end);
                self.free(back, entry);
                end
            }
            Piece::Some(round) => {
                let (entry, back, end) = (self.fork(from), self.state(Role::Back), self.state(Role::Plain));
                self.way(round, entry, back);
                self.free(back, entry);
                self.free(back, end);
                end
            }
        }
    }

    fn fork(&mut self, from: State) -> State {
        let fork = self.state(Role::Decision);
        self.free(from, fork);
        fork
    }

    fn way(&mut self, piece: &Piece, from: State, to: State) {
        let start = self.state(Role::Plain);
        self.free(from, start);
        let end = self.piece(piece, start);
        self.free(end, to);
    }

    /// The tokens that may come next at a state, and whether its rule may end there.
    pub(super) fn next_tokens(&self, state: State) -> (Set, bool) {
        let (mut set, mut ends) = (Set::default(), false);
        let (mut seen, mut left) = (vec![false; self.edges.len()], vec![state]);
        while let Some(at) = left.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            ends |= self.roles[at] == Role::Stop;
            for edge in &self.edges[at] {
                match *edge {
                    Edge::Free(to) | Edge::Precedence(_, to) => left.push(to),
                    Edge::Token(tokens, _) => set.add(tokens),
                    // No rule of this grammar is empty.
                    Edge::Rule { rule, .. } => set.add(self.next_tokens(self.starts[rule]).0),
                }
            }
        }
        (set, ends)
    }
}

/// A rule that is being read: where it goes on in the rule around, and its precedence. Equal stacks have equal numbers.
#[derive(Default)]
pub(super) struct Stacks {
    frames: Vec<Frame>,
    known: HashMap<Frame, usize>,
}

/// The innermost rule of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Frame {
    /// The stack around.
    pub(super) outer: Option<usize>,
    /// Where the rule around goes on.
    pub(super) then: State,
    pub(super) precedence: u8,
}

impl Stacks {
    pub(super) fn push(&mut self, frame: Frame) -> usize {
        let frames = &mut self.frames;
        *self.known.entry(frame).or_insert_with(|| {
            frames.push(frame);
            frames.len() - 1
        })
    }

    pub(super) fn top(&self, stack: usize) -> Frame {
        self.frames[stack]
    }
}

/// A way through the automaton that is being tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Config {
    way: usize,
    state: State,
    stack: Option<usize>,
    /// Whether it has left the rule in which the decision is taken.
    left: bool,
}

impl Automaton {
    /// Which edge of a state the tokens lead along; otherwise the number of the token at which no way goes on.
    pub(super) fn predict(
        &self,
        stacks: &mut Stacks,
        at: State,
        stack: Option<usize>,
        tokens: &[Kind],
    ) -> Result<usize, usize> {
        let mut configs = Vec::new();
        for (way, edge) in self.edges[at].iter().enumerate() {
            if let Edge::Free(to) = *edge {
                self.close(stacks, Config { way, state: to, stack, left: false }, stack, &mut configs);
            }
        }
        for (n, kind) in tokens.iter().enumerate() {
            let mut next = Vec::new();
            for config in &configs {
                for edge in &self.edges[config.state] {
                    if let Edge::Token(set, to) = *edge
                        && set.contains(*kind)
                    {
                        self.close(stacks, Config { state: to, ..*config }, stack, &mut next);
                    }
                }
            }
            let Some(first) = next.iter().map(|config| config.way).min() else {
                // A way that was through with the rule before it failed will do.
                return configs.iter().filter(|config| config.left).map(|config| config.way).min().ok_or(n);
            };
            // One way is left, or it makes no difference any more.
            if next.iter().all(|config| config.way == first) || ambiguous(&next) || *kind == Kind::End {
                return Ok(first);
            }
            configs = next;
        }
        Ok(configs.iter().map(|config| config.way).min().unwrap_or_default())
    }

    /// Adds everything that can be reached for nothing.
    fn close(&self, stacks: &mut Stacks, from: Config, entry: Option<usize>, found: &mut Vec<Config>) {
        let mut left = vec![from];
        while let Some(config) = left.pop() {
            if found.contains(&config) {
                continue;
            }
            found.push(config);
            if self.roles[config.state] == Role::Stop
                && let Some(stack) = config.stack
            {
                let frame = stacks.top(stack);
                let through = config.left || config.stack == entry;
                left.push(Config { state: frame.then, stack: frame.outer, left: through, ..config });
            }
            for edge in &self.edges[config.state] {
                match *edge {
                    Edge::Free(to) => left.push(Config { state: to, ..config }),
                    Edge::Precedence(n, to) => {
                        if config.stack.is_none_or(|stack| n >= stacks.top(stack).precedence) {
                            left.push(Config { state: to, ..config });
                        }
                    }
                    Edge::Rule { rule, precedence, then } => {
                        let stack = stacks.push(Frame { outer: config.stack, then, precedence });
                        left.push(Config { state: self.starts[rule], stack: Some(stack), ..config });
                    }
                    Edge::Token(..) => {}
                }
            }
        }
    }
}

/// Whether every place that one way has reached, another has reached too.
fn ambiguous(configs: &[Config]) -> bool {
    let same = |a: &Config, b: &Config| a.way != b.way && a.state == b.state && a.stack == b.stack;
    configs.iter().all(|config| configs.iter().any(|other| same(config, other)))
}
