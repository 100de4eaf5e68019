//! Conditions over documents: what holds, what does not, and what is never begun.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Conditions, Live, Unmet, pool::Pool};
use crate::answer::UnknownCause;

/// When the documents here are evaluated.
const NOON: &str = "2026-11-08T12:00:00Z";

fn statement(predicate: &Value) -> Vec<u8> {
    json!({"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://example.org/p",
        "subject": [{"name": "app", "digest": {"sha256": "abc"}}], "predicate": predicate})
    .to_string()
    .into_bytes()
}

fn compile(source: &str) -> Conditions {
    Conditions::compile(&[source.to_owned()]).unwrap_or_else(|error| panic!("{source}: {error}"))
}

fn evaluate(source: &str, predicate: &Value) -> Result<(), Unmet> {
    compile(source).evaluate(&statement(predicate), NOON.parse().unwrap())
}

fn refusal(source: &str) -> String {
    let started = Instant::now();
    let error = Conditions::compile(&[source.to_owned()]).map(drop).expect_err(source);
    assert!(started.elapsed() < Duration::from_secs(5), "{source:.60}: took {:?}", started.elapsed());
    error.why
}

fn provenance() -> Value {
    json!({
        "buildDefinition": {"buildType": "https://example.org/build@v1", "externalParameters": {"source": {"uri": "git+https://git.example.org/team/app"}},
            "resolvedDependencies": [{"uri": "git+https://git.example.org/team/app", "digest": {"gitCommit": "0a"}}, {"uri": "pkg:docker/debian@12"}]},
        "runDetails": {"builder": {"id": "https://builder.example.org/v2"}, "metadata": {"startedOn": "2026-11-01T10:00:00Z"}},
        "score": 7, "share": 7.0, "big": 18_446_744_073_709_551_615u64, "flags": [true, false], "nothing": null
    })
}

#[test]
fn what_holds_and_what_does_not() {
    for holds in [
        "predicate.runDetails.builder.id == 'https://builder.example.org/v2'",
        "predicate['runDetails'].builder.id.startsWith('https://builder.example.org/')",
        "predicate.buildDefinition.resolvedDependencies.exists(d, d.uri.matches('^git\\\\+https://git[.]example[.]org/team/'))",
        "predicate.buildDefinition.resolvedDependencies.all(d, d.uri.contains(':'))",
        "predicate.buildDefinition.resolvedDependencies.filter(d, has(d.digest)).size() == 1",
        "predicate.buildDefinition.resolvedDependencies.map(d, d.uri).exists_one(u, u.startsWith('pkg:'))",
        "size(predicate.flags) == 2 && predicate.flags[0] && !predicate.flags[1]",
        "'score' in predicate && !('absent' in predicate)",
        "predicate.score == 7.0 && predicate.score == predicate.share && predicate.score < 7.5 && predicate.score >= 7",
        "!(predicate.score != 7.0)",
        "predicate.big > 9223372036854775807",
        "predicate.nothing == null && !has(predicate.nowhere)",
        "timestamp(predicate.runDetails.metadata.startedOn) > timestamp('2026-01-01T00:00:00Z')",
        "timestamp(predicate.runDetails.metadata.startedOn) - timestamp('2026-11-01T00:00:00Z') == duration('10h')",
        "predicate.buildDefinition.buildType.split('@')[1] == 'v1'",
        "' A b '.trim().lowerAscii() == 'a b' && 'x'.upperAscii() == 'X'",
        "string(predicate.score) + '!' == '7!' && int('7') == predicate.score && double('0.5') < 1.0",
        "predicateType == 'https://example.org/p' && subject[0].digest.sha256 == 'abc'",
        "timestamp(predicate.runDetails.metadata.startedOn) > now - duration('171h')",
        "!(timestamp(predicate.runDetails.metadata.startedOn) > now - duration('170h'))",
        "now == timestamp('2026-11-08T13:00:00+01:00')",
        "true || predicate.nowhere",
        "predicate.score > 5 ? true : predicate.nowhere",
    ] {
        assert_eq!(evaluate(holds, &provenance()), Ok(()), "{holds}");
    }
    for (fails, why) in [
        ("predicate.runDetails.builder.id == 'https://other'", "conditions[0] is false"),
        ("predicate.nowhere == 'x'", "can't be evaluated: No such key: nowhere"),
        ("predicate.score", "is an int, and neither true nor false"),
        ("predicate.buildDefinition", "is a map, and neither true nor false"),
        ("'true'", "is a string, and neither true nor false"),
        ("predicate.score / 0 == 1", "can't be evaluated: Division by zero"),
        ("predicate.score + 9223372036854775807 > 0", "can't be evaluated: Overflow"),
        ("predicate.flags[5]", "can't be evaluated: Index out of bounds"),
        (
            "predicate.score.startsWith('7')",
            "can't be evaluated: Error executing function 'startsWith': needs a string",
        ),
        ("timestamp('yesterday') < timestamp('2026-01-01T00:00:00Z')", "can't be evaluated"),
        ("predicate.buildDefinition.resolvedDependencies.all(d, has(d.digest))", "conditions[0] is false"),
    ] {
        let unmet = evaluate(fails, &provenance());
        assert!(matches!(&unmet, Err(Unmet::Condition(text)) if text.contains(why)), "{fails}: {unmet:?}");
    }
}

