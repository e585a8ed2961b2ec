// All about one item: why it is in the list, what is known of it, what is like it.

import { find, h } from "./dom.js";
import { ask, itemPath } from "./api.js";
import { show, titleOf } from "./columns.js";
import { partRows } from "./reasons.js";
import { number, t } from "./words.js";
import { problemBox } from "./problems.js";

const HIDDEN = new Set(["item_id", "text", "is_hidden", "n_interactions", "n_wanted"]);

export function openPanel(item, role, titles, like) {
  const dialog = find("#panel");
  const title = titleOf(item, role);
  const about = h("div", {}), similar = h("div", {});
  const close = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, t("close"));
  dialog.replaceChildren(
    h("div", { class: "panel-head" }, h("h2", { id: "panel-title" }, title), close),
    item.source && h("p", { class: "muted" }, h("span", { class: `badge ${item.source}` }, t(`source_${item.source}`)), " ", t(`source_${item.source}_long`)),
    item.parts && h("section", {}, h("h3", {}, t("why_parts", { score: number(item.score, 3) })), partRows(item.parts, titles)),
    h("section", {}, h("h3", {}, t("why_about")), about),
    h("section", {}, h("h3", {}, t("similar")), similar),
  );
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
  fillAbout(about, item, role);
  fillSimilar(similar, item, role, titles, like);
}

async function fillAbout(place, item, role) {
  try {
    const { fields } = await ask("GET", itemPath(item.item_id));
    const rows = Object.entries(fields).filter(([name, value]) => !HIDDEN.has(name) && name !== role.title && show(value));
    place.replaceChildren(h("dl", { class: "facts" },
      h("dt", {}, "item_id"), h("dd", {}, item.item_id),
      rows.map(([name, value]) => [h("dt", {}, name), h("dd", {}, show(value).slice(0, 600))])));
  } catch (error) {
    place.replaceChildren(problemBox(error));
  }
}

async function fillSimilar(place, item, role, titles, like) {
  try {
    const query = new URLSearchParams({ n: "5" });
    for (const name of role.fields) query.append("fields", name);
    const { items } = await ask("GET", `${itemPath(item.item_id, "/similar")}?${query}`);
    for (const one of items) titles.set(one.item_id, titleOf(one, role));
    if (!items.length) place.replaceChildren(h("p", { class: "muted" }, t("similar_none")));
    else place.replaceChildren(h("ul", { class: "plain" }, items.map((one) =>
      h("li", { class: "row between" },
        h("button", { type: "button", class: "link", onclick: () => openPanel(one, role, titles, like) }, titleOf(one, role)),
        h("span", { class: "muted nowrap" }, t("similarity", { share: number(100 * one.score) })),
        like && h("button", { type: "button", class: "heart", "aria-label": t("like", { title: titleOf(one, role) }), onclick: () => { find("#panel").close(); like(one); } }, "♥")))));
  } catch (error) {
    place.replaceChildren(problemBox(error));
  }
}
