//! Pairwright in Zed: finds the language server, starts it and hands it its settings.
//!
//! Holds: what `lsp.pairwright` of Zed's settings says wins over `PATH`; nothing is downloaded.
//! Not here: ghost text, which Zed takes from no language server, and chats and tasks, which its
//! agent panel takes by the Agent Client Protocol (editors/README.md has the settings of both).

use zed_extension_api::serde_json::{Value, json};
use zed_extension_api::settings::{CommandSettings, LspSettings};
use zed_extension_api::{
    Command, Extension, LanguageServerId, Result, Worktree, register_extension,
};

/// The program, and the section of settings that the server asks for.
const NAME: &str = "pairwright";

struct Pairwright;

impl Extension for Pairwright {
    fn new() -> Self {
        Self
    }

    fn language_server_command(
        &mut self,
        server: &LanguageServerId,
        worktree: &Worktree,
    ) -> Result<Command> {
        let settings = LspSettings::for_worktree(server.as_ref(), worktree)?;
        let on_path = || worktree.which(NAME);
        command(settings.binary, on_path, worktree.shell_env())
    }

    fn language_server_initialization_options(
        &mut self,
        server: &LanguageServerId,
        worktree: &Worktree,
    ) -> Result<Option<Value>> {
        let settings = LspSettings::for_worktree(server.as_ref(), worktree)?;
        Ok(settings.initialization_options)
    }

    fn language_server_workspace_configuration(
        &mut self,
        server: &LanguageServerId,
        worktree: &Worktree,
    ) -> Result<Option<Value>> {
        let settings = LspSettings::for_worktree(server.as_ref(), worktree)?;
        Ok(settings.settings.map(|settings| json!({ NAME: settings })))
    }
}

register_extension!(Pairwright);

/// What to start: the program of the settings, else the one on `PATH`, in the environment of the
/// user's shell.
///
/// # Errors
/// What to do, when there is no program.
fn command(
    binary: Option<CommandSettings>,
    on_path: impl FnOnce() -> Option<String>,
    shell: Vec<(String, String)>,
) -> Result<Command> {
    let (path, arguments, own) = match binary {
        Some(binary) => (binary.path, binary.arguments, binary.env),
        None => (None, None, None),
    };
    let command = path.or_else(on_path).ok_or(
        "The program pairwright is not on PATH. Install it, or name it in the setting \
         `lsp.pairwright.binary.path`.",
    )?;
    Ok(Command {
        command,
        args: arguments.unwrap_or_else(|| vec!["lsp".to_owned()]),
        env: shell.into_iter().chain(own.unwrap_or_default()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(value: Value) -> Option<CommandSettings> {
        zed_extension_api::serde_json::from_value(value).ok()
    }

    #[test]
    fn settings_win_over_path_and_without_either_the_user_is_told_what_to_do() {
        let shell = || vec![("PATH".to_owned(), "/bin".to_owned())];
        let found = || Some("/bin/pairwright".to_owned());
        let plain = command(None, found, shell()).unwrap();
        assert_eq!(plain.command, "/bin/pairwright");
        assert_eq!((plain.args, plain.env), (vec!["lsp".to_owned()], shell()));

        let named = settings(json!({
            "path": "/opt/pairwright", "arguments": ["lsp", "--exclude", "*.min.js"], "env": { "A": "b" },
        }));
        let named = command(named, found, shell()).unwrap();
        assert_eq!(named.command, "/opt/pairwright");
        assert_eq!(named.args, ["lsp", "--exclude", "*.min.js"]);
        assert!(named.env.contains(&("A".to_owned(), "b".to_owned())));

        let why = command(None, || None, shell()).unwrap_err();
        assert!(why.contains("lsp.pairwright.binary.path"), "{why}");
    }
}
