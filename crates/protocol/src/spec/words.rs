//! Splits a command that is written as one text into its words, as a POSIX shell would.
//!
//! No shell ever runs it, so whatever a shell would act on is refused instead of being passed on as it stands.

/// Characters that mean something to a shell outside quotes.
const ACTIVE: &str = "|&;<>()$`*?";

/// The words of `text`: blanks divide, single quotes keep all, double quotes keep all but a backslash's escape.
pub(super) fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    // Not empty text: `''` is a word too.
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err("the command has a ' without its partner".to_owned()),
                    }
                }
            }
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err("the command ends in a backslash".to_owned()),
            },
            '#' | '~' if word.is_none() => return Err(active(c)),
            c if ACTIVE.contains(c) => return Err(active(c)),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn double_quoted(chars: &mut std::str::Chars<'_>, word: &mut String) -> Result<(), String> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next() {
                Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => break,
            },
            Some(c @ ('$' | '`')) => return Err(active(c)),
            Some(c) => word.push(c),
            None => break,
        }
    }
    Err("the command has a \" without its partner".to_owned())
}

fn active(c: char) -> String {
    format!("no shell runs the command, so '{c}' would have no effect")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_shell() {
        let check = |text: &str, expect: &[&str]| {
            let expect = expect.iter().map(|word| (*word).to_owned()).collect();
            assert_eq!(split_words(text), Ok(expect), "{text}");
        };
        check("", &[]);
        check("  hmmsearch  --x\t{chunk} \n", &["hmmsearch", "--x", "{chunk}"]);
        check(r#"a 'b "c' "d 'e" '' f'g'"h""#, &["a", "b \"c", "d 'e", "", "fgh"]);
        check(r#"a\ b \' "\"\$\n" '\n'"#, &["a b", "'", "\"$\\n", "\\n"]);
        check("a#b x=~y '*' \\*", &["a#b", "x=~y", "*", "*"]);
    }

    #[test]
    fn what_only_a_shell_can_do_is_refused() {
        let check =
            |text: &str, expect: &str| assert_eq!(split_words(text), Err(expect.to_owned()), "{text}");
        check("a | b", "no shell runs the command, so '|' would have no effect");
        check("a > b", "no shell runs the command, so '>' would have no effect");
        check("a $HOME", "no shell runs the command, so '$' would have no effect");
        check("a \"$HOME\"", "no shell runs the command, so '$' would have no effect");
        check("a ~/b", "no shell runs the command, so '~' would have no effect");
        check("a 'b", "the command has a ' without its partner");
        check("a \"b", "the command has a \" without its partner");
        check("a \"b\\", "the command has a \" without its partner");
        check("a\\", "the command ends in a backslash");
    }
}
