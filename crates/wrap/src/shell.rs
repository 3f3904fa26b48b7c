//! Which words of a shell script may be commands. This is no shell: it splits text into words and knows where a
//! command can stand, so that nothing a script runs by name is overlooked; a word too many does little harm.

mod lexer;

use std::collections::BTreeSet;

use lexer::Lexer;

/// The words of a script, each in the strongest set that it belongs to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Words {
    /// Stand where a command stands.
    pub commands: BTreeSet<String>,
    /// Assigned to a variable, which may be run later.
    pub assigned: BTreeSet<String>,
    /// Stand anywhere else: arguments, texts in quotes.
    pub mentioned: BTreeSet<String>,
    /// Absolute paths, wherever they stand.
    pub paths: BTreeSet<String>,
}

/// What a POSIX shell or bash does itself; keywords that take words are among them.
const BUILTINS: &str = "\
    . : [ [[ ]] alias bg bind break builtin caller case cd command compgen complete compopt continue \
    declare dirs disown echo enable eval exec exit export false fc fg for function getopts hash help \
    history in jobs kill let local logout mapfile popd printf pushd pwd read readarray readonly \
    return select set shift shopt source suspend test time times trap true type typeset ulimit umask \
    unalias unset wait";

/// Finds the words of `script`.
pub(crate) fn words(script: &str) -> Words {
    let (mut words, functions) = Lexer::read(script);
    let is_builtin = |word: &str| BUILTINS.split_whitespace().any(|builtin| builtin == word);
    words.commands.retain(|word| !functions.contains(word) && !is_builtin(word));
    words.assigned.retain(|word| !words.commands.contains(word));
    words.mentioned.retain(|word| !words.commands.contains(word) && !words.assigned.contains(word));
    words
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn is_command_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic())
        && word.len() <= 64
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "_.+-".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(script: &str, commands: &[&str]) {
        let found = words(script);
        assert_eq!(found.commands.iter().map(String::as_str).collect::<Vec<_>>(), commands, "{script}");
    }

    #[test]
    fn commands_are_found_where_they_stand() {
        check("sort -u x | grep y; awk '{print}' && sed s/a/b/\n", &["awk", "grep", "sed", "sort"]);
        check("# perl\nls # ruby\n", &["ls"]);
        check("if which perl; then gzip; else bzip2; fi", &["bzip2", "gzip", "which"]);
        check("x=`dirname $0`; y=$(basename \"$(cat f)\" .c)", &["basename", "cat", "dirname"]);
        check("echo \"today: `date` $(uname -s) perl\"", &["date", "uname"]);
        check("LANG=C sort x", &["sort"]);
        check("(cd x; make) >log 2>&1 </dev/null", &["make"]);
        check(">out 2>err tee x", &["tee"]);
        check("while read a; do cut -f1; done < in", &["cut"]);
        check("ls \\\n  rm", &["ls"]);
        check("$prefix/disttbfast; ${x}/mtxutl; ./here", &[]);
        check("diff <(sort a) <(tac b)", &["diff", "sort", "tac"]);
        check("echo $((expr + 1)) ${dirname%.x}; (( i++ ))", &[]);
    }

    #[test]
    fn a_wrapper_does_not_hide_its_command() {
        check("nice -n 10 sort", &["nice", "sort"]);
        check("env A=b python3 x", &["env", "python3"]);
        check("find . -exec md5sum {} +; find | xargs -0 wc", &["find", "md5sum", "wc", "xargs"]);
        check("timeout 5 sleep 9; exec cat", &["cat", "sleep", "timeout"]);
    }

    #[test]
    fn functions_patterns_heredocs_and_builtins_are_no_commands() {
        check("usage() { cat; }\nusage; function run { tac; }; run", &["cat", "tac"]);
        check(
            "case `uname` in\n linux|bsd) ls;;\n (darwin)\n cp\n ;;\n *) mv;; esac\nrm",
            &["cp", "ls", "mv", "rm", "uname"],
        );
        check("cat <<-'EOF' | sort\nperl is text\n\tEOF\ntac", &["cat", "sort", "tac"]);
        check("cd x; echo perl; for perl in ruby; do :; done; [[ -f x ]]", &[]);
        check("cat <<< word; tac", &["cat", "tac"]);
    }

    #[test]
    fn weaker_words_are_kept_apart() {
        let found =
            words("AWK=gawk; X=\"sort -n\"; $AWK 'perl x' /usr/share/x:/opt/y \"$d/bin\" -I/usr/include\n");
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(list(&found.assigned), "gawk sort");
        assert!(found.mentioned.contains("perl") && !found.mentioned.contains("gawk"));
        assert_eq!(list(&found.paths), "/opt/y /usr/share/x");
    }

    #[test]
    fn unfinished_scripts_end() {
        for script in [
            "'",
            "\"$(",
            "`",
            "${",
            "$((",
            "((",
            "case x in",
            "<<",
            "cat <<EOF\nx",
            "\\",
            "a(",
            ")",
            ";;",
            "$",
        ] {
            words(script);
        }
    }
}
