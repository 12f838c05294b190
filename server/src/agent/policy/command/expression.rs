//! What bash computes as an expression: `(( ))`, `$(( ))`, `[[ a -eq b ]]`, `a[b]`, `${a:b}`.
//!
//! Holds: bash computes the value of a variable there too, and of names in that value, down to
//! commands in subscripts (`x='a[$(ls)]'; ((x))`). So an expression is one of numbers and of
//! variables that this line gives numbers or does not set; anything else is a doubt.

use tree_sitter::Node;

use super::{Line, slice};

/// Operators of `[[ ]]` whose sides are computed.
const COMPARING: &[&str] = &["-eq", "-ne", "-lt", "-le", "-gt", "-ge"];

impl Line {
    /// Notes what a node computes, if it is such an expression.
    pub(super) fn add_expression(&mut self, node: Node<'_>, text: &str) {
        let source = slice(node, text);
        let is_one = match node.kind() {
            "arithmetic_expansion" | "c_style_for_statement" | "subscript" => true,
            "compound_statement" => source.starts_with("(("),
            "test_command" => {
                let compares = COMPARING.iter().any(|operator| source.contains(operator));
                source.starts_with("[[") && compares || source.contains("-v")
            }
            // A part of a value: the place and the length are computed.
            "expansion" => has_child(node, ":"),
            _ => false,
        };
        if is_one {
            self.compute(node, text);
        }
        let is_test = node.kind() == "test_command" && !source.starts_with("[[");
        if is_test && (source.contains('\n') || joins(node)) {
            self.doubt("it is not clear where a test in it ends");
        }
    }

    fn compute(&mut self, root: Node<'_>, text: &str) {
        let mut open = vec![root];
        while let Some(node) = open.pop() {
            let source = slice(node, text);
            match node.kind() {
                // What a loop runs is judged as all commands are.
                "do_group" => continue,
                "command" | "command_substitution" | "heredoc_body" | "process_substitution" => {
                    self.doubt("it computes what a command prints as an expression");
                }
                "raw_string" | "ansi_c_string" | "string_content" | "word"
                    if source.contains(['[', '`']) || source.contains("$(") =>
                {
                    self.doubt("it computes a text as an expression");
                }
                "variable_name" | "word" | "special_variable_name" => {
                    self.assigns(source);
                    self.expressed.push(source.to_owned());
                    let is_given = |c: char| c.is_ascii_digit() || matches!(c, '@' | '*');
                    if node.kind() != "word" && source.starts_with(is_given) {
                        self.doubt("it computes an argument as an expression");
                    }
                }
                _ => {}
            }
            let mut cursor = node.walk();
            open.extend(node.children(&mut cursor));
        }
    }
}

fn has_child(node: Node<'_>, kind: &str) -> bool {
    let mut cursor = node.walk();
    node.children(&mut cursor).any(|child| child.kind() == kind)
}

/// Whether `[ ]` holds what bash ends a command by: `[ a || ls ]`.
fn joins(test: Node<'_>) -> bool {
    let mut open = vec![test];
    while let Some(node) = open.pop() {
        match node.kind() {
            "command_substitution" | "process_substitution" => continue,
            "||" | "&&" | "|" | "&" | ";" | "<" | ">" | "(" | ")" => return true,
            _ => {}
        }
        let mut cursor = node.walk();
        open.extend(node.children(&mut cursor));
    }
    false
}
