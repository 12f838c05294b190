(class_declaration name: (identifier) @name) @definition.class
(object_declaration name: (identifier) @name) @definition.class
(function_declaration name: (identifier) @name) @definition.function
(property_declaration (variable_declaration (identifier) @name)) @definition.field
(type_alias type: (identifier) @name) @definition.type
(enum_entry (identifier) @name) @definition.field
(import (qualified_identifier) @import)
