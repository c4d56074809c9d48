//! Checks of names and addresses in requests; they collect every refusal.

use super::policy::refuse_password;
use super::secret::Secret;
use super::settings::PasswordSettings;
use crate::error::{Error, FieldError, Result};

/// Collects refused fields.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<FieldError>);

impl Checks {
    /// Returns the refusals as one error, if there are any.
    pub(crate) fn finish(self, operation: &'static str) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::invalid_fields(operation, self.0)) }
    }

    fn refuse(&mut self, pointer: &str, code: &'static str, message: impl Into<String>) {
        self.0.push(FieldError::new(pointer, code, message));
    }

    /// Trims a text and checks its length in characters and that it is printable.
    pub(crate) fn text(&mut self, pointer: &str, text: &str, least: usize, most: usize) -> String {
        let text = text.trim();
        let chars = text.chars().count();
        if chars < least || chars > most {
            self.refuse(pointer, "length", format!("must have {least} to {most} characters"));
        } else if text.chars().any(char::is_control) {
            self.refuse(pointer, "control_character", "must not hold control characters");
        }
        text.to_owned()
    }

    /// Checks an e-mail address and returns it in lower case. The rules are those a mail server needs, not all of RFC 5321.
    pub(crate) fn email(&mut self, pointer: &str, email: &str) -> String {
        let email = email.trim().to_lowercase();
        let plain = |text: &str| {
            !text.chars().any(|it| it.is_whitespace() || it.is_control() || "<>()[],;:\\\"@".contains(it))
        };
        let good = email.len() <= 254
            && email.rsplit_once('@').is_some_and(|(local, domain)| {
                let labels = domain.split('.').all(|label| {
                    !label.is_empty() && label.chars().all(|it| it.is_alphanumeric() || it == '-')
                });
                !local.is_empty() && local.len() <= 64 && plain(local) && plain(domain) && labels
            });
        if !good {
            self.refuse(pointer, "invalid_email", "must be an e-mail address");
        }
        email
    }

    /// Checks a slug and returns it in lower case.
    pub(crate) fn slug(&mut self, pointer: &str, slug: &str) -> String {
        let slug = slug.trim().to_lowercase();
        let good =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
        if !(2..=100).contains(&slug.len()) || !slug.bytes().all(good) {
            self.refuse(
                pointer,
                "invalid_slug",
                "must be 2 to 100 letters a-z, digits, underscores and hyphens",
            );
        }
        slug
    }

    /// Checks a user name.
    pub(crate) fn username(&mut self, pointer: &str, username: &str) -> String {
        let username = username.trim();
        let good = |it: char| it.is_alphanumeric() || "._-".contains(it);
        if !(3..=50).contains(&username.chars().count()) || !username.chars().all(good) {
            self.refuse(
                pointer,
                "invalid_username",
                "must be 3 to 50 letters, digits, dots, underscores and hyphens",
            );
        }
        username.to_owned()
    }

    /// Checks an IANA time zone.
    pub(crate) fn timezone(&mut self, pointer: &str, name: &str) -> String {
        if jiff::tz::TimeZone::get(name).is_err() {
            self.refuse(pointer, "unknown_timezone", "must be an IANA time zone such as Europe/Berlin");
        }
        name.to_owned()
    }

    /// Checks a new password against the rules, and that it was typed twice alike.
    pub(crate) fn password(
        &mut self,
        (pointer, password): (&str, &Secret),
        (again_pointer, again): (&str, &Secret),
        settings: &PasswordSettings,
        context: &[&str],
    ) {
        self.0.extend(refuse_password(password.expose(), pointer, settings, context));
        if password != again {
            self.refuse(again_pointer, "mismatch", "must be the same as the password");
        }
    }

    /// Refuses a field for a reason of the caller's.
    pub(crate) fn require(&mut self, holds: bool, pointer: &str, code: &'static str, message: &str) {
        if !holds {
            self.refuse(pointer, code, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let good = |email: &str| {
            let mut checks = Checks::default();
            checks.email("/email", email);
            checks.finish("test").is_ok()
        };
        for email in [
            "a@b.example",
            "Ada.Lovelace+x@mail.example.org",
            "root@localhost",
            "j\u{f6}rg@m\u{fc}ller.example",
        ] {
            assert!(good(email), "{email}");
        }
        for email in [
            "",
            "a",
            "@b.c",
            "a@",
            "a@b..c",
            "a b@c.d",
            "a@b@c.d",
            "a@b.c\r\nBcc: x@y.z",
            "<a@b.c>",
            "a@b.c,d@e.f",
            "a@-_.c",
        ] {
            assert!(!good(email), "{email:?}");
        }
        assert!(!good(&format!("{}@b.c", "x".repeat(65))));
    }

    #[test]
    fn slugs_and_names_at_their_limits() {
        let errors = |check: &dyn Fn(&mut Checks)| {
            let mut checks = Checks::default();
            check(&mut checks);
            checks.0.len()
        };
        for (slug, refused) in [
            ("ab", 0),
            ("a", 1),
            ("Shop_1-x", 0),
            ("a b", 1),
            ("../x", 1),
            (&*"s".repeat(100), 0),
            (&*"s".repeat(101), 1),
        ] {
            assert_eq!(errors(&|checks| drop(checks.slug("/slug", slug))), refused, "{slug}");
        }
        assert_eq!(errors(&|checks| drop(checks.text("/n", "\u{7}ab", 2, 9))), 1);
        assert_eq!(errors(&|checks| drop(checks.timezone("/t", "Mars/Olympus"))), 1);
        assert_eq!(errors(&|checks| drop(checks.timezone("/t", "Europe/Berlin"))), 0);
    }
}
