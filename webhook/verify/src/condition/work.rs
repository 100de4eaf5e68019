//! How much work an expression may be over a document, at most, before it is evaluated.
//!
//! A unit is about one value copied or compared. The bound is a polynomial in the sizes of the variables, with no
//! negative coefficient. So for the elements x of a list of size s, the work of all of them together is at most
//! s·p(0) + (p(s) − p(0)), where p is the work over one: walking through lists in lists costs what their elements are,
//! not their product.

use std::collections::HashMap;

use kube::core::cel::cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, LiteralValue, operators},
};

use super::functions::{self, Gives};

/// Most that one condition may take: well under a second.
pub(super) const MAX_WORK: u64 = 20_000_000;
/// Bytes of text that weigh as much as one value.
const BYTES: usize = 64;
/// Steps of a pattern for as many bytes.
const MATCH: u64 = 512;

/// Sizes of variables by name.
pub(super) type Sizes = HashMap<&'static str, Size>;

/// What a variable weighs, and how long the longest list or map in it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) size: u64,
    pub(super) longest: u64,
}

/// What a text weighs.
pub(super) fn text_size(text: &str) -> u64 {
    1 + (text.len() / BYTES) as u64
}

/// What a value weighs, and what it takes to have it.
#[derive(Clone, Copy, Debug)]
struct Bound {
    size: u64,
    /// Of the longest list or map in it. Where it depends on an element it is the element's size, or the sum over all
    /// elements would not be bounded by that over one of the size of all.
    longest: u64,
    work: u64,
    /// It is copied where it is used: it is a part of a variable, which is not copied to look at it.
    borrowed: bool,
}

/// Variables in scope, the innermost last.
struct Scope<'a> {
    globals: &'a Sizes,
    /// Elements and what was accumulated, with their size.
    locals: Vec<(&'a str, u64)>,
}

/// The work of an expression over variables of these sizes, at most.
pub(super) fn bound(expression: &IdedExpr, globals: &Sizes) -> u64 {
    Scope { globals, locals: Vec::new() }.of(expression).work
}

fn one(work: u64) -> Bound {
    Bound { size: 1, longest: 0, work: work.saturating_add(1), borrowed: false }
}

const BOUNDLESS: Bound = Bound { size: u64::MAX, longest: u64::MAX, work: u64::MAX, borrowed: false };

fn sum(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}

impl<'a> Scope<'a> {
    fn of(&mut self, expression: &'a IdedExpr) -> Bound {
        match &expression.expr {
            Expr::Literal(literal) => Bound { size: literal_size(literal), longest: 0, work: 1, borrowed: true },
            Expr::Ident(name) => {
                let local = self.locals.iter().rev().find(|(local, _)| local == name);
                let global = || self.globals.get(name.as_str()).copied();
                local
                    .map(|(_, size)| Size { size: *size, longest: *size })
                    .or_else(global)
                    .map_or(BOUNDLESS, |of| Bound { size: of.size, longest: of.longest, work: 1, borrowed: true })
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let parts: Vec<_> = list.elements.iter().map(|element| self.of(element)).collect();
                made_of(&parts)
            }
            Expr::Map(map) => {
                let parts: Vec<_> = map.entries.iter().flat_map(|entry| self.entry(entry)).collect();
                made_of(&parts)
            }
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            // The compiler lets neither through.
            Expr::Select(_) | Expr::Struct(_) | Expr::Unspecified => BOUNDLESS,
        }
    }

