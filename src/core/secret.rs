//! Secrets of an app's environment that it prints itself: they must not stay in records for ever.

/// What stands in the place of a secret.
const MASK: &str = "***";

/// A shorter value is no secret worth its name, and would be found in innocent text.
const SHORTEST: usize = 6;

/// Parts of names that people give to secrets.
const NAMES: [&str; 12] =
    ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASS", "PWD", "CREDENTIAL", "PRIVATE", "COOKIE", "AUTH", "DSN"];

/// The secrets among variables, the longest first: values whose name says so, and passwords within URLs.
pub fn secrets<'a>(variables: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<&'a str> {
    let mut secrets: Vec<&str> = variables
        .into_iter()
        .filter_map(|(name, value)| secret(name, value))
        .filter(|value| value.len() >= SHORTEST)
        .collect();
    secrets.sort_unstable_by_key(|secret| (std::cmp::Reverse(secret.len()), *secret));
    secrets.dedup();
    secrets
}

fn secret<'a>(name: &str, value: &'a str) -> Option<&'a str> {
    let name = name.to_ascii_uppercase();
    // A file's name is no secret, and is needed in tracebacks.
    let is_named = name
        .split('_')
        .any(|part| NAMES.contains(&part) || part.strip_suffix('S').is_some_and(|one| NAMES.contains(&one)));
    let in_url = || {
        let (_, rest) = value.split_once("://")?;
        let (user, _) = rest[..rest.find('/').unwrap_or(rest.len())].rsplit_once('@')?;
        user.split_once(':').map(|(_, password)| password)
    };
    in_url().or((is_named && !value.starts_with('/')).then_some(value))
}

/// Masks them in a text.
pub fn mask(text: &mut String, secrets: &[&str]) {
    for secret in secrets {
        if text.contains(secret) {
            *text = text.replace(secret, MASK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_called_a_secret_is_masked_and_nothing_else() {
        let variables: BTreeMap<String, String> = [
            ("API_KEY", "sk-live-4FjLq09x"),
            ("DATABASE_URL", "postgres://app:hunter22@db.example.com/x"),
            ("SSH_AUTH_SOCK", "/tmp/agent.1"),
            ("KEYBOARD", "querty-de"),
            ("PIN_PASS", "123"),
            ("PATH", "/usr/bin:/bin"),
            ("GITHUB_TOKENS", "ghp_a1b2c3"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let secrets = secrets(&variables);
        assert_eq!(secrets, ["sk-live-4FjLq09x", "ghp_a1b2c3", "hunter22"]);
        let mut text =
            "401 for sk-live-4FjLq09x at postgres://app:hunter22@db.example.com/x in /usr/bin 123".to_owned();
        mask(&mut text, &secrets);
        assert_eq!(text, "401 for *** at postgres://app:***@db.example.com/x in /usr/bin 123");
    }
}
