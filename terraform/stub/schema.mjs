// Reads the schema of an AWS provider out of the npm package @cdktf/provider-aws, which was generated from it.
//
// usage: node schema.mjs PACKAGE_FOLDER resource:aws_vpc data:aws_partition ... > schema.json
// The answer has the form of `terraform providers schema -json`. The generated TypeScript, which the package carries inside
// its source maps, says of every argument whether it is computed, optional or required; of every block whether it repeats.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

const SCALARS = { String: "string", Number: "number", Boolean: "bool" };

function source(folder) {
  const script = readFileSync(join(folder, "index.js"), "utf8");
  const map = script.slice(script.lastIndexOf("base64,") + 7).trim();
  return JSON.parse(Buffer.from(map, "base64").toString("utf8")).sourcesContent[0];
}

/** Every `{ ... }` that follows a heading at the margin of the file, by the heading's first group. */
function bodies(text, heading) {
  const found = new Map();
  for (const match of text.matchAll(heading)) {
    found.set(match[1], text.slice(match.index + match[0].length, text.indexOf("\n}", match.index)));
  }
  return found;
}

class Source {
  constructor(text) {
    this.text = text;
    this.classes = bodies(text, /^export class (\w+) extends .*\{$/gm);
    this.interfaces = bodies(text, /^export interface (\w+)(?: extends .*)? \{$/gm);
    // Argument names, as Terraform writes them, with how the generator renders them.
    this.kinds = new Map();
    for (const [, name, kind] of text.matchAll(/(\w+): \{\s*value: [^\n]*\n\s*isBlock: \w+,\s*type: "(\w+)",/g)) {
      const kinds = this.kinds.get(name) ?? new Set();
      this.kinds.set(name, kinds.add(kind));
    }
  }

  /** The names that the documentation of an interface's members calls blocks. */
  blocks(interfaceName) {
    const body = this.interfaces.get(interfaceName) ?? "";
    return new Set(Array.from(body.matchAll(/^\s*\* (\w+) block$/gm), (match) => match[1]));
  }

  block(className, interfaceName) {
    const body = this.classes.get(className);
    if (body === undefined) throw new Error(`${className} is not in the package`);
    const blocks = this.blocks(interfaceName);
    const attributes = {};
    const block_types = {};
    const flags = /^ *\/\/ (\w+) - computed: (\w+), optional: (\w+), required: (\w+)$/gm;
    const members = Array.from(body.matchAll(flags));
    members.forEach((member, index) => {
      const [, name, computed, optional, required] = member;
      const code = body.slice(member.index, members[index + 1]?.index);
      const given = { computed: computed === "true", optional: optional === "true", required: required === "true" };
      const nested = code.match(/= new (\w+?)(List|Map|OutputReference)\(this, "\w+"(?:, (\w+))?\)/);
      if (nested && !code.includes("new cdktf.")) {
        const [, type, shape, wrapsSet] = nested;
        const nesting = this.nesting(name, shape, wrapsSet);
        const inner = this.block(`${type}OutputReference`, type);
        if (blocks.has(name)) {
          const one = shape === "OutputReference" && nesting !== "single";
          const min_items = given.required && nesting !== "single" ? 1 : 0;
          block_types[name] = { nesting_mode: nesting, block: inner, min_items, max_items: one ? 1 : 0 };
        } else if (given.optional || given.required) {
          attributes[name] = { nested_type: { nesting_mode: nesting, attributes: flat(inner) }, ...given };
        } else {
          attributes[name] = { type: wrap(nesting, object(inner)), ...given };
        }
      } else if (blocks.has(name)) {
        const type = code.match(/private _\w+\?: (\w+)/)[1];
        block_types[name] = { nesting_mode: this.nesting(name), block: this.plain(type), min_items: 0, max_items: 0 };
      } else {
        attributes[name] = { type: this.type(name, code), ...given };
      }
    });
    return { attributes, block_types };
  }

  /** A block of the provider's own, which only an interface describes. */
  plain(interfaceName) {
    const attributes = {};
    const member = /#(\w+)\}\s*\*\/\s*readonly (\w+)(\??): ([^\n]+);/g;
    for (const [, name, , optional, type] of this.interfaces.get(interfaceName).matchAll(member)) {
      attributes[name] = { type: this.written(name, type), computed: false, optional: optional === "?", required: optional === "" };
    }
    return { attributes, block_types: {} };
  }

  nesting(name, shape, wrapsSet) {
    if (shape === "Map") return "map";
    if (shape === "List" && wrapsSet !== undefined) return wrapsSet === "true" ? "set" : "list";
    const kinds = this.kinds.get(name) ?? new Set(["list"]);
    if (kinds.has("struct")) return "single";
    return kinds.has("set") && !kinds.has("list") ? "set" : "list";
  }

  type(name, code) {
    const map = code.match(/new cdktf\.(String|Number|Boolean)Map\(/) ?? code.match(/get(String|Number|Boolean)MapAttribute/);
    if (map) return ["map", SCALARS[map[1]]];
    const list = code.match(/get(|Number)ListAttribute/);
    if (list) return [code.includes("Fn.tolist(") ? "set" : "list", list[1] ? "number" : "string"];
    const scalar = code.match(/get(String|Number|Boolean)Attribute/);
    if (scalar) return SCALARS[scalar[1]];
    return this.written(name, code.match(/private _\w+\?: ([^;]+(?:; \})?)/)?.[1] ?? "any");
  }

  /** A type as TypeScript writes it. */
  written(name, type) {
    const scalar = type.match(/\b(string|number|boolean)\b(?! *\])/g)?.at(-1)?.replace("boolean", "bool");
    if (scalar === undefined) return "dynamic";
    if (type.includes("[key: string]")) return ["map", scalar];
    return type.includes("[]") ? [this.nesting(name), scalar] : scalar;
  }
}

/** A block as the type of a computed attribute. */
function object(block) {
  const types = {};
  for (const [name, { type, nested_type }] of Object.entries(block.attributes)) {
    types[name] = type ?? wrap(nested_type.nesting_mode, object({ attributes: nested_type.attributes, block_types: {} }));
  }
  for (const [name, inner] of Object.entries(block.block_types)) types[name] = wrap(inner.nesting_mode, object(inner.block));
  return ["object", types];
}

function wrap(nesting, type) {
  return nesting === "single" ? type : [nesting, type];
}

/** What is inside an attribute is an attribute, whatever the documentation calls it. */
function flat(block) {
  const blocks = Object.entries(block.block_types).map(([name, inner]) => [
    name,
    { nested_type: { nesting_mode: inner.nesting_mode, attributes: flat(inner.block) }, optional: true },
  ]);
  return { ...block.attributes, ...Object.fromEntries(blocks) };
}

function described(folder) {
  const text = source(folder);
  const className = text.match(/^export class (\w+) extends cdktf\.Terraform(?:Resource|DataSource|Provider) \{$/m)[1];
  return new Source(text).block(className, `${className}Config`);
}

function main([folder, ...wanted]) {
  const lib = join(folder, "lib");
  const answer = { version: null, provider: null, resources: {}, data_sources: {}, unknown: [] };
  answer.provider = described(join(lib, "provider"));
  // The generator's own; Terraform keeps the name for itself.
  delete answer.provider.attributes.alias;
  for (const name of wanted) {
    const [kind, type] = name.split(":");
    const path = type.replace(/^aws_/, "").replaceAll("_", "-");
    const at = join(lib, kind === "data" ? `data-aws-${path}` : path);
    if (!existsSync(at)) {
      answer.unknown.push(type);
      continue;
    }
    answer.version ??= source(at).match(/providerVersion: '([\d.]+)'/)[1];
    answer[kind === "data" ? "data_sources" : "resources"][type] = described(at);
  }
  process.stdout.write(JSON.stringify(answer));
}

main(process.argv.slice(2));
