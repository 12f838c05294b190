(function_declaration name: (identifier) @name) @definition.function
(generator_function_declaration name: (identifier) @name) @definition.function
(class_declaration name: (_) @name) @definition.class
(method_definition name: (_) @name) @definition.method
(variable_declarator name: (identifier) @name value: (arrow_function)) @definition.function
(variable_declarator name: (identifier) @name value: (function_expression)) @definition.function
(variable_declarator name: (identifier) @name value: (class)) @definition.class
(assignment_expression left: (member_expression property: (property_identifier) @name) right: (function_expression)) @definition.function
(assignment_expression left: (member_expression property: (property_identifier) @name) right: (arrow_function)) @definition.function
(pair key: (property_identifier) @name value: (function_expression)) @definition.method
(pair key: (property_identifier) @name value: (arrow_function)) @definition.method
(program (lexical_declaration (variable_declarator name: (identifier) @name) @definition.constant))
(program (variable_declaration (variable_declarator name: (identifier) @name) @definition.constant))
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @name) @definition.constant)))
(import_statement source: (string) @import)
(export_statement source: (string) @import)
(variable_declarator value: (call_expression function: (identifier) @_require arguments: (arguments . (string) @import)) (#eq? @_require "require"))
