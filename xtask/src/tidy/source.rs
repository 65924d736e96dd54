//! Reads Rust source just well enough to tell code from text.
//!
//! Comments, strings and character literals become blanks; lines stay where they are.

/// Returns the source with everything that isn't code blanked out.
pub(super) fn code(source: &str) -> String {
    let mut rest = source;
    let mut code = String::with_capacity(source.len());
    while let Some(next) = rest.chars().next() {
        let text = text_length(rest, code.chars().next_back());
        let (taken, keep) = if text > 0 { (text, false) } else { (next.len_utf8(), true) };
        let (part, after) = rest.split_at(taken);
        code.extend(part.chars().map(|c| if keep || c == '\n' { c } else { ' ' }));
        rest = after;
    }
    code
}

/// Returns the length in bytes of the comment or literal that `rest` begins with, or 0.
fn text_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with('r') && !in_word {
        return raw_string(rest);
    }
    if rest.starts_with('\'') { character(rest) } else { 0 }
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0usize);
    while at < rest.len() {
        let Some(tail) = rest.get(at..) else {
            at += 1;
            continue;
        };
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    rest[body..].find(&end).map_or(rest.len(), |at| body + at + end.len())
}

fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, c))) => {
            let after = at + c.len_utf8();
            rest[after..].find('\'').map_or(0, |end| after + end + 1)
        }
        // Anything longer is a lifetime.
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_what_is_not_code() {
        let check = |source: &str, expected: &str| assert_eq!(code(source).trim_end(), expected, "{source}");
        check("a // unsafe", "a");
        check("a /* x /* y */ z */ b", "a                   b");
        check("f(\"un\\\"safe\") b", "f(          ) b");
        check("r#\"a\"b\"# c", "         c");
        check("var\"x\"", "var");
        check("'a' 'b: '\\'' '\\u{1}' x", "    'b:              x");
        check("\"a\nb\" c", "  \n   c");
    }
}
