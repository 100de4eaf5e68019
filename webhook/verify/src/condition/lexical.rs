//! What has to be refused before the parser sees it.

/// Refuses comments, and signs in a row: the parser reads `!!x` as `!x` and `--x` as `-x`, and takes time exponential in
/// how deep they are nested.
pub(super) fn check(source: &str) -> Result<(), String> {
    let mut last_sign = None;
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = string(source, rest) {
            rest = after?;
            last_sign = None;
            continue;
        }
        if rest.starts_with("//") {
            return Err("has a comment: write it beside the expression instead".to_owned());
        }
        if matches!(c, '!' | '-') && last_sign == Some(c) && !rest.starts_with("!=") {
            return Err(format!("has {c} twice in a row: leave both out, or write {c}({c}x)"));
        }
        if !c.is_whitespace() {
            last_sign = Some(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    Ok(())
}

/// What follows the string literal that `rest` starts with, if it starts with one.
fn string<'a>(source: &str, rest: &'a str) -> Option<Result<&'a str, String>> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let before = source[..source.len() - rest.len()].trim_end_matches(['b', 'B']);
    let is_raw = before.ends_with(['r', 'R']);
    let one = &rest[..1];
    let three = one.repeat(3);
    let end = if rest.starts_with(&three) { three.as_str() } else { one };
    let mut body = &rest[end.len()..];
    while let Some(c) = body.chars().next() {
        if let Some(after) = body.strip_prefix(end) {
            return Some(Ok(after));
        }
        body = &body[c.len_utf8()..];
        if c == '\\' && !is_raw {
            body = body.chars().next().map_or("", |escaped| &body[escaped.len_utf8()..]);
        }
    }
    Some(Err(format!("has a string that does not end: a {quote} is missing")))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn signs_in_a_row_are_refused_and_what_only_looks_like_it_is_not() {
        for bad in ["!!a", "! ! a", "--1", "1 - -1", "a - - b", "!\n!a", "a // b", "-// x\n-1", "'", r"'\'", "!!!a"] {
            assert!(check(bad).is_err(), "{bad}");
        }
        for good in [
            "!a",
            "a != b",
            "!(!a)",
            "a-b",
            "'--x' == '!!'",
            "\"https://a\"",
            r"r'\' == b",
            "'''a'b--''' == c",
            r#""a\"--" == b"#,
            "!a && !b",
            "-1",
            "a.all(b, !b)",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }
}
