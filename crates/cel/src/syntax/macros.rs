//! What looks like a call and is none: `has`, `all`, `map` and their like become presence tests and comprehensions.

use super::Syntax;
use super::ast::{ACCUMULATOR, Call, Element, Entry, Expr, Field, Fold, Id, Message, Node, Select, operator};
use crate::value::Value;

/// What became of a call.
pub(super) enum Expansion {
    /// It is a call.
    None(Call),
    /// It was a macro.
    Done(Expr),
    /// It was a macro, but not a good one: at which node (none: at the macro itself), and why.
    Wrong(Option<Id>, String),
}

/// Gives ids: one at the macro's place, or at the place of another node.
pub(super) type Ids<'a> = &'a mut dyn FnMut(Option<Id>) -> Id;

struct Bad(Option<Id>, String);

/// Expands a call if it is a macro.
pub(super) fn expand(syntax: Syntax, call: Call, ids: Ids<'_>) -> Expansion {
    let Some(expander) = find(syntax, &call) else { return Expansion::None(call) };
    let Call { target, args, .. } = call;
    let mut build = Build { ids };
    match expander(&mut build, target, args) {
        Ok(expr) => Expansion::Done(expr),
        Err(Bad(at, message)) => Expansion::Wrong(at, message),
    }
}

type Expander = fn(&mut Build<'_>, Option<Expr>, Vec<Expr>) -> Result<Expr, Bad>;

fn find(syntax: Syntax, call: &Call) -> Option<Expander> {
    let Some(target) = &call.target else {
        return (call.function == "has" && call.args.len() == 1).then_some(has as Expander);
    };
    let two = syntax.two_variable_macros;
    Some(match (call.function.as_str(), call.args.len()) {
        ("all", 2) => all,
        ("exists", 2) => exists,
        ("exists_one" | "existsOne", 2) => exists_one,
        ("map", 2 | 3) => map,
        ("filter", 2) => filter,
        ("optMap", 2) if syntax.optional_macros => opt_map,
        ("optFlatMap", 2) if syntax.optional_macros => opt_flat_map,
        ("sortBy", 2) if syntax.sort_by => sort_by,
        ("bind", 3) if syntax.bind && matches!(&target.kind, Node::Ident(name) if name == "cel") => bind,
        ("all", 3) if two => all_pairs,
        ("exists", 3) if two => exists_pair,
        ("exists_one" | "existsOne", 3) if two => exists_one_pair,
        ("transformList", 3 | 4) if two => transform_list,
        ("transformMap", 3 | 4) if two => transform_map,
        ("transformMapEntry", 3 | 4) if two => transform_map_entry,
        _ => return None,
    })
}

struct Build<'a> {
    ids: Ids<'a>,
}

/// The variables of a comprehension.
struct Vars {
    first: String,
    second: Option<String>,
}

/// The largest tree that is copied.
const LARGEST_COPY: usize = 50_000;
const NO_NAME: &str = "argument must be a simple name";
const NO_IDENTIFIER: &str = "argument is not an identifier";