/// As it is, the evaluator takes each of these for true.
#[test]
fn a_field_of_what_has_none_is_an_error_and_not_false() {
    for open in [
        "!predicate.flags.critical",
        "!predicate.score.critical",
        "!has(predicate.flags.critical)",
        "!has(predicate.score.critical)",
        "predicate.flags.critical == false",
        "[1].all(x, !predicate.flags.critical)",
    ] {
        let unmet = evaluate(open, &provenance());
        assert!(
            matches!(&unmet, Err(Unmet::Condition(why)) if why.contains("can't be evaluated")),
            "{open}: {unmet:?}"
        );
    }
    assert!(refusal("!!has(predicate.nowhere)").contains("twice in a row"));
}

/// As it is, the evaluator finds no double in a list of ints.
#[test]
fn in_knows_the_same_equality_as_equal() {
    for holds in [
        "predicate.share in [6, 7] && predicate.score in [7.0] && predicate.big in [predicate.big]",
        "7.0 in predicate.scores && 9 in predicate.scores && [7] in [[7.0]] && {'a': 7.0} in [{'a': 7}]",
        "null in predicate.scores && 'high' in ['low', 'high'] && true in predicate.flags",
        "!(8 in predicate.scores) && !('7' in predicate.scores) && !(1 in [])",
        "'score' in predicate && !('absent' in predicate) && 7.0 in {7: 'a'} && !('7' in {7: 'a'})",
        "predicate.scores.exists(s, s in [9.0])",
    ] {
        assert_eq!(evaluate(holds, &listed()), Ok(()), "{holds}");
    }
    for open in [
        "!(predicate.share in [7, 10])",
        "!(predicate.score in [7.0])",
        "!(9 in predicate.scores)",
        "!(7.0 in {7: 'a'})",
        "predicate.scores.all(s, !(s in [9]))",
    ] {
        let unmet = evaluate(open, &listed());
        assert!(matches!(&unmet, Err(Unmet::Condition(why)) if why.contains("is false")), "{open}: {unmet:?}");
    }
    for error in ["!('a' in 'abc')", "!(7 in predicate.score)", "!(null in null)"] {
        let unmet = evaluate(error, &listed());
        assert!(
            matches!(&unmet, Err(Unmet::Condition(why)) if why.contains("can't be evaluated")),
            "{error}: {unmet:?}"
        );
    }
}

fn listed() -> Value {
    let mut predicate = provenance();
    predicate["scores"] = json!([7, 9.0, null]);
    predicate
}

/// What the documentation says of a number and a text.
#[test]
fn values_of_two_kinds_are_not_equal_and_can_not_be_ordered() {
    assert_eq!(evaluate("predicate.score != '7' && !(predicate.score == '7')", &provenance()), Ok(()));
    for error in ["predicate.score < '8'", "!(predicate.score < '8')", "predicate.score >= '7'"] {
        let unmet = evaluate(error, &provenance());
        assert!(
            matches!(&unmet, Err(Unmet::Condition(why)) if why.contains("can't be evaluated")),
            "{error}: {unmet:?}"
        );
    }
}

