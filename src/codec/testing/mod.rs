//! A notation for packets in tests: `bytes("30 | s'topic' {26 s'name' s'value'} 'payload'")`.

pub(crate) mod client;

/// The bytes that a text stands for:
/// `0A1B` hexadecimal digits; `'text'` characters; `s'text'` characters with their length in two bytes before them;
/// `{ … }` whatever is inside with its length as Variable Byte Integer before it; `|` the Remaining Length of all that
/// follows; spaces nothing.
pub(crate) fn bytes(notation: &str) -> Vec<u8> {
    let mut rest = notation;
    let bytes = sequence(&mut rest);
    assert_eq!(rest, "", "trailing notation in {notation:?}");
    bytes
}

/// Everything up to the end or a closing brace.
fn sequence(rest: &mut &str) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(next) = rest.chars().next() {
        match next {
            '}' => break,
            ' ' | '\n' => *rest = &rest[1..],
            '{' | '|' => {
                *rest = &rest[1..];
                let inner = sequence(rest);
                crate::wire::put_varint(&mut out, inner.len() as u32);
                out.extend(inner);
                if next == '{' {
                    *rest = rest.strip_prefix('}').expect("closing brace");
                }
            }
            's' => {
                *rest = &rest[1..];
                let text = quoted(rest);
                out.extend((text.len() as u16).to_be_bytes());
                out.extend(text.as_bytes());
            }
            '\'' => out.extend(quoted(rest).as_bytes()),
            _ => {
                out.push(u8::from_str_radix(&rest[..2], 16).expect("two hexadecimal digits"));
                *rest = &rest[2..];
            }
        }
    }
    out
}

fn quoted<'a>(rest: &mut &'a str) -> &'a str {
    let (text, tail) = rest
        .strip_prefix('\'')
        .and_then(|rest| rest.split_once('\''))
        .expect("quoted text");
    *rest = tail;
    text
}

#[test]
fn the_notation_means_what_it_says() {
    assert_eq!(
        bytes("30 | s'ab' {01 01} 'c'"),
        [0x30, 8, 0, 2, b'a', b'b', 2, 1, 1, b'c']
    );
}
