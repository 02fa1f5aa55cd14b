//! The signature of an exception: what is the same each time it comes again, so that repeats can be counted together.

/// Longest signature and longest type within it, in characters.
pub const MAX_SIGNATURE: usize = 200;
const MAX_KIND: usize = 80;

/// Longest message that is looked at, and longest quoted text, in characters.
const MAX_MESSAGE: usize = 2000;
const MAX_QUOTED: usize = 100;

/// A word longer than this is data; a token of letters and digits is an id from this length on.
const MAX_WORD: usize = 64;
const TOKEN: usize = 20;

/// Type and message of an exception, with what changes from one time to the next folded: at most [`MAX_SIGNATURE`] characters,
/// one line, no control characters.
///
/// | folded to | what |
/// |---|---|
/// | `<n>` | numbers, also in durations and sizes (`<n>ms`), ports, line numbers; digits behind a letter stay (`utf8`, `sha256`) |
/// | `<time>` | dates and times of day |
/// | `<id>` | UUIDs, `0x…`, hexadecimal words of 8 and more with a digit, tokens of 20 and more letters and digits |
/// | `<addr>` | IPv4 and IPv6 addresses |
/// | `<path>` | paths, and the path of a URL: its scheme and host stay, its user and password do not |
///
/// Quoted text is kept as it is where it is a name: one word of letters, digits, `_`, `-` and `.` with a letter in it, that is none
/// of the above (`'user_42'`, `"worker-3"`, `'example.com'`). Other quoted text (paths, numbers, ids, sentences) is folded within
/// its quotes; they say where a path with blanks ends.
///
/// The signature of a signature's own message is the same signature.
#[must_use]
pub fn signature(kind: &str, message: &str) -> String {
    let kind: String = one_line(kind).chars().take(MAX_KIND).collect();
    let kind = kind.trim_end();
    let room = MAX_SIGNATURE - kind.chars().count() - 2;
    let mut message: String =
        one_line(message.char_indices().nth(MAX_MESSAGE).map_or(message, |(at, _)| &message[..at]));
    // Folding can bring two parts together that fold again, and cutting can take a name's closing quote. Each round replaces
    // text by marks, which never fold, so it ends.
    loop {
        let folded = shorten(&fold(&message), room);
        if folded == message {
            break;
        }
        message = folded;
    }
    match (kind.is_empty(), message.is_empty()) {
        (_, true) => kind.to_owned(),
        (true, false) => message,
        (false, false) => format!("{kind}: {message}"),
    }
}

/// Words with single blanks between them.
fn one_line(text: &str) -> String {
    text.split(|char: char| char.is_whitespace() || char.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// At most `most` characters, where possible whole words.
fn shorten(text: &str, most: usize) -> String {
    let Some((end, _)) = text.char_indices().nth(most) else { return text.to_owned() };
    let kept: &str = &text[..text[..end].char_indices().next_back().map_or(0, |(at, _)| at)];
    let kept = kept.rsplit_once(' ').map_or(kept, |(words, _)| words);
    format!("{}…", kept.trim_end_matches('…'))
}

fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let took = if let Some(inner) = quoted(rest, before) {
            let quote = first;
            out.push(quote);
            if is_name(inner) {
                out.push_str(inner);
            } else if is_rooted(inner) {
                out.push_str("<path>");
            } else {
                out.push_str(&fold(inner));
            }
            out.push(quote);
            inner.len() + 2
        } else if is_in_word(first) {
            let mut end = rest.find(|char| !is_in_word(char)).unwrap_or(rest.len());
            if rest[..end].contains("://") {
                end = rest.find(|char| !is_in_url(char)).unwrap_or(rest.len());
            }
            // Punctuation behind a word is the sentence's.
            let word = rest[..end].trim_end_matches(['.', ':', '!', '?']);
            out.push_str(&fold_word(word));
            out.push_str(&rest[word.len()..end]);
            end
        } else {
            out.push(first);
            first.len_utf8()
        };
        before = rest[..took].chars().next_back().unwrap_or(' ');
        rest = &rest[took..];
    }
    out
}

/// The text within quotes that open at the start of `rest`. An apostrophe opens none.
fn quoted(rest: &str, before: char) -> Option<&str> {
    let quote = rest.chars().next().filter(|char| matches!(char, '\'' | '"' | '`'))?;
    if before.is_alphanumeric() {
        return None;
    }
    let inner = &rest[1..];
    let end = inner
        .char_indices()
        .take(MAX_QUOTED)
        .find(|(at, char)| *char == quote && !inner[at + 1..].starts_with(|char: char| char.is_alphanumeric()))?;
    Some(&inner[..end.0])
}

fn is_in_word(char: char) -> bool {
    char.is_alphanumeric()
        || matches!(
            char,
            '_' | '-' | '.' | ':' | '/' | '\\' | '@' | '%' | '~' | '+' | '#' | '?' | '&' | '!' | '$' | '*'
        )
}

/// The query of a URL may hold secrets: it goes on to where text ends a URL.
fn is_in_url(char: char) -> bool {
    !char.is_whitespace() && !"'\"`()[]{}<>|;…".contains(char)
}

