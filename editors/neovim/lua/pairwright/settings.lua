---@meta
-- Settings of the server. Written by scripts/settings.lua from editors/settings.schema.json.

---@class pairwright.Settings
---@field agent? pairwright.Settings.agent Tasks that a model carries out with tools.
---@field complete? pairwright.Settings.complete Ghost text.
---@field index? pairwright.Settings.index The repository index, which finds the code a model is shown.
---@field local? pairwright.Settings.local The embedded completion engine, which learns from the workspace and needs no model.
---@field log? pairwright.Settings.log The server's log.
---@field mcp? pairwright.Settings.mcp Tools of other programs, for tasks.
---@field models? pairwright.Settings.models The models Pairwright may ask. Without any, everything runs on this machine.
---@field network? pairwright.Settings.network How to reach the network, for model endpoints and MCP servers only.
---@field outbound? pairwright.Settings.outbound What is looked at before it is sent to a model.
---@field sandbox? pairwright.Settings.sandbox Where the commands of tasks run.
---@field workspace? pairwright.Settings.workspace Which folders may set anything or have their code run.

---@class pairwright.Settings.agent
---@field startup? table<string, string[]> Programs whose output tasks are shown when they begin, by a title of yours: what the last runs of CI came to, say, or which issues are meant for agents. Each is a program and its arguments, run without a shell in the task's folder, if that is trusted; 4 KiB and 10 seconds are its limits, and a task begins without one that fails. The first eight by title are asked.
---@field worktree? boolean Whether tasks that change something work on a branch of their own, `agent/<task>`, in a git working tree beside yours: your files stay as they are, and what a task changes is committed there instead of being proposed as hunks. Where a task is started, it can be said otherwise.

---@class pairwright.Settings.complete
---@field deadlineMs? integer Milliseconds after the request at which the best answer so far is given. Late is wrong: a model that needs longer is replaced by the embedded engine for that keystroke.
---@field debounceMs? integer Milliseconds to wait for the next keystroke before a model is asked; the deadline counts from their end. Unset: adapts to the typing rhythm, and is zero after a pause.
---@field enabled? boolean Whether ghost text is offered at all.
---@field languages? table<string, boolean> Switches ghost text per language id, for example `{ "markdown": false }`. Languages not named here are on.
---@field maxLines? integer Most lines of one suggestion.
---@field nextEdit? boolean Whether, after an edit, the edit that follows from it elsewhere is proposed: a renamed name, a call whose arguments changed, or what the model of `models.edit` says.

---@class pairwright.Settings.index
---@field enabled? boolean Whether the workspace is indexed, in the user's cache directory. Without it a model is shown open files only.

---@class pairwright.Settings.local
---@field enabled? boolean Whether the embedded engine learns and answers.
---@field memoryMb? integer Most memory the engine may hold, in MiB. When the workspace needs more, the files nearest to the open ones are learnt.

---@class pairwright.Settings.log
---@field file? string The log file. Unset: `pairwright.log` in the state directory.
---@field level? 'off'|'error'|'warn'|'info'|'debug'|'trace' How much is logged.

---@class pairwright.Settings.mcp
---@field servers? table<string, pairwright.Settings.mcp.servers> Servers that offer tools by the Model Context Protocol, by a name you give them (letters, digits, `-` and `_`). A task knows their tools as `mcp__<name>__<tool>`; each call is asked for unless your rules say otherwise. From your own settings alone, never from a workspace.

---@class pairwright.Settings.mcp.servers
---@field apiKeyEnv? string The environment variable that holds the server's key, sent as `Authorization: Bearer …`.
---@field args? string[] Arguments of the program.
---@field command? string The program to start for each task, run without a shell and in your home directory. Set this or `url`.
---@field env? table<string, string> Environment variables for the program. It gets no others of yours than those a login has (`PATH`, `HOME`, …) and those named in `passEnv`.
---@field headers? table<string, string> Further headers to send to it. Put keys in the environment instead.
---@field passEnv? string[] Names of your environment variables that the program is handed, keys for example.
---@field startupSeconds? integer Seconds until it must have told its tools; a task goes on without it then.
---@field url? string The address of a server that speaks streamable HTTP.