impl Build<'_> {
    fn node(&mut self, kind: Node) -> Expr {
        Expr { id: (self.ids)(None), kind }
    }

    fn literal(&mut self, value: Value<'static>) -> Expr {
        self.node(Node::Literal(value))
    }

    fn ident(&mut self, name: &str) -> Expr {
        self.node(Node::Ident(name.to_owned()))
    }

    fn accumulator(&mut self) -> Expr {
        self.ident(ACCUMULATOR)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Expr {
        self.node(Node::Call(Box::new(Call { function: function.to_owned(), target: None, args })))
    }

    fn method(&mut self, target: Expr, function: &str) -> Expr {
        self.node(Node::Call(Box::new(Call { function: function.to_owned(), target: Some(target), args: vec![] })))
    }

    fn list(&mut self, values: Vec<Expr>) -> Expr {
        let elements = values.into_iter().map(|value| Element { value, optional: false }).collect();
        self.node(Node::List(elements))
    }

    fn variable(&self, arg: &Expr, otherwise: &str) -> Result<String, Bad> {
        let Node::Ident(name) = &arg.kind else { return Err(Bad(Some(arg.id), otherwise.to_owned())) };
        if name == ACCUMULATOR || name == "__result__" {
            return Err(Bad(Some(arg.id), "iteration variable overwrites accumulator variable".to_owned()));
        }
        Ok(name.clone())
    }

    fn one(&self, arg: &Expr, otherwise: &str) -> Result<Vars, Bad> {
        Ok(Vars { first: self.variable(arg, otherwise)?, second: None })
    }

    fn two(&self, first: &Expr, second: &Expr) -> Result<Vars, Bad> {
        let (a, b) = (self.variable(first, NO_NAME)?, self.variable(second, NO_NAME)?);
        if a == b {
            return Err(Bad(Some(second.id), format!("duplicate variable name: {a}")));
        }
        Ok(Vars { first: a, second: Some(b) })
    }

    fn fold(&mut self, range: Expr, vars: Vars, init: Expr, condition: Expr, step: Expr, result: Expr) -> Expr {
        let Vars { first, second } = vars;
        let accumulator = ACCUMULATOR.to_owned();
        self.node(Node::Fold(Box::new(Fold {
            range,
            var: first,
            var2: second,
            accumulator,
            init,
            condition,
            step,
            result,
        })))
    }

    fn all(&mut self, range: Expr, vars: Vars, predicate: Expr) -> Expr {
        let init = self.literal(Value::Bool(true));
        let accumulator = self.accumulator();
        let condition = self.call(operator::NOT_STRICTLY_FALSE, vec![accumulator]);
        let accumulator = self.accumulator();
        let step = self.call(operator::AND, vec![accumulator, predicate]);
        let result = self.accumulator();
        self.fold(range, vars, init, condition, step, result)
    }

    fn exists(&mut self, range: Expr, vars: Vars, predicate: Expr) -> Expr {
        let init = self.literal(Value::Bool(false));
        let accumulator = self.accumulator();
        let not = self.call(operator::NOT, vec![accumulator]);
        let condition = self.call(operator::NOT_STRICTLY_FALSE, vec![not]);
        let accumulator = self.accumulator();
        let step = self.call(operator::OR, vec![accumulator, predicate]);
        let result = self.accumulator();
        self.fold(range, vars, init, condition, step, result)
    }

    fn exists_one(&mut self, range: Expr, vars: Vars, predicate: Expr) -> Expr {
        let init = self.literal(Value::Int(0));
        let condition = self.literal(Value::Bool(true));
        let (accumulator, one) = (self.accumulator(), self.literal(Value::Int(1)));
        let more = self.call(operator::ADD, vec![accumulator, one]);
        let accumulator = self.accumulator();
        let step = self.call(operator::CONDITIONAL, vec![predicate, more, accumulator]);
        let (accumulator, one) = (self.accumulator(), self.literal(Value::Int(1)));
        let result = self.call(operator::EQUALS, vec![accumulator, one]);
        self.fold(range, vars, init, condition, step, result)
    }

    /// Collects what `step` adds, of the elements that `filter` lets through.
    fn collect(&mut self, range: Expr, vars: Vars, init: Expr, filter: Option<Expr>, step: Expr) -> Expr {
        let condition = self.literal(Value::Bool(true));
        let step = match filter {
            Some(filter) => {
                let accumulator = self.accumulator();
                self.call(operator::CONDITIONAL, vec![filter, step, accumulator])
            }
            None => step,
        };
        let result = self.accumulator();
        self.fold(range, vars, init, condition, step, result)
    }

    fn collect_list(&mut self, range: Expr, vars: Vars, filter: Option<Expr>, element: Expr) -> Expr {
        let init = self.list(vec![]);
        let accumulator = self.accumulator();
        let added = self.list(vec![element]);
        let step = self.call(operator::ADD, vec![accumulator, added]);
        self.collect(range, vars, init, filter, step)
    }

    fn collect_map(&mut self, range: Expr, vars: Vars, filter: Option<Expr>, insert: Vec<Expr>) -> Expr {
        let init = self.node(Node::Map(vec![]));
        let mut args = vec![self.accumulator()];
        args.extend(insert);
        let step = self.call("cel.@mapInsert", args);
        self.collect(range, vars, init, filter, step)
    }

    /// Gives `value` a name within `body`.
    fn named(&mut self, name: String, value: Expr, body: Expr) -> Expr {
        let range = self.list(vec![]);
        let condition = self.literal(Value::Bool(false));
        let step = self.ident(&name);
        let fold = Fold {
            range,
            var: "#unused".to_owned(),
            var2: None,
            accumulator: name,
            init: value,
            condition,
            step,
            result: body,
        };
        self.node(Node::Fold(Box::new(fold)))
    }

    /// The same tree with ids of its own.
    fn copy(&mut self, expr: &Expr) -> Expr {
        let id = (self.ids)(Some(expr.id));
        let kind = match &expr.kind {
            Node::Literal(value) => Node::Literal(value.clone()),
            Node::Ident(name) => Node::Ident(name.clone()),
            Node::Select(select) => Node::Select(Box::new(Select {
                operand: self.copy(&select.operand),
                field: select.field.clone(),
                test: select.test,
            })),
            Node::Call(call) => Node::Call(Box::new(Call {
                function: call.function.clone(),
                target: call.target.as_ref().map(|target| self.copy(target)),
                args: call.args.iter().map(|arg| self.copy(arg)).collect(),
            })),
            Node::List(elements) => Node::List(
                elements.iter().map(|e| Element { value: self.copy(&e.value), optional: e.optional }).collect(),
            ),
            Node::Map(entries) => Node::Map(
                entries
                    .iter()
                    .map(|e| Entry { key: self.copy(&e.key), value: self.copy(&e.value), optional: e.optional })
                    .collect(),
            ),
            Node::Struct(message) => Node::Struct(Box::new(Message {
                name: message.name.clone(),
                fields: message
                    .fields
                    .iter()
                    .map(|f| Field {
                        id: (self.ids)(None),
                        name: f.name.clone(),
                        value: self.copy(&f.value),
                        optional: f.optional,
                    })
                    .collect(),
            })),
            Node::Fold(fold) => Node::Fold(Box::new(Fold {
                range: self.copy(&fold.range),
                var: fold.var.clone(),
                var2: fold.var2.clone(),
                accumulator: fold.accumulator.clone(),
                init: self.copy(&fold.init),
                condition: self.copy(&fold.condition),
                step: self.copy(&fold.step),
                result: self.copy(&fold.result),
            })),
        };
        Expr { id, kind }
    }
}

