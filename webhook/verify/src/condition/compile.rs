//! From an expression's text to a form that the evaluator reads rightly.
//!
//! As it is, the evaluator takes a field of what is no map for `false`, so that `!predicate.list.field` would hold, and
//! knows 7 and 7.0 for different. So field selection becomes indexing, which is an error there, and `has`, `==`, `!=` and
//! `in` become functions of ours.

use kube::core::cel::cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedEntryExpr, LiteralValue, SelectExpr, operators},
    parser::{Expression, Parser},
};

use super::{
    MAX_TEXT,
    document::{NOW, VARIABLES},
    functions::{AMONG, EQUAL, FUNCTIONS, HAS, Patterns},
    lexical,
};
use crate::text::bounded;

/// Longest expression, in bytes.
const MAX_LENGTH: usize = 4096;
/// Comprehensions in comprehensions.
const MAX_NESTING: usize = 2;
/// Depth of an expression: what it takes of a thread's stack to evaluate it.
const MAX_DEPTH: usize = 48;
/// The parser goes as deep as an expression of [`MAX_LENGTH`] says.
const PARSER_STACK: usize = 64 * 1024 * 1024;

/// Operators that expressions may use besides those that are rewritten.
const OPERATORS: [&str; 16] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::NOT_STRICTLY_FALSE,
    operators::ADD,
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::INDEX,
];

/// An expression that can be evaluated.
pub(super) struct Compiled {
    pub(super) expression: Expression,
    /// It names the time.
    pub(super) live: bool,
}

/// Compiles an expression, and adds its patterns to those of its policy.
pub(super) fn compile(source: &str, patterns: &mut Patterns) -> Result<Compiled, String> {
    if source.len() > MAX_LENGTH {
        return Err(format!("has {} bytes: write at most {MAX_LENGTH}", source.len()));
    }
    lexical::check(source)?;
    let compiled = std::thread::scope(|scope| {
        let parse = || -> Result<Compiled, String> {
            let parsed = Parser::new().parse(source).map_err(|errors| {
                let first = errors.errors.first().map(|error| (error.pos, bounded(&error.msg, MAX_TEXT)));
                let ((line, column), what) = first.unwrap_or_default();
                format!("is no CEL expression: {what} at line {line}, column {}", column + 1)
            })?;
            let mut compiler = Compiler { patterns, variables: Vec::new(), depth: 0, live: false };
            let expression = compiler.expression(parsed)?;
            Ok(Compiled { expression, live: compiler.live })
        };
        let thread = std::thread::Builder::new().stack_size(PARSER_STACK).spawn_scoped(scope, parse);
        thread.map_err(|error| format!("was not compiled: {error}")).map(std::thread::ScopedJoinHandle::join)
    })?;
    // The parser is not proof against everything that is no CEL.
    compiled.unwrap_or_else(|_| Err("is no CEL expression".to_owned()))
}

struct Compiler<'a> {
    patterns: &'a mut Patterns,
    /// Variables of the comprehensions around.
    variables: Vec<[String; 2]>,
    depth: usize,
    live: bool,
}