---@class pairwright.Settings.models
---@field agent? pairwright.Settings.models.agent The model that carries out tasks. Unset: the one of chat.
---@field agentFallbacks? pairwright.Settings.models.agentFallbacks[] The same for tasks. Unset, and without `models.agent`: those of chat.
---@field chat? pairwright.Settings.models.chat The model that answers in chat. Unset: questions are answered with the best places of the repository, by search alone.
---@field chatFallbacks? pairwright.Settings.models.chatFallbacks[] Models that answer in chat when the one of `models.chat` cannot be reached, fails or limits requests for longer than is waited; in this order.
---@field complete? pairwright.Settings.models.complete The model that writes ghost text. Unset: the embedded engine alone.
---@field edit? pairwright.Settings.models.edit The model that proposes the next edit where the user's last one does not say it by itself; a quick one. It is asked at each pause in typing, with parts of the open files. Unset: only what repeats the last edit is proposed.
---@field embed? pairwright.Settings.models.embed The model that turns code and questions into vectors for search: any endpoint that answers `POST /embeddings` as OpenAI does. It is sent every indexed piece of the workspace once; `api`, `template`, `stop` and `logitBias` mean nothing here. Unset: embedded vectors, on this machine.

---@class pairwright.Settings.models.agent
---@field api? 'openai'|'anthropic'|'ollama' The dialect the endpoint speaks: `openai` (/chat/completions, which most servers have), `anthropic` (/messages) or `ollama` (/api/chat).
---@field apiKeyCommand? string[] A command whose output is the API key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds the API key.
---@field contextTokens? integer Tokens the model can read and write in one request. Unset: 128000 for `openai`, 200000 for `anthropic`, 16384 for `ollama`, which takes memory for all of them.
---@field headers? table<string, string> Further headers to send, for gateways that want them. Put keys in the environment instead.
---@field http? '1.1'|'auto'|'h2c' HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS, by prior knowledge) or `1.1`.
---@field model? string The model's name, as the endpoint knows it.
---@field prices? pairwright.Settings.models.agent.prices What the model costs, for budgets and reports. Unset: what the server says, if it does.
---@field thinkingTokens? integer Tokens the model may think before it answers, where the dialect can say so (`anthropic`; for `ollama` 0 switches thinking off). Unset: as the server likes.
---@field url? string The endpoint's base URL, for example `http://localhost:11434` or `https://api.example.com/v1`.

---@class pairwright.Settings.models.agent.prices
---@field cached? number Tokens read from the server's cache. Unset: a tenth of `input`.
---@field input? number Tokens read.
---@field output? number Tokens written.

---@class pairwright.Settings.models.agentFallbacks
---@field api? 'openai'|'anthropic'|'ollama' The dialect the endpoint speaks: `openai` (/chat/completions, which most servers have), `anthropic` (/messages) or `ollama` (/api/chat).
---@field apiKeyCommand? string[] A command whose output is the API key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds the API key.
---@field contextTokens? integer Tokens the model can read and write in one request. Unset: 128000 for `openai`, 200000 for `anthropic`, 16384 for `ollama`, which takes memory for all of them.
---@field headers? table<string, string> Further headers to send, for gateways that want them. Put keys in the environment instead.
---@field http? '1.1'|'auto'|'h2c' HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS, by prior knowledge) or `1.1`.
---@field model? string The model's name, as the endpoint knows it.
---@field prices? pairwright.Settings.models.agentFallbacks.prices What the model costs, for budgets and reports. Unset: what the server says, if it does.
---@field thinkingTokens? integer Tokens the model may think before it answers, where the dialect can say so (`anthropic`; for `ollama` 0 switches thinking off). Unset: as the server likes.
---@field url? string The endpoint's base URL, for example `http://localhost:11434` or `https://api.example.com/v1`.

---@class pairwright.Settings.models.agentFallbacks.prices
---@field cached? number Tokens read from the server's cache. Unset: a tenth of `input`.
---@field input? number Tokens read.
---@field output? number Tokens written.

---@class pairwright.Settings.models.chat
---@field api? 'openai'|'anthropic'|'ollama' The dialect the endpoint speaks: `openai` (/chat/completions, which most servers have), `anthropic` (/messages) or `ollama` (/api/chat).
---@field apiKeyCommand? string[] A command whose output is the API key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds the API key.
---@field contextTokens? integer Tokens the model can read and write in one request. Unset: 128000 for `openai`, 200000 for `anthropic`, 16384 for `ollama`, which takes memory for all of them.
---@field headers? table<string, string> Further headers to send, for gateways that want them. Put keys in the environment instead.
---@field http? '1.1'|'auto'|'h2c' HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS, by prior knowledge) or `1.1`.
---@field model? string The model's name, as the endpoint knows it.
---@field prices? pairwright.Settings.models.chat.prices What the model costs, for budgets and reports. Unset: what the server says, if it does.
---@field thinkingTokens? integer Tokens the model may think before it answers, where the dialect can say so (`anthropic`; for `ollama` 0 switches thinking off). Unset: as the server likes.
---@field url? string The endpoint's base URL, for example `http://localhost:11434` or `https://api.example.com/v1`.

