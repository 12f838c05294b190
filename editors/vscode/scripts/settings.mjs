// Writes the server's settings into package.json from editors/settings.schema.json.
// With --check it writes nothing and fails when package.json is not what it would write.
import { readFileSync, writeFileSync } from 'node:fs';

const file = new URL('../package.json', import.meta.url);
const schema = JSON.parse(readFileSync(new URL('../../settings.schema.json', import.meta.url)));
const manifest = JSON.parse(readFileSync(file));

/** Settings that name a program, a host, a file or a key: no workspace has a say in them, trusted or
 * not, as none has in the server's own files. */
const OWN = /^(agent\.startup|mcp|models|network|outbound|sandbox|workspace|log\.file)/;

/** Leaves of the schema, by dotted name. */
function* leaves(node, path) {
  const object = node.properties ?? node.anyOf?.find((one) => one.properties)?.properties;
  if (!object) {
    yield [path, node];
    return;
  }
  for (const [key, inner] of Object.entries(object)) {
    yield* leaves(inner, path === '' ? key : `${path}.${key}`);
  }
}

/** The editor's settings page knows neither `oneOf` nor `format`. */
function property(leaf) {
  const { description = '', oneOf, anyOf, ...rest } = leaf;
  delete rest.format;
  const choices = (oneOf ?? anyOf?.find((one) => one.oneOf)?.oneOf ?? []).filter((one) => one.const);
  const out = { ...rest, markdownDescription: description.replaceAll('\n', ' ') };
  const enumeration = choices.length > 0 ? choices.map((one) => one.const) : anyOf?.find((one) => one.enum)?.enum;
  if (enumeration) {
    out.type = anyOf ? ['string', 'null'] : 'string';
    out.enum = anyOf ? [...enumeration, null] : enumeration;
  }
  out.default ??= null;
  return out;
}

const properties = {
  'pairwright.server.path': {
    type: ['string', 'null'],
    default: null,
    scope: 'machine-overridable',
    markdownDescription:
      'The program to start. Unset: `pairwright` on `PATH`, else the one that came with the extension.',
  },
};
for (const [path, leaf] of leaves(schema, '')) {
  const scope = OWN.test(path) ? { scope: 'machine' } : {};
  properties[`pairwright.${path}`] = { ...property(leaf), ...scope };
}
manifest.contributes.configuration = { title: 'Pairwright', properties };
// A second lock: their scope already keeps a workspace from setting all but the path.
manifest.capabilities.untrustedWorkspaces.restrictedConfigurations = Object.keys(properties).filter(
  (name) => name === 'pairwright.server.path' || OWN.test(name.slice('pairwright.'.length)),
);

const text = `${JSON.stringify(manifest, null, 2)}\n`;
if (process.argv.includes('--check')) {
  if (readFileSync(file, 'utf8') !== text) {
    console.error('package.json is not what the schema says; run npm run settings');
    process.exit(1);
  }
} else {
  writeFileSync(file, text);
}
