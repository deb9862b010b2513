//! Formats of plain values, and formats made of formats.

use std::marker::PhantomData;

use toml::de::DeValue;

use super::{Format, Node, Problem, Reader, Show, nearest, quoted};
use crate::config::source::Place;

/// `true` or `false`.
pub(in crate::config) struct Flag;

/// Any string.
pub(in crate::config) struct Text;

/// A whole number of either sign.
pub(in crate::config) struct Int;

/// A share, 0.0 to 1.0.
pub(in crate::config) struct Share;

/// A value that has no default.
pub(in crate::config) struct OptionOf<F>(PhantomData<F>);

/// A value, or a word that stands for none.
pub(in crate::config) struct OrWord<F, W>(PhantomData<(F, W)>);

/// The word of an [`OrWord`].
pub(in crate::config) trait Keyword {
    /// The word.
    const WORD: &'static str;
}

/// `"off"`.
pub(in crate::config) struct Off;

/// `"unlimited"`.
pub(in crate::config) struct Unlimited;

impl Keyword for Off {
    const WORD: &'static str = "off";
}

impl Keyword for Unlimited {
    const WORD: &'static str = "unlimited";
}

/// One value or a list of them.
pub(in crate::config) struct OneOrList<F>(PhantomData<F>);

/// One of several words.
pub(in crate::config) struct Choice<T>(PhantomData<T>);

/// What a [`Choice`] is made of.
pub(in crate::config) trait Word: Sized + Copy + PartialEq + 'static {
    /// The words.
    const WORDS: &'static [(&'static str, Self)];
}

/// A value together with where it stands.
pub(in crate::config) struct Keyed<F>(PhantomData<F>);

/// A key that was set.
#[derive(Clone, Debug)]
pub(in crate::config) struct Set<T> {
    /// Where the key stands.
    pub(in crate::config) key: Place,
    /// Where the value stands.
    pub(in crate::config) place: Place,
    /// The value; `None` when it is wrong, which has been reported.
    pub(in crate::config) value: Option<T>,
}

impl Format for Flag {
    type Value = bool;

    fn expected() -> String {
        "`true` or `false`".to_owned()
    }

    fn example() -> String {
        "true".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<bool> {
        match node.value {
            DeValue::Boolean(value) => Some(*value),
            DeValue::String(text) if matches!(&**text, "true" | "false") => {
                let help = format!("write it without quotes: `{} = {text}`", node.name);
                reader.wrong(node, &Self::expected(), Some(help))
            }
            _ => reader.wrong(node, &Self::expected(), None),
        }
    }
}

impl Show for Flag {
    fn show(value: &bool) -> String {
        value.to_string()
    }
}

impl Format for Text {
    type Value = String;

    fn expected() -> String {
        "a string".to_owned()
    }

    fn example() -> String {
        "\"text\"".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
        reader.parse(node, &Self::expected(), |text| Ok(text.to_owned()))
    }
}

impl Show for Text {
    fn show(value: &String) -> String {
        quoted(value)
    }
}

impl Format for Int {
    type Value = i32;

    fn expected() -> String {
        "a whole number".to_owned()
    }

    fn example() -> String {
        "10".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<i32> {
        let DeValue::Integer(integer) = node.value else {
            return reader.wrong(node, &Self::expected(), None);
        };
        i32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .or_else(|| {
                reader.refuse(
                    node,
                    &Self::expected(),
                    Problem::what("the number is too large"),
                )
            })
    }
}

impl Format for Share {
    type Value = f64;

    fn expected() -> String {
        "a share from 0.0 to 1.0".to_owned()
    }

    fn example() -> String {
        "0.1".to_owned()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<f64> {
        let text = match node.value {
            DeValue::Float(float) => float.as_str(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => return reader.wrong(node, &Self::expected(), None),
        };
        let share = text.parse().ok();
        share
            .filter(|share| (0.0..=1.0).contains(share))
            .or_else(|| reader.wrong(node, &Self::expected(), None))
    }
}

impl Show for Share {
    fn show(value: &f64) -> String {
        format!("{value:?}")
    }
}

impl<F: Format> Format for OptionOf<F> {
    type Value = Option<F::Value>;

    fn expected() -> String {
        F::expected()
    }

    fn example() -> String {
        F::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        F::read(node, reader).map(Some)
    }
}

impl<F: Format, W: Keyword> Format for OrWord<F, W> {
    type Value = Option<F::Value>;

    fn expected() -> String {
        format!("{}, or \"{}\"", F::expected(), W::WORD)
    }

    fn example() -> String {
        F::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        match node.value {
            DeValue::String(text) if text == W::WORD => Some(None),
            _ => {
                let value = F::read(node, reader);
                if value.is_none() {
                    reader.relabel(format!("expected {}", Self::expected()));
                }
                value.map(Some)
            }
        }
    }
}

impl<F: Show, W: Keyword> Show for OrWord<F, W> {
    fn show(value: &Self::Value) -> String {
        match value {
            Some(value) => F::show(value),
            None => quoted(W::WORD),
        }
    }
}

impl<F: Format> Format for OneOrList<F> {
    type Value = Vec<F::Value>;

    fn expected() -> String {
        format!("{}, or a list", F::expected())
    }

    fn example() -> String {
        format!("[{}]", F::example())
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        let DeValue::Array(list) = node.value else {
            return F::read(node, reader).map(|one| vec![one]);
        };
        let read: Vec<_> = list
            .iter()
            .map(|member| F::read(node.member(member, reader), reader))
            .collect();
        read.into_iter().collect()
    }
}

impl<F: Show> Show for OneOrList<F> {
    fn show(value: &Self::Value) -> String {
        let members: Vec<_> = value.iter().map(F::show).collect();
        format!("[{}]", members.join(", "))
    }
}

impl<T: Word> Format for Choice<T> {
    type Value = T;

    fn expected() -> String {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| quoted(word)).collect();
        words.join(" or ")
    }

    fn example() -> String {
        quoted(T::WORDS.last().map_or("", |(word, _)| word))
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<T> {
        reader.parse(node, &Self::expected(), |text| {
            let known = T::WORDS.iter().find(|(word, _)| *word == text);
            known.map(|(_, value)| *value).ok_or_else(|| {
                match nearest(text, T::WORDS.iter().map(|(word, _)| *word)) {
                    Some(near) => {
                        Problem::plain().help(format!("did you mean `{}`?", quoted(near)))
                    }
                    None => Problem::plain(),
                }
            })
        })
    }
}

impl<T: Word> Show for Choice<T> {
    fn show(value: &T) -> String {
        let known = T::WORDS.iter().find(|(_, known)| known == value);
        quoted(known.map_or("", |(word, _)| word))
    }
}

impl<F: Format> Format for Keyed<F> {
    type Value = Option<Set<F::Value>>;

    fn expected() -> String {
        F::expected()
    }

    fn example() -> String {
        F::example()
    }

    fn read(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Self::Value> {
        Some(Some(Set {
            key: node.key,
            place: node.place,
            value: F::read(node, reader),
        }))
    }
}