fn is_name(text: &str) -> bool {
    text.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '-' | '.'))
        && text.chars().any(char::is_alphabetic)
        && text.len() <= MAX_WORD
        && !is_id(text)
        && !is_time(text)
}

fn fold_word(word: &str) -> String {
    if is_id(word) {
        "<id>".to_owned()
    } else if let Some((scheme, rest)) = word.split_once("://") {
        fold_url(scheme, rest)
    } else if is_time(word) {
        "<time>".to_owned()
    } else if is_ipv6(word) {
        "<addr>".to_owned()
    } else if is_path(word) {
        "<path>".to_owned()
    } else if word.len() > MAX_WORD {
        "<id>".to_owned()
    } else {
        fold_numbers(word)
    }
}

/// Keeps scheme and host.
fn fold_url(scheme: &str, rest: &str) -> String {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, host) = authority.rsplit_once('@').map_or(("", authority), |(_, host)| ("<id>@", host));
    let host = if host.len() > MAX_WORD { "<id>".to_owned() } else { fold_numbers(host) };
    let path = if path.len() > 1 { "<path>" } else { path };
    format!("{}://{user}{host}{path}", fold_numbers(scheme))
}

/// Folds IPv4 addresses and numbers that do not belong to a name.
fn fold_numbers(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    let mut before = None;
    let measure = word.starts_with(|char: char| char.is_ascii_digit());
    while let Some(first) = rest.chars().next() {
        let took = if first.is_ascii_digit() {
            let end = rest.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(rest.len());
            let number = rest[..end].trim_end_matches('.');
            let digits = number.find('.').unwrap_or(number.len());
            let own = measure || !before.is_some_and(char::is_alphabetic) || digits >= 5;
            out.push_str(match own {
                true if is_ipv4(number) => "<addr>",
                true => "<n>",
                false => number,
            });
            number.len()
        } else {
            // The sign of a number, not a hyphen.
            let sign = matches!(first, '-' | '+')
                && before.is_none_or(|char| matches!(char, ':' | '/'))
                && rest[1..].starts_with(|char: char| char.is_ascii_digit());
            if !sign {
                out.push(first);
            }
            first.len_utf8()
        };
        before = rest[..took].chars().next_back();
        rest = &rest[took..];
    }
    out
}

fn is_ipv4(text: &str) -> bool {
    text.split('.').count() == 4 && text.split('.').all(|part| part.parse::<u8>().is_ok())
}

/// `::1`, `fe80::1`, and Node's `:::3000`.
fn is_ipv6(text: &str) -> bool {
    text.matches(':').count() >= 2
        && text.bytes().any(|byte| byte.is_ascii_hexdigit())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
        && (text.contains("::") || text.bytes().any(|byte| byte.is_ascii_alphabetic()))
}

/// `10:00:00`, `2026-11-24`, `2026-11-24T10:00:00.123+00:00`, `24/Nov/2026:10:00:00`.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let separator = bytes.get(digits).copied().unwrap_or_default();
    let parts = bytes.iter().filter(|byte| matches!(byte, b'-' | b':' | b'/')).count();
    let shaped = match digits {
        4 => matches!(separator, b'-' | b'/'),
        1 | 2 => matches!(separator, b':' | b'/' | b'-'),
        _ => false,
    };
    let in_time = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'/' | b'.' | b'+' | b'T' | b'Z');
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let named = digits <= 2 && text.get(digits + 1..digits + 4).is_some_and(|month| months.contains(&month));
    shaped
        && parts >= 2
        && text.len() <= 40
        && (bytes.iter().all(in_time) || (named && bytes[digits + 4..].iter().all(in_time)))
}

fn is_id(text: &str) -> bool {
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let uuid = text.len() == 36 && text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(hex);
    let word = text.len() >= 8 && hex(text) && digits > 0 && digits < text.len();
    let token = text.len() >= TOKEN
        && digits >= 3
        && digits < text.len()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    uuid || word || token || text.strip_prefix("0x").is_some_and(hex)
}

/// Rooted (`/x`, `./x`, `~/x`, `C:\x`), or of three parts, or of two and a file's ending: `read/write` and `text/html` are none.
fn is_path(text: &str) -> bool {
    let parts = text.split('/').filter(|part| !part.is_empty()).count();
    let ending = text.rsplit('/').next().is_some_and(|file| file.trim_start_matches('.').contains('.'));
    is_rooted(text) || parts >= 3 || (parts == 2 && ending)
}

