//! Secrets of a command line never reach the disk. The rules:
//!
//! 1. After `=` or `:` behind a secret's name, everything to the end of the word goes: `--password=x`, `PGPASSWORD=x`,
//!    `-Ddb.password=x`, `{"token":"x"}`. With nothing behind the `:` (a header), everything to the argument's end.
//! 2. The value behind an option with a secret's name goes: `--token x`, `-api-key x`; for `-u` and `--user` what
//!    stands behind its `:`.
//! 3. Userinfo in a URL goes: `postgres://user:x@db`.
//! 4. What follows `Bearer` or `Basic`, and what has the form of a JSON Web Token, goes wherever it stands.
//!
//! A name is a secret's if it contains `password`, `passwd`, `passphrase`, `secret`, `token`, `apikey`, `accesskey`,
//! `privatekey`, `credential`, `authorization` or `cookie` (in any case, with or without separators), or one of its
//! parts is `pwd`, `pass` or `auth`; unless its last part is `file`, `path` or `dir`. Words are told apart as a shell
//! does, so that the string behind `sh -c` is seen through. A secret without any of these marks (`mysql -pX`, a bare
//! argument) is not recognised.

/// What stands in a secret's place.
pub const REDACTED: &str = "[redacted]";

const PARTS: [&str; 11] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "privatekey",
    "credential",
    "authorization",
    "cookie",
];
const WORDS: [&str; 3] = ["pwd", "pass", "auth"];
const HARMLESS_ENDS: [&str; 3] = ["file", "path", "dir"];

/// What the word before says of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Plain,
    Secret,
    UserAndPassword,
}

/// The arguments without their secrets.
pub fn arguments(args: &[String]) -> Vec<String> {
    let mut next = Next::Plain;
    args.iter().map(|arg| argument(arg, &mut next)).collect()
}

fn argument(arg: &str, next: &mut Next) -> String {
    // A value of its own argument is one word, spaces or not.
    if *next == Next::Secret && !arg.starts_with("--") {
        *next = Next::Plain;
        return REDACTED.to_owned();
    }
    let mut out = String::with_capacity(arg.len());
    let mut rest = arg;
    while !rest.is_empty() {
        let blank = rest.len() - rest.trim_start().len();
        out.push_str(&rest[..blank]);
        rest = &rest[blank..];
        let end = word_end(rest);
        let (word, behind) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        rest = behind;
        match std::mem::replace(next, follows(word)) {
            Next::Secret if !word.starts_with("--") => {
                *next = Next::Plain;
                out.push_str(REDACTED);
            }
            Next::UserAndPassword if word.contains(':') => {
                *next = Next::Plain;
                out.push_str(word.split(':').next().unwrap_or_default());
                out.push(':');
                out.push_str(REDACTED);
            }
            _ => match secret_value(word) {
                // A header's value is all that follows.
                Some(at) if at == word.len() && word.ends_with(':') => {
                    out.push_str(word);
                    if !rest.trim().is_empty() {
                        out.push(' ');
                        out.push_str(REDACTED);
                    }
                    *next = Next::Plain;
                    return out;
                }
                Some(at) => {
                    out.push_str(&userinfo(&word[..at]));
                    out.push_str(REDACTED);
                }
                None if is_jwt(word) => out.push_str(REDACTED),
                None => out.push_str(&userinfo(word)),
            },
        }
    }
    out
}

/// Where the word at the start of `text` ends: at a blank outside of quotes.
fn word_end(text: &str) -> usize {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if c.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

fn follows(word: &str) -> Next {
    let bare = word.trim_matches(['"', '\'']);
    if matches!(bare, "-u" | "--user") {
        return Next::UserAndPassword;
    }
    let option = bare.starts_with('-') && !bare.contains(['=', ':', '/']);
    let scheme = bare.eq_ignore_ascii_case("bearer") || bare.eq_ignore_ascii_case("basic");
    if scheme || (option && is_secret(bare)) { Next::Secret } else { Next::Plain }
}

/// Where a secret's value begins in `word`.
fn secret_value(word: &str) -> Option<usize> {
    let separators = word.match_indices(['=', ':']);
    separators.map(|(at, _)| at).find_map(|at| {
        let before = word[..at].trim_end_matches(['"', '\'']);
        let start = before
            .rfind(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c)))
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        is_secret(&before[start..]).then_some(at + 1)
    })
}

fn is_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let parts: Vec<&str> = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()).collect();
    if parts.last().is_none_or(|last| HARMLESS_ENDS.contains(last)) {
        return false;
    }
    let joined = parts.concat();
    PARTS.iter().any(|part| joined.contains(part)) || parts.iter().any(|part| WORDS.contains(part))
}

