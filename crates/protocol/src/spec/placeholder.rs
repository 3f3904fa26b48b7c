//! Texts with placeholders: `{in.db}`, `{index:04}`, `{{` for a brace.
//!
//! Here is only their form; which placeholders a spec has, and what they stand for, is `scope`'s.

/// A stretch of a text with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Text(String),
    /// The name between the braces.
    Hole(&'a str),
}

/// A brace without its partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LoneBrace(pub char);

/// Cuts a text into literal stretches and placeholders.
pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, LoneBrace> {
    let mut tokens = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        let brace = if rest[at..].starts_with('{') { '{' } else { '}' };
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            literal.push(brace);
            rest = after;
            continue;
        }
        let end = rest.find(['{', '}']).filter(|end| brace == '{' && rest[*end..].starts_with('}'));
        let end = end.ok_or(LoneBrace(brace))?;
        if !literal.is_empty() {
            tokens.push(Token::Text(std::mem::take(&mut literal)));
        }
        tokens.push(Token::Hole(&rest[..end]));
        rest = &rest[end + 1..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        tokens.push(Token::Text(literal));
    }
    Ok(tokens)
}

/// The names of the placeholders; none for a text with a lone brace, which is reported where it is filled.
pub(super) fn holes(text: &str) -> impl Iterator<Item = &str> {
    tokens(text).unwrap_or_default().into_iter().filter_map(|token| match token {
        Token::Hole(name) => Some(name),
        Token::Text(_) => None,
    })
}

/// The width of `index:04`; `Err` if it is an index with anything else after the colon.
pub(super) fn index_width(name: &str) -> Option<Result<u8, ()>> {
    if name == "index" {
        return Some(Ok(0));
    }
    let digits = name.strip_prefix("index:")?;
    // 20 digits hold any index.
    let width = digits
        .strip_prefix('0')
        .and_then(|width| width.parse().ok())
        .filter(|width| (1..=20).contains(width));
    Some(width.ok_or(()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_placeholders() {
        let text = |text: &str| Token::Text(text.to_owned());
        let check =
            |input: &str, expect: &[Token<'_>]| assert_eq!(tokens(input).as_deref(), Ok(expect), "{input}");
        check("", &[]);
        check("plain", &[text("plain")]);
        check("{a}", &[Token::Hole("a")]);
        check("x{a}{b}y", &[text("x"), Token::Hole("a"), Token::Hole("b"), text("y")]);
        check("{{a}}", &[text("{a}")]);
        check("{{{a}}}", &[text("{"), Token::Hole("a"), text("}")]);
        check("{}", &[Token::Hole("")]);
        check("é{ü}", &[text("é"), Token::Hole("ü")]);
        for (input, brace) in
            [("{a", '{'), ("a}", '}'), ("{a{b}", '{'), ("{", '{'), ("{{a}", '}'), ("{a}}", '}')]
        {
            assert_eq!(tokens(input), Err(LoneBrace(brace)), "{input}");
        }
    }

    #[test]
    fn an_index_may_be_padded() {
        let check = |name, expect| assert_eq!(index_width(name), expect, "{name}");
        check("index", Some(Ok(0)));
        check("index:04", Some(Ok(4)));
        check("index:020", Some(Ok(20)));
        check("index:021", Some(Err(())));
        check("index:4", Some(Err(())));
        check("index:", Some(Err(())));
        check("indexes", None);
    }
}
