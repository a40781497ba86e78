//! The table of field numbers in `fields.txt`, parsed once, on first use.

use std::collections::HashMap;
use std::sync::OnceLock;

const TEXT: &str = include_str!("fields.txt");

/// How often a field stands in its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    One,
    Repeated,
    Map,
}

/// A field of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// The name in JSON; `~` if the fields of the inner message stand in the outer object.
    pub(super) name: &'static str,
    pub(super) form: Form,
    /// The type of one value: a word, or `@` and the name of a message.
    pub(super) shape: &'static str,
    /// A zero value differs from an absent one.
    pub(super) keeps_zero: bool,
}

type Fields = HashMap<u32, Field>;

/// The fields of a message, by number.
pub(super) fn of(message: &str) -> Option<&'static Fields> {
    table().get(message)
}

/// The fields of a message in the order of their numbers; none if the message is not known.
pub(super) fn ordered(message: &str) -> &'static [(u32, Field)] {
    static ORDERED: OnceLock<HashMap<&'static str, Vec<(u32, Field)>>> = OnceLock::new();
    let ordered = ORDERED.get_or_init(|| {
        let sorted = |fields: &Fields| {
            let mut fields: Vec<(u32, Field)> = fields.iter().map(|(number, field)| (*number, *field)).collect();
            fields.sort_by_key(|(number, _)| *number);
            fields
        };
        table().iter().map(|(name, fields)| (*name, sorted(fields))).collect()
    });
    ordered.get(message).map_or(&[], Vec::as_slice)
}

/// All fields with the names of their messages.
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static Field)> {
    table()
        .iter()
        .flat_map(|(message, fields)| fields.values().map(move |field| (*message, field)))
}

fn table() -> &'static HashMap<&'static str, Fields> {
    static TABLE: OnceLock<HashMap<&'static str, Fields>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table: HashMap<&str, Fields> = HashMap::new();
        let mut message = "";
        for line in TEXT.lines().filter(|line| !line.starts_with('#')) {
            match line.strip_prefix(' ') {
                None => {
                    message = line;
                    table.entry(message).or_default();
                }
                Some(line) => {
                    if let Some((number, field)) = field(line) {
                        table.entry(message).or_default().insert(number, field);
                    }
                }
            }
        }
        table
    })
}

fn field(line: &'static str) -> Option<(u32, Field)> {
    let mut words = line.split(' ');
    let number = words.next()?.parse().ok()?;
    let (name, shape) = (words.next()?, words.next()?);
    let keeps_zero = shape.ends_with('?');
    let shape = shape.trim_end_matches('?');
    let (form, shape) = match (shape.strip_prefix("[]"), shape.strip_prefix("{}")) {
        (Some(item), _) => (Form::Repeated, item),
        (_, Some(value)) => (Form::Map, value),
        _ => (Form::One, shape),
    };
    Some((
        number,
        Field {
            name,
            form,
            shape,
            keeps_zero,
        },
    ))
}