fn is_rooted(text: &str) -> bool {
    let word =
        |rest: &str| rest.starts_with(|char: char| char.is_alphanumeric() || matches!(char, '.' | '_' | '-' | '@'));
    let drive = |text: &str| text.starts_with(|char: char| char.is_ascii_alphabetic()) && text[1..].starts_with(":\\");
    ["/", "./", "../", "~/", "\\\\"].iter().any(|root| text.strip_prefix(root).is_some_and(word)) || drive(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(kind: &str, message: &str, expected: &str) {
        let folded = signature(kind, message);
        assert_eq!(folded, expected, "of {message:?}");
        let again = folded.strip_prefix(&format!("{kind}: ")).unwrap_or("");
        assert_eq!(signature(kind, again), folded, "a signature's signature");
    }

    #[test]
    fn quoted_names_are_kept() {
        check("KeyError", "'user_42'", "KeyError: 'user_42'");
        check("StoreError", "no such user: 'user_42'", "StoreError: no such user: 'user_42'");
        check(
            "ModuleNotFoundError",
            "No module named 'flaskk.ext2'",
            "ModuleNotFoundError: No module named 'flaskk.ext2'",
        );
        check("NameError", "name `x9` and \"worker-3\"", "NameError: name `x9` and \"worker-3\"");
    }

    #[test]
    fn quoted_numbers_paths_ids_and_sentences_are_folded_within_their_quotes() {
        check("KeyError", "'42'", "KeyError: '<n>'");
        check(
            "FileNotFoundError",
            "[Errno 2] No such file or directory: '/srv/app/data 7.csv'",
            "FileNotFoundError: [Errno <n>] No such file or directory: '<path>'",
        );
        check("E", "'550e8400-e29b-41d4-a716-446655440000'", "E: '<id>'");
        check(
            "E",
            "\"HTTPConnection(host='127.0.0.1', port=9): x\"",
            "E: \"HTTPConnection(host='<addr>', port=<n>): x\"",
        );
        check("E", "can't read 5 of user's 7 rows", "E: can't read <n> of user's <n> rows");
    }

    #[test]
    fn what_changes_from_time_to_time_is_folded() {
        for (message, expected) in [
            ("index out of range [5] with length 3", "index out of range [<n>] with length <n>"),
            ("timed out after 1.5s, -3 left, 1m30s, 20 %", "timed out after <n>s, <n> left, <n>m<n>s, <n> %"),
            ("object at 0x7f0543329280 of deadbeef1234", "object at <id> of <id>"),
            ("listen EADDRINUSE: address already in use :::3999", "listen EADDRINUSE: address already in use <addr>"),
            ("connect ECONNREFUSED 10.0.0.7:5432", "connect ECONNREFUSED <addr>:<n>"),
            ("to fe80::1 and [::1]:80", "to <addr> and [<addr>]:<n>"),
            ("at 2026-11-24T10:00:00.5Z or 2026-11-24 10:00:00", "at <time> or <time> <time>"),
            ("/srv/app/x.py:12: bad; see ./a/b, ~/c.d", "<path>: bad; see <path>, <path>"),
            ("GET https://me:pw@api.example.com:8443/v1/users/7?x=y", "GET https://<id>@api.example.com:<n><path>"),
            ("for url: /prices/7 (Caused by X)", "for url: <path> (Caused by X)"),
            ("utf8 sha256 sqlite3 user_42 order123456", "utf8 sha256 sqlite3 user_<n> order<n>"),
            ("read/write of text/html and a/b.html", "read/write of text/html and <path>"),
            ("token sk4FjLq09xTzW1b2c3d4e5f6", "token <id>"),
            ("worker 3 of 9 died. Again: 7!", "worker <n> of <n> died. Again: <n>!"),
        ] {
            check("E", message, &format!("E: {expected}"));
        }
    }

    #[test]
    fn a_signature_is_one_short_line() {
        check("Stop", "", "Stop");
        assert_eq!(signature("", "x  y\r\n\tz\u{1b}[31m"), "x y z [<n>m");
        assert_eq!(signature("", ""), "");
        let long = signature("E", &"word ".repeat(500));
        assert!(long.chars().count() <= MAX_SIGNATURE && long.ends_with("word…"), "{long}");
        assert_eq!(signature("E", &"x".repeat(5000)), "E: <id>");
        assert!(signature(&"K".repeat(5000), &"'a b' ".repeat(500)).chars().count() <= MAX_SIGNATURE);
    }

    #[test]
    fn two_of_a_kind_have_one_signature() {
        let of = |row: u32| signature("ValueError", &format!("row {row}: bad price '{row}.5' in /data/{row}.csv"));
        assert_eq!(of(1), of(70_000));
        assert_ne!(signature("KeyError", "'a'"), signature("KeyError", "'b'"));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_bounded_signature_that_folds_to_itself(
            kind in "\\PC{0,20}",
            message in prop_oneof![
                any::<String>(),
                "[ -~]{0,300}",
                "[a-f0-9'\"`:/. _<>()=,@…\\-]{0,300}",
                "(['\"`]?[a-z0-9_/.:\\-]{1,12}['\"`]?[ ,=(]{0,2}){0,60}",
            ],
        ) {
            let folded = signature(&kind, &message);
            prop_assert!(folded.chars().count() <= MAX_SIGNATURE);
            prop_assert!(!folded.contains(|char: char| char.is_control()));
            let alone = signature("", &message);
            prop_assert_eq!(signature("", &alone), alone);
            let named = signature("a.Kind", &message);
            prop_assert_eq!(signature("a.Kind", named.strip_prefix("a.Kind: ").unwrap_or_default()), named.clone());
        }
    }
}
