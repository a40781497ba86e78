//! Pages whose links are changed; everything else of them stays as it is, byte by byte.

/// Which attributes of which elements are links.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is no markup.
const RAW: &[&str] = &["script", "style", "textarea", "title", "xmp"];

/// Changes the links of a page.
pub(crate) fn rewrite(page: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(page.len() + page.len() / 16);
    let mut rest = page;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with(b"<!--") {
            rest = copy(rest, end_of(rest, b"-->"), &mut out);
        } else if rest.get(1).is_some_and(u8::is_ascii_alphabetic) {
            let (name, length) = tag(rest, &change, &mut out);
            rest = &rest[length..];
            if RAW.contains(&name.as_str()) {
                let closing = format!("</{name}");
                rest = copy(rest, start_of(rest, closing.as_bytes()), &mut out);
            }
        } else {
            rest = copy(rest, 1, &mut out);
        }
    }
    out.extend_from_slice(rest);
    out
}

fn copy<'a>(from: &'a [u8], length: usize, out: &mut Vec<u8>) -> &'a [u8] {
    out.extend_from_slice(&from[..length]);
    &from[length..]
}

/// Where a mark begins, in whatever case; the end of the text if it does not come.
fn start_of(text: &[u8], mark: &[u8]) -> usize {
    let found = text
        .windows(mark.len())
        .position(|part| part.eq_ignore_ascii_case(mark));
    found.unwrap_or(text.len())
}

fn end_of(text: &[u8], mark: &[u8]) -> usize {
    (start_of(text, mark) + mark.len()).min(text.len())
}

/// Copies a tag with its links changed; gives the element's name and the tag's length.
fn tag(text: &[u8], change: &impl Fn(&str) -> String, out: &mut Vec<u8>) -> (String, usize) {
    let ends_name = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>');
    let name_end = text.iter().position(ends_name).unwrap_or(text.len());
    let name = String::from_utf8_lossy(&text[1..name_end]).to_ascii_lowercase();
    let links = LINKS
        .iter()
        .find(|(element, _)| *element == name)
        .map_or(&[][..], |(_, links)| *links);
    out.extend_from_slice(&text[..name_end]);
    let mut at = name_end;
    while at < text.len() {
        match text[at] {
            b'>' => {
                out.push(b'>');
                return (name, at + 1);
            }
            byte if byte.is_ascii_whitespace() || byte == b'/' => {
                out.push(byte);
                at += 1;
            }
            _ => at += attribute(&text[at..], links, change, out),
        }
    }
    (name, text.len())
}

/// Copies an attribute, changed if it is a link; gives its length.
fn attribute(text: &[u8], links: &[&str], change: &impl Fn(&str) -> String, out: &mut Vec<u8>) -> usize {
    let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'=' | b'>' | b'/');
    // An attribute has at least one byte, even if it is a stray one.
    let name_end = text.iter().skip(1).position(ends).map_or(text.len(), |end| end + 1);
    let name = String::from_utf8_lossy(&text[..name_end]).to_ascii_lowercase();
    let blanks = |from: usize| {
        text[from..]
            .iter()
            .take_while(|byte| byte.is_ascii_whitespace())
            .count()
    };
    let equals = name_end + blanks(name_end);
    if text.get(equals) != Some(&b'=') {
        out.extend_from_slice(&text[..name_end]);
        return name_end;
    }
    let start = equals + 1 + blanks(equals + 1);
    let (value, end) = match text.get(start) {
        Some(quote @ (b'"' | b'\'')) => {
            let length = text[start + 1..].iter().position(|byte| byte == quote);
            let end = length.map_or(text.len(), |length| start + 1 + length);
            (start + 1..end, (end + 1).min(text.len()))
        }
        _ => {
            let ends = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'>';
            let length = text[start.min(text.len())..].iter().position(ends);
            let end = length.map_or(text.len(), |length| start + length);
            (start.min(end)..end, end)
        }
    };
    out.extend_from_slice(&text[..value.start]);
    match std::str::from_utf8(&text[value.clone()]) {
        // A tag that does not end is none.
        Ok(link) if end < text.len() && links.contains(&name.as_str()) => {
            out.extend_from_slice(change(link).as_bytes())
        }
        _ => out.extend_from_slice(&text[value.clone()]),
    }
    out.extend_from_slice(&text[value.end..end]);
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rewritten(page: &str) -> String {
        let page = rewrite(page.as_bytes(), |link| format!("P{link}"));
        String::from_utf8(page).unwrap()
    }

    #[test]
    fn links_change_and_nothing_else() {
        for (page, expected) in [
            ("<a href=\"/x\">t</a>", "<a href=\"P/x\">t</a>"),
            ("<A class=b HREF = '/x' >", "<A class=b HREF = 'P/x' >"),
            ("<img src=/x alt=/y>", "<img src=P/x alt=/y>"),
            (
                "<!-- <a href=\"/x\"> --><a href=''>",
                "<!-- <a href=\"/x\"> --><a href='P'>",
            ),
            (
                "<script src=\"/s\">'<a href=\"/x\">'</script>",
                "<script src=\"P/s\">'<a href=\"/x\">'</script>",
            ),
            ("1 < 2 <p data=/x>", "1 < 2 <p data=/x>"),
            ("<a href", "<a href"),
            ("<a href=", "<a href="),
            ("<a href=\"/x", "<a href=\"/x"),
        ] {
            assert_eq!(rewritten(page), expected, "{page}");
        }
    }

    proptest! {
        #[test]
        fn a_page_without_links_stays_as_it_is(page in "[<>a-c/=\"' !-]{0,60}") {
            prop_assert_eq!(rewrite(page.as_bytes(), str::to_owned), page.as_bytes());
        }
    }
}