---@class pairwright.Settings.models.chat.prices
---@field cached? number Tokens read from the server's cache. Unset: a tenth of `input`.
---@field input? number Tokens read.
---@field output? number Tokens written.

---@class pairwright.Settings.models.chatFallbacks
---@field api? 'openai'|'anthropic'|'ollama' The dialect the endpoint speaks: `openai` (/chat/completions, which most servers have), `anthropic` (/messages) or `ollama` (/api/chat).
---@field apiKeyCommand? string[] A command whose output is the API key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds the API key.
---@field contextTokens? integer Tokens the model can read and write in one request. Unset: 128000 for `openai`, 200000 for `anthropic`, 16384 for `ollama`, which takes memory for all of them.
---@field headers? table<string, string> Further headers to send, for gateways that want them. Put keys in the environment instead.
---@field http? '1.1'|'auto'|'h2c' HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS, by prior knowledge) or `1.1`.
---@field model? string The model's name, as the endpoint knows it.
---@field prices? pairwright.Settings.models.chatFallbacks.prices What the model costs, for budgets and reports. Unset: what the server says, if it does.
---@field thinkingTokens? integer Tokens the model may think before it answers, where the dialect can say so (`anthropic`; for `ollama` 0 switches thinking off). Unset: as the server likes.
---@field url? string The endpoint's base URL, for example `http://localhost:11434` or `https://api.example.com/v1`.

---@class pairwright.Settings.models.chatFallbacks.prices
---@field cached? number Tokens read from the server's cache. Unset: a tenth of `input`.
---@field input? number Tokens read.
---@field output? number Tokens written.

---@class pairwright.Settings.models.complete
---@field api? 'openai'|'fim'|'llamacpp'|'ollama'|'mistral'|'deepseek' The dialect the endpoint speaks: `openai` (completions with a suffix), `fim` (completions with the model family's own fill-in-the-middle tokens), `llamacpp` (/infill), `ollama` (/api/generate), `mistral` or `deepseek`.
---@field apiKeyCommand? string[] A command whose output is the API key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds the API key.
---@field headers? table<string, string> Further headers to send, for gateways that want them. Put keys in the environment instead.
---@field http? '1.1'|'auto'|'h2c' HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS, by prior knowledge) or `1.1`.
---@field logitBias? table<string, number> How much likelier (up to 100) or less likely (down to -100) the model is to write a token, by the token's number, for example `{ "50256" = -100 }`. Told to servers of the dialects `openai`, `fim` and `llamacpp`.
---@field model? string The model's name, as the endpoint knows it.
---@field stop? string[] Texts that end a suggestion, besides the model family's own end tokens: for tokens that a model leaks into its text.
---@field template? string Fill-in-the-middle template to use instead of the one found by the model's name.
---@field url? string The endpoint's base URL, for example `http://localhost:8080` or `https://api.example.com/v1`.

---@class pairwright.Settings.models.edit
---@field api? 'openai'|'anthropic'|'ollama' The dialect the endpoint speaks: `openai` (/chat/completions, which most servers have), `anthropic` (/messages) or `ollama` (/api/chat).
---@field apiKeyCommand? string[] A command whose output is the API key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds the API key.
---@field contextTokens? integer Tokens the model can read and write in one request. Unset: 128000 for `openai`, 200000 for `anthropic`, 16384 for `ollama`, which takes memory for all of them.
---@field headers? table<string, string> Further headers to send, for gateways that want them. Put keys in the environment instead.
---@field http? '1.1'|'auto'|'h2c' HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS, by prior knowledge) or `1.1`.
---@field model? string The model's name, as the endpoint knows it.
---@field prices? pairwright.Settings.models.edit.prices What the model costs, for budgets and reports. Unset: what the server says, if it does.
---@field thinkingTokens? integer Tokens the model may think before it answers, where the dialect can say so (`anthropic`; for `ollama` 0 switches thinking off). Unset: as the server likes.
---@field url? string The endpoint's base URL, for example `http://localhost:11434` or `https://api.example.com/v1`.

---@class pairwright.Settings.models.edit.prices
---@field cached? number Tokens read from the server's cache. Unset: a tenth of `input`.
---@field input? number Tokens read.
---@field output? number Tokens written.

