//! The language as Kubernetes has it: what expressions give, and what is said of bad ones.

use trireme_cel::library::{self, Authorizer, Check, Decision, Subject};
use trireme_cel::{Activation, Budget, Env, EvalError, Type, Value};

fn evaluate(text: &str) -> Result<String, String> {
    let program = Env::kubernetes().compile(text).map_err(|error| error.to_string())?;
    let nothing: [(&str, Value<'_>); 0] = [];
    let result = program.evaluate(&nothing, &mut Budget::new(10_000_000)).map_err(|error| error.to_string());
    result.map(|value| value.to_string())
}

#[test]
fn libraries_do_what_their_documentation_says() {
    for text in [
        "[1, 2, 3].isSorted() && ![3, 1].isSorted()",
        "[1, 2, 3].sum() == 6 && [duration('1m'), duration('2m')].sum() == duration('3m')",
        "[3, 1, 2].min() == 1 && ['a', 'c', 'b'].max() == 'c'",
        "['a', 'b', 'b'].indexOf('b') == 1 && ['a', 'b', 'b'].lastIndexOf('b') == 2",
        "'abc 123'.find('[0-9]+') == '123' && 'abc'.find('[0-9]+') == ''",
        "'123 abc 456'.findAll('[0-9]+') == ['123', '456'] && '1 2 3'.findAll('[0-9]', 2) == ['1', '2']",
        "url('https://example.com:80/a%20b?k=a&k=b').getHostname() == 'example.com'",
        "url('https://[::1]:80/').getPort() == '80' && url('https://example.com/a?k=x&k=y').getQuery()['k'] == ['x', 'y']",
        "isURL('https://user:pass@example.com:80/path') && !isURL('../relative-path')",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('50Mi').compareTo(quantity('50M')) == 1",
        "quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(quantity('20k')) == quantity('30k')",
        "quantity('50k').asInteger() == 50000 && !quantity('50.5').isInteger() && sign(quantity('-50k')) == -1",
        "!quantity('9999999999999999999999999999999999999G').isInteger()",
        "isQuantity('1.3Gi') && isQuantity('50m') && !isQuantity('200K')",
        "ip('192.168.0.1').family() == 4 && ip('::1').isLoopback() && ip('fe80::1').isLinkLocalUnicast()",
        "ip.isCanonical('2001:db8::abcd') && !ip.isCanonical('2001:DB8::ABCD')",
        "!isIP('::ffff:1.2.3.4') && !isIP('01.2.3.4') && string(ip('127.0.0.1')) == '127.0.0.1'",
        "cidr('192.168.0.0/24').containsIP('192.168.0.5') && !cidr('192.168.0.0/24').containsIP(ip('10.0.0.1'))",
        "cidr('192.168.0.0/24').containsCIDR('192.168.0.0/25') && cidr('192.168.0.1/24').masked() == cidr('192.168.0.0/24')",
        "cidr('::1/128').ip() == ip('::1') && cidr('10.0.0.0/8').prefixLength() == 8 && !isCIDR('10.0.0.0/33')",
        "!format.dns1123Label().validate('my-label').hasValue()",
        "format.named('dns1123Subdomain').value().validate('Not Valid').value().size() > 0",
        "!format.named('unknown').hasValue() && format.uuid() == format.named('uuid').value()",
        "semver('1.2.3').isLessThan(semver('1.3.0-alpha')) && semver('v01.01', true).compareTo(semver('1.1.0')) == 0",
        "isSemver('1.0.0') && !isSemver('1.0') && semver('1.2.3').minor() == 2",
        "sets.contains([1, 2, 3], [2, 3]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])",
        "[1, 2, 2, 3].distinct() == [1, 2, 3] && [[1], [2, 3]].flatten() == [1, 2, 3] && lists.range(3) == [0, 1, 2]",
        "[3, 1, 2].sort() == [1, 2, 3] && ['aaa', 'b', 'cc'].sortBy(s, s.size()) == ['b', 'cc', 'aaa']",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && [1, 2].reverse() == [2, 1]",
        "{'a': 1, 'b': 2}.transformMap(k, v, v > 1, v * 10) == {'b': 20}",
        "['x', 'y'].transformList(i, v, v + string(i)) == ['x0', 'y1']",
        "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'} && [1, 2].exists(i, v, i == 1 && v == 2)",
        "[1, 2].first().value() == 1 && ![].last().hasValue() && optional.of(1).optMap(x, x + 1).orValue(0) == 2",
        "{'a': 1}.?b.orValue(3) == 3 && [1][?5].or(optional.of(7)).value() == 7 && [?optional.none(), 1] == [1]",
        "'%s %d %.1f'.format([dyn('a'), dyn(1), dyn(2.5)]) == 'a 1 2.5' && '%x'.format([255]) == 'ff'",
        "'a-b-c'.split('-', 2) == ['a', 'b-c'] && ['a', 'b'].join(',') == 'a,b' && strings.quote('a\"') == '\"a\\\\\"\"'",
        "type(quantity('1')) != type(1) && duration('1h').getMinutes() == 60",
    ] {
        assert_eq!(evaluate(text).as_deref(), Ok("true"), "{text}");
    }
}

#[test]
fn failures_are_told_in_the_words_of_cel_go() {
    for (text, want) in [
        ("1 / 0", "division by zero"),
        ("{'a': 1}['b']", "no such key: b"),
        ("[1][2]", "index out of bounds: 2"),
        ("dyn('a') < dyn(1)", "no such overload: _<_(string, int)"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("optional.none().value()", "optional.none() dereference"),
        ("[dyn(1)].max() + dyn([]).min()", "min called on empty list"),
        ("'abc'.substring(5)", "index out of range: 5"),
        (
            "cidr('x')",
            "network address parse error during conversion from string: network address parse error during conversion from string: netip.ParsePrefix(\"x\"): no '/'",
        ),
        (
            "ip('1.2.3')",
            "IP Address \"1.2.3\" parse error during conversion from string: ParseAddr(\"1.2.3\"): IPv4 address too short",
        ),
        ("lists.range(100000000).size()", "operation cancelled: actual cost limit exceeded"),
    ] {
        assert_eq!(evaluate(text), Err(want.to_owned()), "{text}");
    }
}

#[test]
fn what_does_not_compile_is_shown_with_its_place() {
    for (text, want) in [
        ("x", "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x\n | ^"),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "'a'.size(1)",
            "ERROR: <input>:1:9: found no matching overload for 'size' applied to 'string.(int)'\n | 'a'.size(1)\n | ........^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"),
        ("'a'.matches('(')", "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^"),
        (
            "[1].all(x.y, true)",
            "ERROR: <input>:1:10: argument must be a simple name\n | [1].all(x.y, true)\n | .........^",
        ),
        ("has(1)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(1)\n | ....^"),
        (
            "1.all(x, true)",
            "ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)\n | 1.all(x, true)\n | ^",
        ),
        ("'a'.b", "ERROR: <input>:1:4: type 'string' does not support field selection\n | 'a'.b\n | ...^"),
        (
            "'%d'.format(['a'])",
            "ERROR: <input>:1:14: error during formatting: decimal clause can only be used on integers, was given string\n | '%d'.format(['a'])\n | .............^",
        ),
        (
            "'%d'.format([1, 2])",
            "ERROR: <input>:1:12: too many arguments supplied to string.format (expected 1, got 2)\n | '%d'.format([1, 2])\n | ...........^",
        ),
        (
            "'%q'.format([1])",
            "ERROR: <input>:1:12: could not parse formatting clause: unrecognized formatting clause \"q\"\n | '%q'.format([1])\n | ...........^",
        ),
        ("true && 1", "ERROR: <input>:1:9: expected type 'bool' but found 'int'\n | true && 1\n | ........^"),
        ("for", "ERROR: <input>:1:1: reserved identifier: for\n | for\n | ^"),
        ("99999999999999999999", "ERROR: <input>:1:1: invalid int literal\n | 99999999999999999999\n | ^"),
        ("X{a: 1}", "ERROR: <input>:1:2: undeclared reference to 'X' (in container '')\n | X{a: 1}\n | .^"),
    ] {
        let error = Env::kubernetes().compile(text).expect_err(text).to_string();
        assert_eq!(error, format!("compilation failed: {want}"), "{text}");
    }
}

/// The texts are those of ANTLR's parser.
#[test]
fn syntax_errors_are_told_as_antlr_tells_them() {
    const START: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";
    for (text, want) in [
        ("", format!("ERROR: <input>:1:0: Syntax error: mismatched input '<EOF>' expecting {START}")),
        (
            "self ==",
            format!(
                "ERROR: <input>:1:8: Syntax error: mismatched input '<EOF>' expecting {START}\n | self ==\n | .......^"
            ),
        ),
        (
            "object =",
            "ERROR: <input>:1:8: Syntax error: token recognition error at: '='\n | object =\n | .......^".to_owned(),
        ),
        ("a b", "ERROR: <input>:1:3: Syntax error: extraneous input 'b' expecting <EOF>\n | a b\n | ..^".to_owned()),
        (
            "a b c",
            "ERROR: <input>:1:3: Syntax error: mismatched input 'b' expecting <EOF>\n | a b c\n | ..^".to_owned(),
        ),
        (
            "Bad_Name!",
            "ERROR: <input>:1:9: Syntax error: extraneous input '!' expecting <EOF>\n | Bad_Name!\n | ........^"
                .to_owned(),
        ),
        ("../x", "ERROR: <input>:1:2: Syntax error: no viable alternative at input '..'\n | ../x\n | .^".to_owned()),
        ("a.1", "ERROR: <input>:1:2: Syntax error: extraneous input '.1' expecting <EOF>\n | a.1\n | .^".to_owned()),
        ("(1", "ERROR: <input>:1:3: Syntax error: missing ')' at '<EOF>'\n | (1\n | ..^".to_owned()),
        ("f(1", "ERROR: <input>:1:4: Syntax error: missing ')' at '<EOF>'\n | f(1\n | ...^".to_owned()),
        (
            "[1",
            "ERROR: <input>:1:3: Syntax error: mismatched input '<EOF>' expecting {']', ','}\n | [1\n | ..^".to_owned(),
        ),
        (
            "a ? b",
            "ERROR: <input>:1:6: Syntax error: mismatched input '<EOF>' expecting ':'\n | a ? b\n | .....^".to_owned(),
        ),
        (
            "a.true",
            "ERROR: <input>:1:3: Syntax error: mismatched input 'true' expecting IDENTIFIER\n | a.true\n | ..^"
                .to_owned(),
        ),
        (
            "*a + / b",
            format!(
                "ERROR: <input>:1:1: Syntax error: extraneous input '*' expecting {START}\n | *a + / b\n | ^\n\
                 ERROR: <input>:1:6: Syntax error: extraneous input '/' expecting {START}\n | *a + / b\n | .....^"
            ),
        ),
    ] {
        let error = Env::kubernetes().compile(text).expect_err(text).to_string();
        assert_eq!(error, format!("compilation failed: {want}"), "{text}");
    }
    let deep = format!("{}1{}", "(".repeat(300), ")".repeat(300));
    let error = Env::kubernetes().compile(&deep).expect_err("too deep").to_string();
    assert_eq!(error, "compilation failed: ERROR: <input>:-1:0: expression recursion limit exceeded: 250");
}

struct OnlyPods;

impl Authorizer for OnlyPods {
    fn authorize(&self, check: &Check) -> Decision {
        let allowed = matches!(&check.to, Subject::Resource(r) if r.resource == "pods" && r.namespace == "a");
        let by = check.service_account.as_ref().map_or("me", |(_, name)| name);
        Decision { allowed: allowed && check.verb == "get", reason: format!("asked by {by}"), error: None }
    }
}

#[test]
fn an_authorizer_is_asked_what_the_expression_says() {
    let env = Env::kubernetes().with_variable("authorizer", library::authorizer_type());
    for (text, want) in [
        ("authorizer.group('').resource('pods').namespace('a').check('get').allowed()", "true"),
        ("authorizer.group('').resource('pods').namespace('b').check('get').allowed()", "false"),
        ("authorizer.path('/healthz').check('get').allowed()", "false"),
        ("authorizer.serviceAccount('ns', 'sa').path('/x').check('get').reason()", "asked by sa"),
    ] {
        let program = env.compile(text).expect(text);
        let variables = [("authorizer", library::authorizer_value(std::sync::Arc::new(OnlyPods)))];
        let mut budget = Budget::new(1_000_000);
        assert_eq!(program.evaluate(&variables, &mut budget).expect(text).to_string(), want, "{text}");
        assert!(budget.spent() > 350_000, "{text}");
    }
}

#[test]
fn an_evaluation_ends_when_nobody_wants_it_or_it_costs_too_much() {
    let env = Env::kubernetes().with_variable("list", Type::list(Type::Int));
    let program = env.compile("list.all(x, list.all(y, x + y >= 0))").expect("an expression");
    let variables = [("list", Value::list((0..1000).map(Value::Int).collect()))];
    let result = program.evaluate(&variables, &mut Budget::new(1_000_000));
    assert_eq!(result.err(), Some(EvalError::OverBudget));
    let stop = || true;
    let result = program.evaluate(&variables, &mut Budget::new(u64::MAX).with_cancellation(&stop));
    assert_eq!(result.err(), Some(EvalError::Cancelled));
}

#[test]
fn patches_are_objects() {
    let env = Env::kubernetes()
        .with_functions(library::mutation)
        .with_types(std::sync::Arc::new(library::MutationTypes))
        .with_variable("object", Type::Dyn);
    let program = env
        .compile(
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a.b/c~d'), value: object.data}]",
        )
        .expect("an expression");
    assert_eq!(program.result_type().to_string(), "list(JSONPatch)");
    let object = trireme_schema::value!({"data": {"x": 1}});
    let variables = [("object", Value::from_json(&object, None).expect("a value"))];
    let result = program.evaluate(&variables, &mut Budget::new(1_000)).expect("a result");
    let want = trireme_schema::value!([{"op": "add", "path": "/metadata/labels/a.b~1c~0d", "value": {"x": 1}}]);
    assert_eq!(trireme_cel::to_json(&result), Ok(want));
    let error = env.compile("JSONPatch{op: 1, bogus: 2}").expect_err("a bad patch").to_string();
    assert!(error.contains("expected type of field 'op' is 'string' but provided type is 'int'"), "{error}");
    assert!(error.contains("undefined field 'bogus'"), "{error}");
    let program = env.compile("Object{spec: Object.spec{a: [Object.spec.a{b: 1}], c: Object.d{}}}").expect("an object");
    let result = program.evaluate(&variables, &mut Budget::new(1_000)).expect("a result");
    assert_eq!(trireme_cel::to_json(&result), Ok(trireme_schema::value!({"spec": {"a": [{"b": 1}], "c": {}}})));
    let Value::Struct(root) = &result else { panic!("{result:?}") };
    let want = "unexpected type name \"Object.d\", expected \"Object.spec.c\", which matches field name path from root Object type";
    assert_eq!(library::misnamed_objects(root), [want]);
}

/// `variables`, of which each is made when it is first wanted.
struct Lazy(std::cell::Cell<u32>);

impl Activation for Lazy {
    fn variable(&self, name: &str) -> Result<Option<Value<'_>>, EvalError> {
        Ok((name == "plain").then_some(Value::Int(1)))
    }

    fn lazy_field(&self, variable: &str, field: &str) -> Option<Result<Option<Value<'_>>, EvalError>> {
        if variable != "variables" {
            return None;
        }
        self.0.set(self.0.get() + 1);
        Some(match field {
            "good" => Ok(Some(Value::list(vec![Value::Int(1), Value::Int(2)]))),
            "bad" => Err(EvalError::new("it fails")),
            _ => Ok(None),
        })
    }
}

#[test]
fn fields_of_lazy_variables_are_made_when_they_are_wanted() {
    let env = Env::kubernetes().with_variable("variables", Type::Dyn).with_variable("plain", Type::Int);
    for (text, want, made) in [
        ("plain == 1 || variables.bad", Ok("true"), 0),
        ("variables.good[1] == 2", Ok("true"), 1),
        ("variables.good.all(x, x > 0) && has(variables.good)", Ok("true"), 2),
        ("variables.bad", Err("it fails"), 1),
        ("variables.none", Err("no such key: none"), 1),
        ("has(variables.none)", Ok("false"), 1),
        ("variables.?none.orValue(3)", Ok("3"), 1),
        ("variables.?good[0].orValue(3)", Ok("1"), 1),
    ] {
        let lazy = Lazy(std::cell::Cell::new(0));
        let program = env.compile(text).expect(text);
        let result = program.evaluate(&lazy, &mut Budget::new(1_000)).map(|value| value.to_string());
        let result = result.map_err(|error| error.to_string());
        assert_eq!(result.as_deref().map_err(String::as_str), want, "{text}");
        assert_eq!(lazy.0.get(), made, "{text}");
    }
}
