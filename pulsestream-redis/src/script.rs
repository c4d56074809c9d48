//! Lua scripts: sent by their hash, and with their text when the server does not know the hash.

use std::sync::OnceLock;

use redis::Cmd;

/// A script of this crate.
#[derive(Debug)]
pub(crate) struct Script {
    text: &'static str,
    hash: OnceLock<String>,
}

impl Script {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, hash: OnceLock::new() }
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }
}

/// A script with its keys and arguments.
#[derive(Debug)]
pub(crate) struct Invocation<'a> {
    pub(crate) script: &'static Script,
    pub(crate) keys: &'a [String],
    pub(crate) arguments: &'a [&'a [u8]],
}

impl Invocation<'_> {
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", self.script.hash())
    }

    /// Runs the script and makes the server remember it, in one step: a flush between loading and running cannot come between.
    pub(crate) fn by_text(&self) -> Cmd {
        self.command("EVAL", self.script.text)
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let mut command = redis::cmd(name);
        command.arg(script).arg(self.keys.len()).arg(self.keys);
        for argument in self.arguments {
            command.arg(*argument);
        }
        command
    }
}