#[test]
fn conditions_that_name_the_time_are_live() {
    for (source, live) in [("now > timestamp('2026-01-01T00:00:00Z')", true), ("true || now == null", true)] {
        assert_eq!(compile(source).is_live(), live, "{source}");
    }
    // Only what may change is kept to be asked again.
    let both = Conditions::compile(&["true".to_owned(), "now != null".to_owned()]).unwrap();
    assert_eq!(format!("{:?}", Live::of(&both, b"").unwrap().conditions), r#"["now != null"]"#);
    for source in ["predicate.now == 1", "[1].all(now, now == 1)", "'now' == 'now'"] {
        assert!(!compile(source).is_live(), "{source}");
    }
}

#[test]
fn an_errors_text_is_bounded_whatever_the_document_says() {
    let long = json!({"text": "x\n".repeat(100_000)});
    let Err(Unmet::Condition(why)) = evaluate("predicate.text + 1 == 'a'", &long) else { panic!("it holds") };
    assert!(why.len() < 600 && !why.contains('\n'), "{} bytes", why.len());
}

#[test]
fn what_is_refused_when_a_policy_is_compiled_says_what_to_write() {
    for (source, why) in [
        ("", "is no CEL expression"),
        ("predicate.", "is no CEL expression"),
        ("predicate == ", "is no CEL expression"),
        (
            "predicat.builder == 1",
            "names predicat, which is not known: there are predicate, predicateType, subject, now",
        ),
        ("predicate.x.replace('a', 'b') == ''", "calls replace, which is not known"),
        ("predicate.x.all('a') == 1", "calls all, which is not known"),
        ("predicate.x.startsWith()", "write value.startsWith(…)"),
        ("size() == 1", "write value.size() or size(…)"),
        ("'a'.matches(predicate.pattern)", "write the pattern as a string"),
        ("'a'.matches('(')", "is no pattern that can be used"),
        ("'a'.matches('(a{1000}){1000}')", "is no pattern that can be used"),
        ("Thing{a: 1}.a == 1", "only lists and maps can be made"),
        ("predicate.a // why\n == 1", "has a comment"),
        ("has(predicate)", "is no CEL expression: invalid argument to has()"),
        ("predicate.?a == 1", "is no CEL expression"),
        (
            "predicate.a.all(x, x.all(y, y.all(z, z)))",
            "nests comprehensions (all, exists, exists_one, map, filter) more than 2 deep: split it",
        ),
    ] {
        assert!(refusal(source).contains(why), "{source}: {}", refusal(source));
    }
    compile("predicate.a.all(x, x.all(y, y > 0)) && predicate.b.map(x, x).filter(x, x > 0).all(x, x > 0)");
    let second = Conditions::compile(&["true".to_owned(), "x".to_owned()]).map(drop);
    assert_eq!(second.map_err(|error| error.field()), Err("conditions[1]".to_owned()));
}

#[test]
fn nasty_expressions_are_refused_in_bounded_time() {
    let deep = |open: &str, close: &str, times: usize| format!("{}1{}", open.repeat(times), close.repeat(times));
    for (source, why) in [
        ("a".repeat(4097), "has 4097 bytes"),
        (format!("predicate{}", ".a".repeat(2040)), "nested more than 48 deep"),
        (format!("predicate{}", "[0]".repeat(1300)), "nested more than 48 deep"),
        (format!("1{}", "+1".repeat(2000)), "nested more than 48 deep"),
        (format!("1{}", "==1".repeat(1300)), "nested more than 48 deep"),
        (deep("(", ")", 2000), ""),
        (deep("[", "]", 2000), ""),
        (deep("{1:", "}", 1000), ""),
        (deep("-(", ")", 1300), ""),
        (deep("!(", ")", 1300), ""),
        (deep("- -(", ")", 800), "twice in a row"),
        (deep("true?", ":2", 500), ""),
        (deep("size(", ")", 600), ""),
        ("(".repeat(4096), ""),
        ("{".repeat(4096), ""),
        ("?".repeat(4096), ""),
        ("a.all(x,".repeat(500), ""),
        ("\"".repeat(4095), ""),
    ] {
        let refused = refusal(&source);
        assert!(refused.contains(why), "{source:.40}: {refused}");
        assert!(refused.len() < 600, "{source:.40}: {} bytes", refused.len());
    }
    // Wide is well.
    compile(&format!("true{}", "||true".repeat(600)));
}

#[test]
fn nasty_work_is_never_begun() {
    let wide = json!({"list": vec![1; 20_000], "text": "x".repeat(200_000)});
    let doubling = format!("predicate.list{}.size() > 0", ".map(x, x).map(x, [x, x])".repeat(20));
    let growing = format!("[predicate.text]{}.size() > 0", ".map(x, x + x)".repeat(40));
    for source in [
        "predicate.list.all(x, predicate.list.all(y, x == y))",
        "predicate.list.map(x, predicate.list.map(y, predicate)).size() == 0",
        "predicate.list.all(x, size(predicate) > 0)",
        "predicate.list.map(x, x).size() > 0",
        "predicate.list.all(x, predicate.text.matches('a.*b'))",
        "predicate.text.split('').all(x, predicate.text.contains(x))",
        "predicate.list.all(x, x in predicate.list)",
        "predicate.list.all(x, [x, x].all(y, predicate.text.contains('y')))",
        doubling.as_str(),
        growing.as_str(),
    ] {
        let started = Instant::now();
        let unmet = evaluate(source, &wide);
        assert!(
            matches!(&unmet, Err(Unmet::Unsupported(why)) if why.starts_with("unsupported: too large: conditions[0]")),
            "{source:.60}: {unmet:?}"
        );
        assert!(started.elapsed() < Duration::from_secs(2), "{source:.60}: took {:?}", started.elapsed());
    }
}

#[test]
fn as_much_work_as_is_allowed_ends_in_bounded_time() {
    // Lists in lists are walked once, however many they are.
    let results: Vec<_> = (0..200).map(|_| json!({"found": vec![json!({"severity": "LOW"}); 60]})).collect();
    let report = json!({"results": results});
    let walked = "predicate.results.all(r, !has(r.found) || r.found.all(f, f.severity != 'CRITICAL'))";
    let list = json!({"list": (0..1000).collect::<Vec<_>>()});
    for (source, predicate) in [
        (walked, &report),
        ("predicate.list.all(x, predicate.list.exists(y, x == y))", &list),
        ("predicate.list.filter(x, x > 3).size() > 0", &list),
        ("predicate.list.all(x, x in predicate.list)", &list),
    ] {
        let started = Instant::now();
        assert_eq!(evaluate(source, predicate), Ok(()), "{source}");
        assert!(started.elapsed() < Duration::from_secs(20), "{source}: took {:?}", started.elapsed());
    }
}

#[test]
fn a_document_is_bounded_while_it_is_read() {
    let nested = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let statement =
        |predicate: &str| format!(r#"{{"predicateType":"p","subject":[],"predicate":{predicate}}}"#).into_bytes();
    let always = compile("true");
    assert_eq!(always.evaluate(&statement("{}"), Timestamp::UNIX_EPOCH), Ok(()));
    for (payload, why) in [
        (statement(&format!("\"{}\"", "x".repeat(1024 * 1024))), "unsupported: too large: a statement of"),
        (statement(&format!("[{}1]", "1,".repeat(50_001))), "unsupported: too large: more than 50000 values"),
        (statement(&nested), "unsupported: too large: nested more than 64 deep"),
        (statement(r#"{"a":1,"a":2}"#), "\"a\" is there twice"),
        (statement("null"), "without a predicate"),
        (statement(""), "can't be evaluated"),
        (br#"{"predicateType":"p","subject":[]}"#.to_vec(), "without a predicate"),
        (br#"{"predicateType":"p","subject":[],"predicate":{},"predicate":{}}"#.to_vec(), "duplicate field"),
    ] {
        let unmet = always.evaluate(&payload, Timestamp::UNIX_EPOCH);
        assert!(matches!(&unmet, Err(Unmet::Unsupported(text)) if text.contains(why)), "{why}: {unmet:?}");
    }
}

#[tokio::test]
async fn a_full_pool_is_unknown() {
    let pool = Pool::new(0, Duration::from_millis(1));
    let full = pool.evaluate(&compile("true"), statement(&json!({})).into(), Timestamp::UNIX_EPOCH).await;
    assert_eq!(full.map_err(|unknown| unknown.cause), Err(UnknownCause::Busy));
    let pool = Pool::new(1, Duration::from_secs(20));
    let (always, never, document) = (compile("true"), compile("false"), Arc::<[u8]>::from(statement(&json!({}))));
    let results = futures::join!(
        pool.evaluate(&always, document.clone(), Timestamp::UNIX_EPOCH),
        pool.evaluate(&never, document.clone(), Timestamp::UNIX_EPOCH)
    );
    assert!(matches!(results, (Ok(Ok(())), Ok(Err(Unmet::Condition(_))))), "{results:?}");
}

#[test]
fn fuzz_conditions() {
    let seeds: [&[u8]; 5] = [
        b"predicate.builder.id == 'https://builder.example' && predicate.materials.all(m, m.uri.startsWith('git+'))",
        b"predicate.list.exists(x, predicate.list.filter(y, y != x).size() > 1) ? true : !has(predicate.a.b)",
        b"size(predicate.list.map(x, x * 2 + 1)) in [1, 2, 3] || predicate.name.matches('^a+b*$')",
        b"subject.exists_one(s, s.digest.sha256.size() == 64) && predicateType.contains('slsa')",
        b"timestamp(predicate.at) < now && duration('1h') > duration('5s') && [1, 2][0] == {'a': 1}['a']",
    ];
    let statement = r#"{"_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"digest": {"sha256": "00"}}], "predicate": {"builder": {"id": "x"}, "name": "aab", "at": "2026-01-01T00:00:00Z",
        "materials": [{"uri": "git+https://a"}, {"uri": "b"}], "list": [1, 2.5, null, "x", [1], {"a": 1}]}}"#;
    zastava_fuzz::run(&seeds, 5000, |input| {
        let Ok(text) = std::str::from_utf8(input) else { return };
        if let Ok(conditions) = Conditions::compile(&[text.to_owned()]) {
            let _ = conditions.evaluate(statement.as_bytes(), Timestamp::UNIX_EPOCH);
        }
    });
}
