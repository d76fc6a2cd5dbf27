//! Checks and changes the tree of a template; see the parent module.

use std::collections::BTreeSet;

use gotmpl::parse::{BranchNode, CommandNode, Expr, ListNode, Node, PipeNode, Pos};

use super::functions;
use crate::Error;

/// The function through which every printed value goes.
pub(super) const PRINT: &str = "weir_print";

/// Refuses blocks without an end and what stands outside of a block, both of which the library lets pass.
pub(super) fn balanced(text: &str) -> Result<(), Error> {
    // Where each open block begins.
    let mut open: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(start) = text[at..].find("{{").map(|n| at + n) {
        let action = text[start + 2..].trim_start_matches('-').trim_start();
        let end = action_end(action);
        let word: &str = action.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
        match word {
            "if" | "range" | "with" | "define" | "block" => open.push(start),
            "else" | "end" | "break" | "continue" if open.is_empty() => {
                return Err(error(text, start, &format!("unexpected {{{{{word}}}}}")));
            }
            "end" => drop(open.pop()),
            _ => {}
        }
        at = text.len() - action.len() + end;
    }
    open.pop().map_or(Ok(()), |start| Err(error(text, start, "unexpected end of the text: this block has no {{end}}")))
}

/// Where an action ends: past its `}}`, not counting those in texts and comments.
fn action_end(action: &str) -> usize {
    if let Some(comment) = action.strip_prefix("/*") {
        return comment.find("*/").map_or(action.len(), |n| n + 4);
    }
    let bytes = action.as_bytes();
    let (mut quote, mut n) = (None, 0);
    while n < bytes.len() {
        match (quote, bytes[n]) {
            (Some(b'"' | b'\''), b'\\') => n += 1,
            (Some(q), b) if q == b => quote = None,
            (None, b @ (b'"' | b'`' | b'\'')) => quote = Some(b),
            (None, b'}') if bytes.get(n + 1) == Some(&b'}') => return n + 2,
            _ => {}
        }
        n += 1;
    }
    bytes.len()
}

fn error(text: &str, at: usize, message: &str) -> Error {
    let before = text.get(..at).unwrap_or(text);
    let (line, start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |n| n + 1));
    Error::Template(format!("{line}:{}: {message}", before[start..].chars().count() + 1))
}

/// A walk over the trees of one text.
pub(super) struct Rewrite<'a> {
    text: &'a str,
    /// Templates that the text defines.
    templates: BTreeSet<&'a str>,
    /// Variables declared so far. Scopes are not followed: a variable that is used after the end of its block is found only when the
    /// template is expanded.
    variables: BTreeSet<String>,
}

impl<'a> Rewrite<'a> {
    pub(super) fn new(text: &'a str, templates: &'a [String]) -> Self {
        let mut rewrite =
            Rewrite { text, templates: templates.iter().map(String::as_str).collect(), variables: BTreeSet::new() };
        rewrite.declare_preamble();
        rewrite
    }

    /// The body of a `define`, which sees none of the variables around it.
    pub(super) fn define(&mut self, body: &mut ListNode) -> Result<(), Error> {
        self.variables = BTreeSet::from(["$".to_owned()]);
        self.list(body)
    }

    pub(super) fn list(&mut self, list: &mut ListNode) -> Result<(), Error> {
        list.nodes.iter_mut().try_for_each(|node| self.node(node))
    }

    fn declare_preamble(&mut self) {
        let names = ["$", "$labels", "$externalLabels", "$externalURL", "$pathPrefix", "$value"];
        self.variables.extend(names.map(str::to_owned));
    }

    fn node(&mut self, node: &mut Node) -> Result<(), Error> {
        match node {
            Node::List(list) => self.list(list),
            Node::Action(action) => {
                self.pipe(&mut action.pipe)?;
                if action.pipe.decl.is_empty() {
                    let pos = action.pos;
                    action.pipe.commands.push(CommandNode { pos, args: vec![Expr::Identifier(pos, PRINT.into())] });
                }
                Ok(())
            }
            Node::If(branch) | Node::Range(branch) | Node::With(branch) => self.branch(branch),
            Node::Template(call) => {
                if !self.templates.contains(call.name.as_str()) {
                    return Err(self.error(call.pos, &format!("template {:?} not defined", call.name.as_str())));
                }
                call.pipe.as_mut().map_or(Ok(()), |pipe| self.pipe(pipe))
            }
            Node::Define(define) => self.list(&mut define.body),
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => Ok(()),
        }
    }

    fn branch(&mut self, branch: &mut BranchNode) -> Result<(), Error> {
        self.pipe(&mut branch.pipe)?;
        self.list(&mut branch.body)?;
        branch.else_body.as_mut().map_or(Ok(()), |body| self.list(body))
    }

    fn pipe(&mut self, pipe: &mut PipeNode) -> Result<(), Error> {
        for command in &mut pipe.commands {
            command.args.iter_mut().try_for_each(|arg| self.expr(arg))?;
        }
        self.variables.extend(pipe.decl.iter().map(|name| name.to_string()));
        Ok(())
    }

    fn expr(&mut self, expr: &mut Expr) -> Result<(), Error> {
        match expr {
            Expr::Identifier(pos, name) => {
                let variable = match name.as_str() {
                    "externalURL" => Some("$externalURL"),
                    "pathPrefix" => Some("$pathPrefix"),
                    known if functions::is_known(known) => None,
                    later if functions::LATER.contains(&later) => {
                        return Err(self.error(*pos, &format!("function {later:?} is not supported yet")));
                    }
                    unknown => return Err(self.error(*pos, &format!("function {unknown:?} not defined"))),
                };
                if let Some(variable) = variable {
                    *expr = Expr::Variable(*pos, variable.into(), Vec::new());
                }
                Ok(())
            }
            Expr::Variable(pos, name, _) if !self.variables.contains(name.as_str()) => {
                Err(self.error(*pos, &format!("undefined variable {:?}", name.as_str())))
            }
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expr(inner),
            _ => Ok(()),
        }
    }

    fn error(&self, pos: Pos, message: &str) -> Error {
        error(self.text, pos.offset, message)
    }
}