    fn entry(&mut self, entry: &'a IdedEntryExpr) -> [Bound; 2] {
        match &entry.expr {
            EntryExpr::MapEntry(entry) => [self.of(&entry.key), self.of(&entry.value)],
            EntryExpr::StructField(field) => [one(0), self.of(&field.value)],
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Bound {
        let parts: Vec<_> = call.target.as_deref().into_iter().chain(&call.args).map(|part| self.of(part)).collect();
        let work = sum(parts.iter().map(|part| part.work));
        let sizes = sum(parts.iter().map(|part| part.size));
        let longest = sum(parts.iter().map(|part| part.longest));
        let with = |size: u64, more: u64| Bound { size, longest, work: sum([work, more, 1]), borrowed: false };
        match call.func_name.as_str() {
            // Of what is borrowed a part is borrowed; of what is not the rest is thrown away.
            operators::INDEX => match parts.as_slice() {
                [of, _] if of.borrowed => Bound { work: sum([work, 1]), ..*of },
                [of, _] => with(of.size, of.size),
                _ => BOUNDLESS,
            },
            operators::CONDITIONAL => {
                let size = sum(parts.iter().skip(1).map(|part| part.size));
                Bound { size, longest, work: sum([work, 1]), borrowed: parts.iter().skip(1).all(|part| part.borrowed) }
            }
            operators::ADD => with(sizes, sizes),
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE => {
                one(work)
            }
            functions::HAS => one(work),
            name => match functions::FUNCTIONS.iter().find(|function| function.name == name).map(|f| f.gives) {
                // Operators, equality among them, look at all that they are given.
                None | Some(Gives::One) => with(1, sizes),
                Some(Gives::NoMore) => with(sizes, sizes),
                Some(Gives::Pieces) => {
                    let pieces = sizes.saturating_mul(2 * BYTES as u64);
                    Bound { longest: pieces, ..with(pieces, pieces) }
                }
                Some(Gives::Match) => with(1, sizes.saturating_mul(MATCH)),
            },
        }
    }

    fn comprehension(&mut self, comprehension: &'a ComprehensionExpr) -> Bound {
        let range = self.of(&comprehension.iter_range);
        let start = self.of(&comprehension.accu_init);
        let is_list = matches!(comprehension.accu_init.expr, Expr::List(_));
        // What one element adds to a list: macros append to it, so that is the size of a step from nothing.
        let grown = if is_list {
            let from_nothing = |scope: &mut Self, size| scope.step(comprehension, size, 0).size;
            over_all(range, from_nothing(self, 0), from_nothing(self, range.size))
        } else {
            0
        };
        let accumulated = start.size.saturating_add(grown);
        let each = |scope: &mut Self, size| scope.step(comprehension, size, accumulated).work;
        let steps = over_all(range, each(self, 0), each(self, range.size));
        // Each step copies what was accumulated, and each element once.
        let copies = range.longest.saturating_mul(accumulated).saturating_mul(2).saturating_add(range.size);
        let work = sum([range.work, start.work, steps, copies, accumulated, 1]);
        let (size, longest) = if is_list { (accumulated, accumulated) } else { (1, 0) };
        Bound { size, longest, work, borrowed: false }
    }

    /// One step, whatever decides whether it is made included.
    fn step(&mut self, comprehension: &'a ComprehensionExpr, element: u64, accumulated: u64) -> Bound {
        self.locals.push((&comprehension.accu_var, accumulated));
        self.locals.push((&comprehension.iter_var, element));
        let condition = self.of(&comprehension.loop_cond);
        let step = self.of(&comprehension.loop_step);
        self.locals.truncate(self.locals.len() - 2);
        Bound { work: sum([condition.work, step.work, 1]), ..step }
    }
}

/// The sum of p(x) over the elements of a range, from p(0) and p of all of it.
fn over_all(range: Bound, of_nothing: u64, of_all: u64) -> u64 {
    range.longest.saturating_mul(of_nothing).saturating_add(of_all.saturating_sub(of_nothing))
}

fn made_of(parts: &[Bound]) -> Bound {
    let size = sum(parts.iter().map(|part| part.size)).saturating_add(1);
    let work = sum(parts.iter().map(|part| part.work)).saturating_add(size);
    let longest = sum(parts.iter().map(|part| part.longest)).saturating_add(parts.len() as u64);
    Bound { size, longest, work, borrowed: false }
}

fn literal_size(literal: &LiteralValue) -> u64 {
    match literal {
        LiteralValue::String(text) => text_size(text.inner()),
        LiteralValue::Bytes(bytes) => 1 + (bytes.inner().len() / BYTES) as u64,
        _ => 1,
    }
}
