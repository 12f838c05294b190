(rule_set (selectors (class_selector (class_name) @name))) @definition.section
(rule_set (selectors (id_selector (id_name) @name))) @definition.section
(keyframes_statement (keyframes_name) @name) @definition.section
(import_statement (string_value) @import)