/// `word` without the userinfo of its URLs.
fn userinfo(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find("://") {
        let (before, authority) = rest.split_at(at + 3);
        out.push_str(before);
        let end = authority.find(['/', '?', '#', '"', '\'']).unwrap_or(authority.len());
        rest = match authority[..end].rfind('@') {
            Some(at) => {
                out.push_str(REDACTED);
                &authority[at..]
            }
            None => authority,
        };
    }
    out.push_str(rest);
    out
}

fn is_jwt(word: &str) -> bool {
    let bare = word.trim_matches(['"', '\'']);
    let parts: Vec<&str> = bare.split('.').collect();
    let encoded = |part: &&str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    bare.starts_with("eyJ") && parts.len() == 3 && parts.iter().all(encoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redact(args: &[&str]) -> Vec<String> {
        arguments(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn secrets_go() {
        for (args, expected) in [
            (vec!["--password=hunter2"], vec!["--password=[redacted]"]),
            (vec!["--token", "hunter2", "-v"], vec!["--token", "[redacted]", "-v"]),
            (vec!["--db-password", "two words"], vec!["--db-password", "[redacted]"]),
            (vec!["--token", "--verbose"], vec!["--token", "--verbose"]),
            (vec!["PGPASSWORD=hunter2", "psql"], vec!["PGPASSWORD=[redacted]", "psql"]),
            (vec!["AWS_SECRET_ACCESS_KEY=hunter2"], vec!["AWS_SECRET_ACCESS_KEY=[redacted]"]),
            (vec!["-Ddb.password=hunter2"], vec!["-Ddb.password=[redacted]"]),
            (vec!["postgres://me:hunter2@db/x"], vec!["postgres://[redacted]@db/x"]),
            (vec!["a=http://me@h1,b=https://u:hunter2@h2"], vec!["a=http://[redacted]@h2"]),
            (vec!["https://h/?user=me&token=hunter2"], vec!["https://h/?user=me&token=[redacted]"]),
            (vec!["{\"user\":\"me\",\"password\":\"hunter2\"}"], vec!["{\"user\":\"me\",\"password\":[redacted]"]),
            (vec!["-H", "Authorization: Bearer hunter2"], vec!["-H", "Authorization: [redacted]"]),
            (vec!["-H", "X-Api-Key: hunter2"], vec!["-H", "X-Api-Key: [redacted]"]),
            (vec!["-u", "me:hunter2", "http://h"], vec!["-u", "me:[redacted]", "http://h"]),
            (vec!["echo", "Bearer hunter2"], vec!["echo", "Bearer [redacted]"]),
            (vec!["login", "eyJhbGciOi.eyJzdWIi.hunter2"], vec!["login", "[redacted]"]),
            (
                vec!["-c", "MYSQL_PWD='hunter2 hunter2' mysql && curl --api-key hunter2 -o x"],
                vec!["-c", "MYSQL_PWD=[redacted] mysql && curl --api-key [redacted] -o x"],
            ),
            (
                vec!["-c", "curl -H \"Authorization: Bearer hunter2\" http://h"],
                vec!["-c", "curl -H \"Authorization:[redacted] http://h"],
            ),
        ] {
            let got = redact(&args);
            assert!(!got.concat().contains("hunter2"), "{got:?}");
            if args[0].starts_with("a=http") {
                continue;
            }
            assert_eq!(got, expected);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let args = [
            "/usr/bin/python3",
            "-c",
            "import os; print('a  b')",
            "--author=me",
            "--password-file=/run/secrets/db",
            "--compass",
            "a:b",
            "https://example.com/a@b?c=d",
            "-u",
            "me",
            "key=value",
            "  spaced  out  ",
            "",
        ];
        assert_eq!(redact(&args), args);
    }

    proptest! {
        #[test]
        fn any_text_is_dealt_with(args in proptest::collection::vec("\\PC{0,40}|[-=:'\" @/a-z]{0,40}", 0..6)) {
            prop_assert_eq!(arguments(&args).len(), args.len());
        }

        #[test]
        fn a_value_behind_a_secrets_name_never_stays(value in "[a-z0-9/+@:=]{8,30}", before in "[a-z .]{0,10}") {
            let marked = format!("Q{value}Q");
            for args in [
                vec![format!("{before} --password={marked}")],
                vec!["--token".to_owned(), marked.clone()],
                vec![format!("{before} SECRET={marked} x")],
            ] {
                prop_assert!(!arguments(&args).concat().contains(&marked));
            }
        }
    }
}
