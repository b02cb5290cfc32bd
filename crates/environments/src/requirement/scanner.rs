//! Reading a text from left to right.

/// What is left to read of a text.
pub(super) struct Scanner<'t>(&'t str);

impl<'t> Scanner<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let mut scanner = Self(text);
        scanner.skip_space();
        scanner
    }

    pub(super) fn rest(&self) -> &'t str {
        self.0
    }

    pub(super) fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.0.chars().next()
    }

    pub(super) fn skip_space(&mut self) {
        self.0 = self.0.trim_start_matches([' ', '\t']);
    }

    /// Takes `token` if the text goes on with it.
    pub(super) fn take(&mut self, token: &str) -> bool {
        match self.0.strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'t str {
        let end = self.0.find(|c| !accept(c)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    /// A name of PEP 508: letters and digits, with `-`, `_` and `.` inside.
    pub(super) fn identifier(&mut self) -> Option<&'t str> {
        let taken = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let fits = |c: char| c.is_ascii_alphanumeric();
        (taken.starts_with(fits) && taken.ends_with(fits)).then_some(taken)
    }

    /// A quoted string without its quotes; markers know no escapes.
    pub(super) fn quoted(&mut self) -> Option<&'t str> {
        let quote = self.peek().filter(|c| matches!(c, '"' | '\''))?;
        let (text, rest) = self.0[1..].split_once(quote)?;
        self.0 = rest;
        Some(text)
    }
}
