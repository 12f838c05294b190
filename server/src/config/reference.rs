//! What the settings are, for people and programs: JSON Schema, the Markdown reference, and the
//! list of known keys with the nearest one to a misspelt key.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::Settings;

/// Returns the JSON Schema of the settings (draft 7, no references).
pub fn json_schema() -> Value {
    let generator = SchemaSettings::draft07()
        .with(|s| s.inline_subschemas = true)
        .into_generator();
    let mut schema = generator.into_root_schema_for::<Settings>().to_value();
    schema["title"] = "Pairwright settings".into();
    schema
}

/// Returns the settings reference as Markdown: one table row a key, in the order of the keys.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         The same keys work in `config.toml` (in `~/.config/pairwright/`), in the editor's settings \
         (section `pairwright`, or `initializationOptions`), in `.pairwright.toml` of a workspace \
         (only keys that name no program, host or file) and as environment variables.\n\n\
         | key | default | environment | what it does |\n|---|---|---|---|\n",
    );
    let defaults = serde_json::to_value(Settings::default()).unwrap_or_default();
    for (key, schema) in &known_keys().leaves {
        let default = key
            .split('.')
            .try_fold(&defaults, |v, k| v.get(k))
            .filter(|v| !v.is_null());
        let default = default.map_or_else(|| "unset".into(), |v| format!("`{v}`"));
        let text = schema["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ");
        let _ = writeln!(
            out,
            "| `{key}` | {default} | `{}` | {text} |",
            environment_name(key)
        );
    }
    out
}

/// Returns the environment variable that sets `key`: `complete.deadlineMs` is
/// `PAIRWRIGHT_COMPLETE_DEADLINE_MS`.
pub fn environment_name(key: &str) -> String {
    let mut name = String::from("PAIRWRIGHT_");
    for c in key.chars() {
        match c {
            '.' => name.push('_'),
            c if c.is_ascii_uppercase() => {
                name.push('_');
                name.push(c);
            }
            c => name.push(c.to_ascii_uppercase()),
        }
    }
    name
}

/// The keys of the settings, from their schema.
pub struct KnownKeys {
    /// Dotted key → its schema.
    pub leaves: BTreeMap<String, Value>,
}

/// Longer keys are not told what they were meant to be: comparing takes time and memory for every
/// pair of letters.
const LONGEST_MISSPELT: usize = 100;

/// Returns the keys there are; the schema they come from is made once.
pub fn known_keys() -> &'static KnownKeys {
    static KNOWN: LazyLock<KnownKeys> = LazyLock::new(|| {
        let mut leaves = BTreeMap::new();
        collect(&json_schema(), "", &mut leaves);
        KnownKeys { leaves }
    });
    &KNOWN
}

/// Whether the value of `key` can hold a password or a key, so that it is never shown.
pub fn is_private(key: &str) -> bool {
    key.split('.')
        .any(|part| matches!(part, "apiKeyCommand" | "headers" | "proxy" | "url"))
}

impl KnownKeys {
    /// Whether `key` is a setting, or an entry of one that is a table of free keys.
    pub fn contains(&self, key: &str) -> bool {
        let in_table = key
            .rsplit_once('.')
            .and_then(|(table, _)| self.leaves.get(table))
            .is_some_and(is_table);
        self.leaves.contains_key(key) || in_table
    }

    /// Whether `key` and all below it are one value.
    pub fn is_whole(&self, key: &str) -> bool {
        self.leaves.get(key).is_some_and(|schema| !is_table(schema))
    }

    /// Returns the known key nearest to `key`, if one is near enough to be what was meant.
    pub fn nearest(&self, key: &str) -> Option<&str> {
        if key.len() > LONGEST_MISSPELT {
            return None;
        }
        let score = |known: &&String| {
            let last = |k: &str| k.rsplit('.').next().unwrap_or(k).to_ascii_lowercase();
            let whole = strsim::normalized_damerau_levenshtein(known, key);
            whole.max(0.95 * strsim::normalized_damerau_levenshtein(&last(known), &last(key)))
        };
        let best = self
            .leaves
            .keys()
            .max_by(|a, b| score(a).total_cmp(&score(b)))?;
        (score(&best) >= 0.6).then_some(best.as_str())
    }

    /// Checks the bounds of a number, which deserialising alone does not.
    ///
    /// # Errors
    /// A message that names the bound.
    pub fn check_range(&self, key: &str, value: &Value) -> Result<(), String> {
        let (Some(schema), Some(n)) = (self.leaves.get(key), value.as_f64()) else {
            return Ok(());
        };
        for (bound, broken) in [
            ("minimum", f64::lt as fn(&f64, &f64) -> bool),
            ("maximum", f64::gt),
        ] {
            if let Some(limit) = schema[bound].as_f64()
                && broken(&n, &limit)
            {
                return Err(format!("`{key}` is {value}; its {bound} is {limit}"));
            }
        }
        Ok(())
    }
}

fn is_table(schema: &Value) -> bool {
    schema
        .get("additionalProperties")
        .is_some_and(Value::is_object)
}

fn collect(schema: &Value, path: &str, out: &mut BTreeMap<String, Value>) {
    let alternatives = schema["anyOf"].as_array().map_or(&[][..], Vec::as_slice);
    let with_properties = std::iter::once(schema)
        .chain(alternatives)
        .find(|s| s["properties"].is_object());
    match with_properties.and_then(|s| s["properties"].as_object()) {
        Some(properties) => {
            for (key, inner) in properties {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(inner, &path, out);
            }
        }
        None => {
            out.insert(path.to_owned(), schema.clone());
        }
    }
}