/// The target and so many arguments; [`find`] has counted them.
fn parts<const N: usize>(target: Option<Expr>, args: Vec<Expr>) -> Result<(Expr, [Expr; N]), Bad> {
    match (target, args.try_into()) {
        (Some(target), Ok(args)) => Ok((target, args)),
        _ => Err(Bad(None, "wrong number of arguments".to_owned())),
    }
}

fn has(b: &mut Build<'_>, _: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let Some(arg) = args.into_iter().next() else {
        return Err(Bad(None, "invalid argument to has() macro".to_owned()));
    };
    match arg.kind {
        Node::Select(select) => Ok(b.node(Node::Select(Box::new(Select { test: true, ..*select })))),
        _ => Err(Bad(Some(arg.id), "invalid argument to has() macro".to_owned())),
    }
}

fn all(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let (range, [var, predicate]) = parts(target, args)?;
    let vars = b.one(&var, NO_NAME)?;
    Ok(b.all(range, vars, predicate))
}

fn exists(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let (range, [var, predicate]) = parts(target, args)?;
    let vars = b.one(&var, NO_NAME)?;
    Ok(b.exists(range, vars, predicate))
}

fn exists_one(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let (range, [var, predicate]) = parts(target, args)?;
    let vars = b.one(&var, NO_NAME)?;
    Ok(b.exists_one(range, vars, predicate))
}

fn map(b: &mut Build<'_>, target: Option<Expr>, mut args: Vec<Expr>) -> Result<Expr, Bad> {
    let filter = (args.len() == 3).then(|| args.remove(1));
    let (range, [var, element]) = parts(target, args)?;
    let vars = b.one(&var, NO_IDENTIFIER)?;
    Ok(b.collect_list(range, vars, filter, element))
}

fn filter(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let (range, [var, predicate]) = parts(target, args)?;
    let vars = b.one(&var, NO_IDENTIFIER)?;
    Ok(b.collect_list(range, vars, Some(predicate), var))
}