---@class pairwright.Settings.models.embed
---@field api? 'openai'|'fim'|'llamacpp'|'ollama'|'mistral'|'deepseek' The dialect the endpoint speaks: `openai` (completions with a suffix), `fim` (completions with the model family's own fill-in-the-middle tokens), `llamacpp` (/infill), `ollama` (/api/generate), `mistral` or `deepseek`.
---@field apiKeyCommand? string[] A command whose output is the API key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds the API key.
---@field headers? table<string, string> Further headers to send, for gateways that want them. Put keys in the environment instead.
---@field http? '1.1'|'auto'|'h2c' HTTP version: `auto` (HTTP/2 where TLS negotiates it, else 1.1), `h2c` (HTTP/2 without TLS, by prior knowledge) or `1.1`.
---@field logitBias? table<string, number> How much likelier (up to 100) or less likely (down to -100) the model is to write a token, by the token's number, for example `{ "50256" = -100 }`. Told to servers of the dialects `openai`, `fim` and `llamacpp`.
---@field model? string The model's name, as the endpoint knows it.
---@field stop? string[] Texts that end a suggestion, besides the model family's own end tokens: for tokens that a model leaks into its text.
---@field template? string Fill-in-the-middle template to use instead of the one found by the model's name.
---@field url? string The endpoint's base URL, for example `http://localhost:8080` or `https://api.example.com/v1`.

---@class pairwright.Settings.network
---@field caCertificates? string[] Files with further certificate authorities to trust, in PEM form: for models, and for the service that `sandbox.remote` names.
---@field proxy? string Proxy for model endpoints, for example `http://proxy:3128`. Unset: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` of the environment.

---@class pairwright.Settings.outbound
---@field apiKeyCommand? string[] A command whose output is the service's key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds the service's key.
---@field command? string[] A program and its arguments, run without a shell in your home directory for each request. It gets the request as JSON on its standard input and where it is to go in `PAIRWRIGHT_DESTINATION`. Only if it ends with 0 the request is sent; the first line it prints is the reason otherwise.
---@field except? string[] Hosts of models that are sent requests unseen, for example your own.
---@field patterns? string[] Regular expressions. A request with a text in which one of them is found is not sent.
---@field timeoutMs? integer Milliseconds that the program and the service each have.
---@field url? string The address of a service that is asked (`POST`, the request as JSON, with where it is to go in the header `Pairwright-Destination`). Only if it answers `{"allow": true}` the request is sent; `{"allow": false, "reason": "…"}` says why not.

---@class pairwright.Settings.sandbox
---@field kernel? string The kernel of virtual machines, where there is none in /boot; its modules are looked for beside it.
---@field minIsolation? 'landlock'|'namespace'|'gvisor'|'vm-emulated'|'vm' The weakest sandbox of this machine that commands may run in: `namespace` (shares this machine's kernel), `gvisor` (gVisor's kernel between), `vm-emulated` (a virtual machine, slow, no hardware boundary) or `vm` (one that the processor separates). The strongest that starts here is taken, an emulated one only where it is demanded; where none is as strong as this, no command runs. `landlock` accepts, where users may make no namespaces, a restricted process without a network: it shares this machine's kernel, processes and other state, and works in a copy of the folder.
---@field qemu? string QEMU, for virtual machines, where it is not on the search path.
---@field remote? pairwright.Settings.sandbox.remote A service that makes sandboxes elsewhere, by E2B's protocol. Set: all commands of tasks run there, in a copy of the folder without git's files, ignored files and files of secrets.
---@field runsc? string gVisor's `runsc`, where it is not on the search path. One that is not there is not used.

---@class pairwright.Settings.sandbox.remote
---@field addressing? 'header'|'subdomain'|'path' How requests name the sandbox they are for: `header`, `subdomain` (of the URL's host) or `path`. Unset: `subdomain` where the URL's host begins with `api.`, else `header`.
---@field apiKeyCommand? string[] A command whose output is its key: the program and its arguments, run without a shell in your home directory.
---@field apiKeyEnv? string The environment variable that holds its key.
---@field template? string The template that sandboxes are made of. It needs a shell, tar, GNU find and what the project's commands need.
---@field url? string Its base URL, for example `https://api.example.com`, or that of `pairwright sandboxd` on a Linux machine.

---@class pairwright.Settings.workspace
---@field trusted? string[] Folders that are trusted, with all below them, and no others: nobody is asked then. Unset: those that you trusted when you were asked, or by `pairwright trust`. In others `.pairwright.toml` is not read, and tasks look and plan without changing or running anything.
