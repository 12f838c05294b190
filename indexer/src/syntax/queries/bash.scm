(function_definition name: (word) @name) @definition.function
(program (variable_assignment name: (variable_name) @name) @definition.constant)
(program (command name: (command_name (word) @_source) argument: (_) @import) (#any-of? @_source "source" "."))