fn opt_map(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    optional(b, target, args, "optMap", |b, value| b.call("optional.of", vec![value]))
}

fn opt_flat_map(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    optional(b, target, args, "optFlatMap", |_, value| value)
}

fn optional(
    b: &mut Build<'_>,
    target: Option<Expr>,
    args: Vec<Expr>,
    name: &str,
    wrap: fn(&mut Build<'_>, Expr) -> Expr,
) -> Result<Expr, Bad> {
    let (target, [var, body]) = parts(target, args)?;
    let Node::Ident(var) = var.kind else {
        return Err(Bad(Some(var.id), format!("{name}() variable name must be a simple identifier")));
    };
    // The target is there twice: nested targets double the tree every time.
    if target.size() > LARGEST_COPY {
        return Err(Bad(None, "expression is too large".to_owned()));
    }
    let again = b.copy(&target);
    let value = b.method(again, "value");
    let body = b.named(var, value, body);
    let body = wrap(b, body);
    let has_value = b.method(target, "hasValue");
    let none = b.call("optional.none", vec![]);
    Ok(b.call(operator::CONDITIONAL, vec![has_value, body, none]))
}

/// Sorts by what is made of each element; the list gets a name, so that it is evaluated once.
fn sort_by(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    const INPUT: &str = "@__sortBy_input__";
    let (target, [var, key]) = parts(target, args)?;
    if matches!(target.kind, Node::Literal(_) | Node::Map(_) | Node::Struct(_)) {
        let what = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
        return Err(Bad(Some(target.id), what.to_owned()));
    }
    let vars = b.one(&var, NO_IDENTIFIER)?;
    let input = b.ident(INPUT);
    let keys = b.collect_list(input, vars, None, key);
    let input = b.ident(INPUT);
    let call = Call { function: crate::library::SORT_BY.to_owned(), target: Some(input), args: vec![keys] };
    let sorted = b.node(Node::Call(Box::new(call)));
    Ok(b.named(INPUT.to_owned(), target, sorted))
}

fn bind(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let (_, [var, value, body]) = parts(target, args)?;
    match var.kind {
        Node::Ident(name) => Ok(b.named(name, value, body)),
        _ => Err(Bad(Some(var.id), "cel.bind() variable names must be simple identifiers".to_owned())),
    }
}

fn all_pairs(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let (range, [first, second, predicate]) = parts(target, args)?;
    let vars = b.two(&first, &second)?;
    Ok(b.all(range, vars, predicate))
}

fn exists_pair(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let (range, [first, second, predicate]) = parts(target, args)?;
    let vars = b.two(&first, &second)?;
    Ok(b.exists(range, vars, predicate))
}

fn exists_one_pair(b: &mut Build<'_>, target: Option<Expr>, args: Vec<Expr>) -> Result<Expr, Bad> {
    let (range, [first, second, predicate]) = parts(target, args)?;
    let vars = b.two(&first, &second)?;
    Ok(b.exists_one(range, vars, predicate))
}

fn transform_list(b: &mut Build<'_>, target: Option<Expr>, mut args: Vec<Expr>) -> Result<Expr, Bad> {
    let filter = (args.len() == 4).then(|| args.remove(2));
    let (range, [first, second, element]) = parts(target, args)?;
    let vars = b.two(&first, &second)?;
    Ok(b.collect_list(range, vars, filter, element))
}

fn transform_map(b: &mut Build<'_>, target: Option<Expr>, mut args: Vec<Expr>) -> Result<Expr, Bad> {
    let filter = (args.len() == 4).then(|| args.remove(2));
    let (range, [first, second, value]) = parts(target, args)?;
    let vars = b.two(&first, &second)?;
    let key = b.ident(&vars.first);
    Ok(b.collect_map(range, vars, filter, vec![key, value]))
}

fn transform_map_entry(b: &mut Build<'_>, target: Option<Expr>, mut args: Vec<Expr>) -> Result<Expr, Bad> {
    let filter = (args.len() == 4).then(|| args.remove(2));
    let (range, [first, second, entry]) = parts(target, args)?;
    let vars = b.two(&first, &second)?;
    Ok(b.collect_map(range, vars, filter, vec![entry]))
}
