//! The rules of passwords: OWASP ASVS 5, section 6.2. Length, no composition rules, no truncation, nothing common, nothing that
//! is only the name of the thing it protects.

use super::common_passwords::COMMON;
use super::password::MAX_PASSWORD_BYTES;
use super::settings::PasswordSettings;
use crate::error::FieldError;

/// The most characters of a password.
pub const MAX_PASSWORD_CHARS: usize = 128;

/// Shorter context words occur inside good passwords by chance.
const MIN_CONTEXT_CHARS: usize = 4;
/// What must remain of a password besides context words, digits and punctuation.
const MIN_OTHER_CHARS: usize = 4;

/// Says why a new password is refused, or `None` when it is fine.
///
/// `context` holds what an attacker would try first: e-mail address, user name, tenant name and slug.
pub(crate) fn refuse_password(
    password: &str,
    pointer: &str,
    settings: &PasswordSettings,
    context: &[&str],
) -> Option<FieldError> {
    let refuse = |code: &'static str, message: String| Some(FieldError::new(pointer, code, message));
    let chars = password.chars().count();
    if chars < settings.min_chars {
        return refuse("too_short", format!("must have at least {} characters", settings.min_chars));
    }
    if chars > MAX_PASSWORD_CHARS || password.len() > MAX_PASSWORD_BYTES {
        return refuse("too_long", format!("must have at most {MAX_PASSWORD_CHARS} characters"));
    }
    let lower = password.to_lowercase();
    if is_common(&lower) || is_pattern(&lower) {
        return refuse("common", "is among the first that attackers try: choose another".to_owned());
    }
    if is_context(&lower, settings, context) {
        return refuse(
            "context",
            "must not consist of your name, address, tenant or product: choose another".to_owned(),
        );
    }
    None
}

/// A common password, also with digits or punctuation around it.
fn is_common(lower: &str) -> bool {
    let core = lower.trim_matches(|character: char| !character.is_alphabetic());
    COMMON.iter().any(|common| *common == lower || (core.len() >= 4 && *common == core))
}

/// One or two characters repeated, or a run such as `12345678` or `hgfedcba`.
fn is_pattern(lower: &str) -> bool {
    let chars: Vec<u32> = lower.chars().map(u32::from).collect();
    let repeated = [1, 2, 3, 4].iter().any(|period| chars.iter().zip(&chars[*period..]).all(|(a, b)| a == b));
    let up = chars.windows(2).all(|pair| pair[1] == pair[0] + 1);
    let down = chars.windows(2).all(|pair| pair[0] == pair[1] + 1);
    repeated || up || down
}

fn is_context(lower: &str, settings: &PasswordSettings, context: &[&str]) -> bool {
    let words = context
        .iter()
        .copied()
        .chain(settings.context_words.iter().map(String::as_str))
        .chain(["pulsestream"]);
    let mut rest = lower.to_owned();
    for phrase in words {
        for word in phrase.to_lowercase().split(|character: char| !character.is_alphanumeric()) {
            if word.chars().count() >= MIN_CONTEXT_CHARS {
                rest = rest.replace(word, "");
            }
        }
    }
    rest.len() < lower.len()
        && rest.chars().filter(|character| character.is_alphabetic()).count() < MIN_OTHER_CHARS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(password: &str) -> Option<String> {
        let context = ["ada.lovelace@engine.example", "ada_l", "Acme Weaving", "acme-weaving"];
        refuse_password(password, "/password", &PasswordSettings::default(), &context)
            .map(|refusal| refusal.code.into_owned())
    }

    #[test]
    fn lengths_at_their_limits() {
        assert_eq!(code("k3y-Zu7").as_deref(), Some("too_short"));
        assert_eq!(code("k3y-Zu7q"), None);
        let long = "vq7 ".repeat(31) + "wxkz";
        assert_eq!(code(&long), None);
        assert_eq!(code(&(long.clone() + "!")).as_deref(), Some("too_long"));
        // Characters are counted, not bytes: 128 characters of four bytes each are fine.
        let wide: String = (0..128).map(|index| char::from_u32(0x1f300 + index * 7 % 97).unwrap()).collect();
        assert_eq!(wide.len(), 512);
        assert_eq!(code(&wide), None);
    }

    #[test]
    fn no_composition_rules() {
        for password in ["onlylowercaseletters", "ONLY UPPER CASE", "2749103865", "    spaced    out    "] {
            assert_eq!(code(password), None, "{password}");
        }
    }

    #[test]
    fn common_and_patterned_ones_are_refused() {
        for password in [
            "password",
            "Password1",
            "P@ssw0rd",
            "PASSWORD123!",
            "qwertyuiop",
            "12345678",
            "87654321",
            "aaaaaaaaaa",
            "abababab",
            "abcdefgh",
            "letmein1",
            "iloveyou",
            "!!password!!",
            "changeme2024",
            "welcome1",
            "abcabcabcabc",
        ] {
            assert_eq!(code(password).as_deref(), Some("common"), "{password}");
        }
    }

    #[test]
    fn context_is_refused_only_when_little_else_is_there() {
        for password in ["lovelace1815", "acmeweaving", "Acme-Weaving-99", "PulseStream1", "lovelace_engine!"]
        {
            assert_eq!(code(password).as_deref(), Some("context"), "{password}");
        }
        assert_eq!(code("the lovelace cat sat down"), None);
    }

    #[test]
    fn the_refusal_never_repeats_the_password() {
        let refusal =
            refuse_password("lovelace1815", "/p", &PasswordSettings::default(), &["lovelace"]).unwrap();
        assert!(!refusal.to_string().contains("1815"));
    }

    #[test]
    fn the_list_is_lower_case_and_without_repetition() {
        let mut seen = std::collections::BTreeSet::new();
        for common in COMMON {
            assert_eq!(*common, common.to_lowercase());
            assert!(seen.insert(common), "{common}");
        }
        assert!(COMMON.len() >= 100);
    }
}