impl Compiler<'_> {
    fn expression(&mut self, expression: IdedExpr) -> Result<IdedExpr, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} deep: split it into several conditions"));
        }
        let id = expression.id;
        let expr = match expression.expr {
            Expr::Literal(literal) => Expr::Literal(literal),
            Expr::Ident(name) => self.variable(name)?,
            Expr::Select(select) => self.select(id, select)?,
            Expr::Call(call) => self.call(id, call)?,
            Expr::Comprehension(comprehension) => self.comprehension(*comprehension)?,
            Expr::List(mut list) => {
                list.elements = self.all(list.elements)?;
                Expr::List(list)
            }
            Expr::Map(mut map) => {
                map.entries = map.entries.into_iter().map(|entry| self.entry(entry)).collect::<Result<_, _>>()?;
                Expr::Map(map)
            }
            Expr::Struct(of) => return Err(format!("makes a {:.40}: only lists and maps can be made", of.type_name)),
            Expr::Unspecified => return Err("is no whole expression".to_owned()),
        };
        self.depth -= 1;
        Ok(IdedExpr { id, expr })
    }

    fn all(&mut self, expressions: Vec<IdedExpr>) -> Result<Vec<IdedExpr>, String> {
        expressions.into_iter().map(|expression| self.expression(expression)).collect()
    }

    fn entry(&mut self, mut entry: IdedEntryExpr) -> Result<IdedEntryExpr, String> {
        match &mut entry.expr {
            EntryExpr::MapEntry(pair) => {
                pair.key = self.expression(std::mem::take(&mut pair.key))?;
                pair.value = self.expression(std::mem::take(&mut pair.value))?;
                Ok(entry)
            }
            EntryExpr::StructField(_) => Err("makes a message: only lists and maps can be made".to_owned()),
        }
    }

    fn variable(&mut self, name: String) -> Result<Expr, String> {
        let is_local = self.variables.iter().flatten().any(|local| *local == name);
        self.live |= !is_local && name == NOW;
        if is_local || VARIABLES.contains(&name.as_str()) {
            return Ok(Expr::Ident(name));
        }
        Err(format!("names {name:.40}, which is not known: there are {}", VARIABLES.join(", ")))
    }

    fn select(&mut self, id: u64, select: SelectExpr) -> Result<Expr, String> {
        let operand = self.expression(*select.operand)?;
        let field = IdedExpr { id, expr: Expr::Literal(LiteralValue::String(select.field.into())) };
        let func_name = if select.test { HAS } else { operators::INDEX };
        Ok(Expr::Call(CallExpr { func_name: func_name.to_owned(), target: None, args: vec![operand, field] }))
    }

    fn call(&mut self, id: u64, call: CallExpr) -> Result<Expr, String> {
        let CallExpr { func_name: name, target, args } = call;
        let is_method = target.is_some();
        let target = target.map(|target| self.expression(*target)).transpose()?.map(Box::new);
        let args = self.all(args)?;
        let call = |name: &str, target, args| Expr::Call(CallExpr { func_name: name.to_owned(), target, args });
        match name.as_str() {
            operators::EQUALS => return Ok(call(EQUAL, None, args)),
            operators::IN => return Ok(call(AMONG, None, args)),
            operators::NOT_EQUALS => {
                let equal = IdedExpr { id, expr: call(EQUAL, None, args) };
                return Ok(call(operators::LOGICAL_NOT, None, vec![equal]));
            }
            operator if !is_method && OPERATORS.contains(&operator) => return Ok(call(&name, None, args)),
            _ => {}
        }
        let known = FUNCTIONS.iter().filter(|function| function.name == name).collect::<Vec<_>>();
        if known.is_empty() {
            let mut names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
            names.dedup();
            let macros = "has, all, exists, exists_one, map, filter";
            return Err(format!("calls {name:.40}, which is not known: there are {macros}, {}", names.join(", ")));
        }
        if !known.iter().any(|function| function.method == is_method && function.arguments == args.len()) {
            let form = |function: &&super::functions::Function| {
                let arguments = vec!["…"; function.arguments].join(", ");
                format!("{}{name}({arguments})", if function.method { "value." } else { "" })
            };
            let forms: Vec<_> = known.iter().map(form).collect();
            return Err(format!("calls {name} in a form that is not known: write {}", forms.join(" or ")));
        }
        if name == "matches" {
            let Some(Expr::Literal(LiteralValue::String(pattern))) = args.first().map(|pattern| &pattern.expr) else {
                return Err("matches: write the pattern as a string, so that it is compiled once".to_owned());
            };
            self.patterns.add(pattern.inner())?;
        }
        Ok(call(&name, target, args))
    }

    fn comprehension(&mut self, of: ComprehensionExpr) -> Result<Expr, String> {
        let iter_range = self.expression(of.iter_range)?;
        let accu_init = self.expression(of.accu_init)?;
        if self.variables.len() == MAX_NESTING {
            return Err(format!(
                "nests comprehensions (all, exists, exists_one, map, filter) more than {MAX_NESTING} deep: split it into \
                 several conditions, or chain them"
            ));
        }
        self.variables.push([of.iter_var.clone(), of.accu_var.clone()]);
        let loop_cond = self.expression(of.loop_cond)?;
        let loop_step = self.expression(of.loop_step)?;
        let result = self.expression(of.result)?;
        self.variables.pop();
        let (iter_var, iter_var2, accu_var) = (of.iter_var, of.iter_var2, of.accu_var);
        Ok(Expr::Comprehension(Box::new(ComprehensionExpr {
            iter_range,
            iter_var,
            iter_var2,
            accu_var,
            accu_init,
            loop_cond,
            loop_step,
            result,
        })))
    }
}
