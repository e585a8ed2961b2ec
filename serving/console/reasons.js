// Where a score comes from: its parts, as three kinds, as a bar, and as a temperature.

import { h } from "./dom.js";
import { number, t } from "./words.js";

const WORDS = { "your words": "part_words", "your query": "part_query", "your profile": "part_profile" };
const EVERYONE = {
  "this item's text": "part_text", "what others did": "part_others", popularity: "part_popularity",
  exploration: "part_exploration",
};
const RULE = "rule: ";

export const itemOf = (name) => (name.startsWith("item ") && !(name in EVERYONE) ? name.slice(5) : null);

function kindOf(name) {
  if (name in WORDS) return "words";
  return name in EVERYONE || name.startsWith(RULE) ? "everyone" : "actions";
}

export function nameOf(name, titles) {
  const key = WORDS[name] || EVERYONE[name];
  if (key) return t(key);
  if (name.startsWith(RULE)) return t("part_rule", { name: name.slice(RULE.length) });
  const id = itemOf(name);
  return t("part_item", { title: titles.get(id) || id });
}

function sums(parts) {
  const found = { everyone: 0, words: 0, actions: 0 };
  for (const [name, value] of Object.entries(parts || {})) found[kindOf(name)] += value;
  return found;
}

// Share of what is known of the user that comes from what they do, over the list; null where nothing is known.
export function temperature(items) {
  let words = 0, actions = 0;
  for (const item of items) {
    for (const [name, value] of Object.entries(item.parts || {})) {
      if (kindOf(name) === "words") words += Math.abs(value);
      else if (kindOf(name) === "actions") actions += Math.abs(value);
    }
  }
  return words + actions > 0 ? actions / (words + actions) : null;
}

export function reasonBar(parts) {
  const found = sums(parts);
  const kinds = ["words", "actions", "everyone"].filter((kind) => found[kind] > 0);
  const total = kinds.reduce((sum, kind) => sum + found[kind], 0);
  if (!total) return null;
  const shares = kinds.map((kind) => [kind, (100 * found[kind]) / total]);
  const said = shares.map(([kind, share]) => t("reason_part", { name: t(`part_${kind}`), share: number(share) }));
  return h("div", { class: "reason" },
    h("div", { class: "reason-bar", role: "img", "aria-label": t("reason_bar", { parts: said.join(", ") }) },
      shares.map(([kind, share]) => h("span", { class: `seg ${kind}`, style: { width: `${share}%` } }))),
    h("span", { class: "reason-words", "aria-hidden": "true" },
      shares.filter(([, share]) => share >= 8).map(([kind, share]) =>
        h("span", {}, h("i", { class: `dot ${kind}` }), t("reason_part", { name: t(`part_${kind}`), share: number(share) })))));
}

export function partRows(parts, titles) {
  const rows = Object.entries(parts || {}).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const most = Math.max(...rows.map(([, value]) => Math.abs(value)), 1e-9);
  return h("ul", { class: "parts" }, rows.map(([name, value]) =>
    h("li", {},
      h("span", { class: "part-name" }, nameOf(name, titles)),
      h("span", { class: "part-track", "aria-hidden": "true" },
        h("span", { class: `seg ${kindOf(name)}${value < 0 ? " against" : ""}`, style: { width: `${(100 * Math.abs(value)) / most}%` } })),
      h("span", { class: "part-value" }, `${value < 0 ? "−" : "+"}${number(Math.abs(value), 3)}`))));
}
