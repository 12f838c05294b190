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
    let known = known_keys();
    let entries = known.tables.iter().flat_map(|(table, entry)| {
        let shown = move |(key, schema)| (format!("{table}.<name>.{key}"), schema);
        entry.leaves.iter().map(shown)
    });
    let leaves = known.leaves.iter().map(|(key, s)| (key.clone(), s));
    let rows: BTreeMap<String, &Value> = leaves.chain(entries).collect();
    for (key, schema) in &rows {
        let is_there = |v: &&Value| !v.is_null();
        let default = key.split('.').try_fold(&defaults, |v, k| v.get(k));
        // An entry of a table, or of what is unset as a whole, is in no default.
        let default = default.filter(is_there).or(schema.get("default"));
        let default = default.filter(is_there);
        let default = default.map_or_else(|| "unset".into(), |v| format!("`{v}`"));
        let environment = match known.leaves.contains_key(key) {
            true => format!("`{}`", environment_name(key)),
            false => String::new(),
        };
        let text = schema["description"]
            .as_str()
            .unwrap_or_default()
            .replace('\n', " ");
        let _ = writeln!(out, "| `{key}` | {default} | {environment} | {text} |");
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
    /// Leaves that are tables of free names → the keys below each name.
    tables: BTreeMap<String, KnownKeys>,
}

/// Longer keys are not told what they were meant to be: comparing takes time and memory for every
/// pair of letters.
const LONGEST_MISSPELT: usize = 100;

/// Returns the keys there are; the schema they come from is made once.
pub fn known_keys() -> &'static KnownKeys {
    static KNOWN: LazyLock<KnownKeys> = LazyLock::new(|| KnownKeys::of(&json_schema()));
    &KNOWN
}

/// Whether the value of `key` can hold a password or a key, so that it is never shown.
pub fn is_private(key: &str) -> bool {
    key.split('.').any(|part| {
        matches!(
            part,
            "agentFallbacks"
                | "apiKeyCommand"
                | "args"
                | "chatFallbacks"
                | "env"
                | "headers"
                | "proxy"
                | "url"
        )
    })
}

impl KnownKeys {
    fn of(schema: &Value) -> Self {
        let mut leaves = BTreeMap::new();
        collect(schema, "", &mut leaves);
        let entry = |schema: &Value| {
            let entry = schema.get("additionalProperties")?;
            entry["properties"].is_object().then(|| Self::of(entry))
        };
        let tables = leaves
            .iter()
            .filter_map(|(key, schema)| Some((key.clone(), entry(schema)?)))
            .collect();
        Self { leaves, tables }
    }

    /// Whether `key` is a setting, or an entry of one that is a table of free keys.
    pub fn contains(&self, key: &str) -> bool {
        if let Some((entry, rest)) = self.entry(key) {
            return rest.is_some_and(|rest| entry.contains(rest));
        }
        let in_table = key
            .rsplit_once('.')
            .and_then(|(table, _)| self.leaves.get(table))
            .is_some_and(is_table);
        self.leaves.contains_key(key) || in_table
    }

    /// Whether `key` and all below it are one value.
    pub fn is_whole(&self, key: &str) -> bool {
        self.schema(key).is_some_and(|schema| !is_table(schema))
    }

    /// The keys below the name that `key` has in a table of free names, and the rest of `key`
    /// behind that name.
    fn entry<'k>(&self, key: &'k str) -> Option<(&Self, Option<&'k str>)> {
        self.tables.iter().find_map(|(table, entry)| {
            let rest = key.strip_prefix(table.as_str())?.strip_prefix('.')?;
            Some((entry, rest.split_once('.').map(|(_, rest)| rest)))
        })
    }

    fn schema(&self, key: &str) -> Option<&Value> {
        match self.entry(key) {
            Some((entry, rest)) => entry.schema(rest?),
            None => self.leaves.get(key),
        }
    }

    /// Returns the known key nearest to `key`, if one is near enough to be what was meant.
    pub fn nearest(&self, key: &str) -> Option<String> {
        if key.len() > LONGEST_MISSPELT {
            return None;
        }
        if let Some((entry, Some(rest))) = self.entry(key) {
            let named = &key[..key.len() - rest.len()];
            return entry.nearest(rest).map(|best| format!("{named}{best}"));
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
        (score(&best) >= 0.6).then(|| best.clone())
    }

    /// Checks the bounds of a number, which deserialising alone does not.
    ///
    /// # Errors
    /// A message that names the bound.
    pub fn check_range(&self, key: &str, value: &Value) -> Result<(), String> {
        let (Some(schema), Some(n)) = (self.schema(key), value.as_f64()) else {
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
