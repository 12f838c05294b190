//! Which files only lie there, and which the tools of the user's machine run or obey.
//!
//! Names are compared in lower case, as some file systems take them for the same. Rather too many
//! than too few: what is marked here is shown apart and has to be accepted by itself.

use serde::Serialize;

/// Whether a file only lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    Ordinary,
    /// Tools on the user's machine run it, or do what it says, without being asked: never part of
    /// "accept all".
    RunsOnYourMachine,
}

/// Directories whose files are run or obeyed: of editors, agents, version control, pipelines.
const DIRECTORIES: [&str; 31] = [
    ".buildkite",
    ".cargo",
    ".circleci",
    ".claude",
    ".clinerules",
    ".codex",
    ".continue",
    ".cursor",
    ".devcontainer",
    ".fleet",
    ".gemini",
    ".githooks",
    ".github",
    ".gitlab",
    ".helix",
    ".hg",
    ".husky",
    ".idea",
    ".jj",
    ".kiro",
    ".mvn",
    ".opencode",
    ".pairwright",
    ".roo",
    ".svn",
    ".vim",
    ".vscode",
    ".windsurf",
    ".yarn",
    ".zed",
    "gradle",
];

/// Files that are, by their whole name.
const FILES: [&str; 132] = [
    ".aider.conf.yml",
    ".babelrc",
    ".bash_login",
    ".bash_profile",
    ".bashrc",
    ".bazelrc",
    ".clinerules",
    ".cursorrules",
    ".dir-locals.el",
    ".drone.yml",
    ".emacs",
    ".envrc",
    ".eslintrc",
    ".exrc",
    ".gdbinit",
    ".gitattributes",
    ".gitconfig",
    ".gitlab-ci.yml",
    ".gitmodules",
    ".inputrc",
    ".lldbinit",
    ".lvimrc",
    ".mcp.json",
    ".mise.toml",
    ".npmrc",
    ".nvim.lua",
    ".nvimrc",
    ".pairwright.toml",
    ".pnpmfile.cjs",
    ".pre-commit-config.yaml",
    ".pre-commit-config.yml",
    ".prettierrc",
    ".profile",
    ".pypirc",
    ".rspec",
    ".screenrc",
    ".tmux.conf",
    ".tool-versions",
    ".travis.yml",
    ".vimrc",
    ".windsurfrules",
    ".yarnrc",
    ".yarnrc.yml",
    ".zprofile",
    ".zshenv",
    ".zshrc",
    "agents.md",
    "agents.override.md",
    "appveyor.yml",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "brewfile",
    "build",
    "build.bazel",
    "build.gradle",
    "build.gradle.kts",
    "build.rs",
    "build.sbt",
    "build.xml",
    "build.zig",
    "cargo.toml",
    "claude.local.md",
    "claude.md",
    "cmakelists.txt",
    "cmakepresets.json",
    "compose.yaml",
    "compose.yml",
    "composer.json",
    "configure",
    "configure.ac",
    "conftest.py",
    "containerfile",
    "default.nix",
    "devcontainer.json",
    "directory.build.props",
    "directory.build.targets",
    "docker-compose.yaml",
    "docker-compose.yml",
    "dockerfile",
    "fabfile.py",
    "flake.nix",
    "gemfile",
    "gemini.md",
    "gnumakefile",
    "gradle.properties",
    "gradlew",
    "gradlew.bat",
    "gruntfile.js",
    "gulpfile.js",
    "jakefile",
    "jenkinsfile",
    "justfile",
    "lefthook.yaml",
    "lefthook.yml",
    "makefile",
    "makefile.am",
    "meson.build",
    "mise.toml",
    "mix.exs",
    "module.bazel",
    "mvnw",
    "mvnw.cmd",
    "noxfile.py",
    "opencode.json",
    "package.json",
    "package.swift",
    "pip.conf",
    "pipfile",
    "pnpm-workspace.yaml",
    "podfile",
    "pom.xml",
    "procfile",
    "pyproject.toml",
    "rakefile",
    "rust-toolchain",
    "rust-toolchain.toml",
    "sconstruct",
    "settings.gradle",
    "settings.gradle.kts",
    "setup.cfg",
    "setup.py",
    "shell.nix",
    "sitecustomize.py",
    "snapcraft.yaml",
    "taskfile.yaml",
    "taskfile.yml",
    "tasks.py",
    "tox.ini",
    "usercustomize.py",
    "vagrantfile",
    "workspace",
    "wscript",
];

/// Files that are, by how their name ends.
const ENDINGS: [&str; 27] = [
    ".bzl",
    ".cabal",
    ".cmake",
    ".code-workspace",
    ".config.cjs",
    ".config.cts",
    ".config.js",
    ".config.mjs",
    ".config.mts",
    ".config.ts",
    ".csproj",
    ".fsproj",
    ".gemspec",
    ".gradle",
    ".gradle.kts",
    ".mk",
    ".podspec",
    ".props",
    ".pth",
    ".sln",
    ".sublime-project",
    ".targets",
    ".vbproj",
    ".vcxproj",
    "rc.cjs",
    "rc.js",
    "rc.mjs",
];

pub(super) fn class_of(path: &str) -> Class {
    let lower = path.to_lowercase();
    let (directories, name) = lower.rsplit_once('/').unwrap_or(("", &lower));
    let runs = FILES.contains(&name)
        || ENDINGS.iter().any(|ending| name.ends_with(ending))
        || directories.split('/').any(|d| DIRECTORIES.contains(&d));
    match runs {
        true => Class::RunsOnYourMachine,
        false => Class::Ordinary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_tools_run_or_obey_is_told_from_what_only_lies_there() {
        for path in [
            ".github/workflows/ci.yml",
            "web/.VSCode/tasks.json",
            "Makefile",
            "sub/AGENTS.md",
            "vite.config.ts",
            ".eslintrc.cjs",
            "a.code-workspace",
            "src/.hg/hgrc",
            "lib/site.pth",
            "Directory.Build.targets",
        ] {
            assert_eq!(class_of(path), Class::RunsOnYourMachine, "{path}");
        }
        for path in [
            "src/main.rs",
            "config.json",
            "docs/build.md",
            "github/x",
            "a.rs",
        ] {
            assert_eq!(class_of(path), Class::Ordinary, "{path}");
        }
    }
}
