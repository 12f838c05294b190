/**
 * Markdown of a model or of a file, as HTML that does nothing by itself.
 *
 * Holds: no tag comes from the text, only from Markdown; nothing is loaded, pictures among it; a
 * link goes nowhere, it names in `data-to` what the extension is asked to open. The page's security
 * policy stands behind that.
 */
import MarkdownIt from 'markdown-it';

/** A fenced block, as it stands in the text with the line above it, which may be a path. */
export interface Block {
  source: string;
  code: string;
}

export interface Rendered {
  html: string;
  /** By the number in `data-block` of their buttons. */
  blocks: Block[];
}

/** Buttons that a block has. */
export interface Offers {
  review: boolean;
}

/** What a rendering knows besides its tokens. */
type Env = {
  lines: string[];
  blocks: Block[];
  offers: Offers | undefined;
};

const markdown = new MarkdownIt('default', { html: false, linkify: false, typographer: false });
// A picture would be fetched; its text stays, behind an exclamation mark, as a link.
markdown.disable('image');
// Relative ones are paths of the workspace. Everything else, `javascript:` and `data:` among it, is text.
markdown.validateLink = (to) => /^(https?:\/\/|file:\/\/\/)/i.test(to) || !/^[\s\p{C}]*[^/?#]*:/u.test(to);

const { rules } = markdown.renderer;
const escape = markdown.utils.escapeHtml;

rules['link_open'] = (tokens, at) => {
  const to = String(tokens[at]?.attrGet('href') ?? '');
  return `<a href="#" data-to="${escape(to)}" title="${escape(to)}">`;
};

rules['fence'] = rules['code_block'] = (tokens, at, _options, env) => {
  const token = tokens[at];
  const { lines, blocks, offers } = env as unknown as Env;
  const [first, end] = token?.map ?? [0, 0];
  const above = lines[first - 1] ?? '';
  const source = [...(above.trim() === '' ? [] : [above]), ...lines.slice(first, end)].join('\n');
  const code = token?.content ?? '';
  const language = token?.info.trim().split(/\s+/)[0] ?? '';
  const block = blocks.push({ source: `${source}\n`, code }) - 1;
  const button = (what: string, title: string): string =>
    `<button type="button" data-block="${block}" data-do="${what}">${title}</button>`;
  const review = offers?.review === true ? button('review', 'Review as hunks') : '';
  const buttons = offers ? `${review}${button('copy', 'Copy')}` : '';
  const bar = `<div class="bar"><span>${escape(language)}</span>${buttons}</div>`;
  return `<div class="code">${bar}<pre tabindex="0"><code>${escape(code)}</code></pre></div>\n`;
};

/** Renders a text; its blocks have buttons where `offers` is given. */
export function render(text: string, offers?: Offers): Rendered {
  const env: Env = { lines: text.split('\n'), blocks: [], offers };
  return { html: markdown.render(text, env), blocks: env.blocks };
}
