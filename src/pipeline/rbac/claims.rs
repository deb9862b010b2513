//! `claims`: whether a token's claim has a value.
//!
//! Kinds are never converted: the text "7" is not the number 7, nor "true" the boolean. A template
//! is the one exception: what a host or a path gives is always text, so it equals an integer with
//! that very decimal form. An empty text equals nothing, or a missing capture would match a claim that
//! is empty. Of a list one member is enough; objects equal nothing.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    config::{ClaimRule, ClaimValue, Template, TemplatePart},
    exchange::{Context, Principal},
    pipeline::render,
};

pub(super) fn holds(rule: &ClaimRule, principal: &Principal, context: &Context) -> bool {
    let Some(claim) = principal.claim(&rule.path) else {
        return false;
    };
    rule.any.iter().any(|wanted| equals(claim, wanted, context))
}

fn equals(claim: &Value, wanted: &ClaimValue, context: &Context) -> bool {
    match wanted {
        ClaimValue::Text(text) => any(claim, |one| one.as_str() == Some(text)),
        ClaimValue::Integer(number) => any(claim, |one| one.as_i64() == Some(*number)),
        ClaimValue::Bool(value) => any(claim, |one| one.as_bool() == Some(*value)),
        ClaimValue::Template(template) => {
            let text = text(template, context);
            !text.is_empty() && any(claim, |one| is_text(one, &text))
        }
    }
}

/// Whether a claim, or a member of its list, is what is wanted.
fn any(claim: &Value, is_wanted: impl Fn(&Value) -> bool) -> bool {
    match claim {
        Value::Array(members) => members.iter().any(is_wanted),
        one => is_wanted(one),
    }
}

fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(value) => value == text,
        // Its text has one form: no sign, no leading zero, no exponent that is not the number's own.
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string() == text,
        _ => false,
    }
}

/// What a template stands for; the usual one, a capture alone, is not copied.
fn text<'c>(template: &Template, context: &'c Context) -> Cow<'c, str> {
    match template.parts.as_slice() {
        [TemplatePart::Capture(name)] => context.capture(name).unwrap_or_default().into(),
        _ => render(template, context).into(),
    }
}
