// A description in; its neighbours, and whom it would reach, out.

import { announce, debounce, h } from "./dom.js";
import { ask, catalogue } from "./api.js";
import { lineOf, roles, titleOf } from "./columns.js";
import { openPanel } from "./panel.js";
import { problemBox } from "./problems.js";
import { has, number, t } from "./words.js";

const state = { item: {}, minds: "", withIds: false };
const DEBOUNCE = 700;

export function showNew(main) {
  const answer = h("div", { class: "audience" }), form = h("form", { class: "asking surface", "aria-label": t("new_title") });
  main.append(h("div", { class: "new-page" }, h("div", { class: "lead" }, h("h1", {}, t("new_title")), h("p", {}, t("new_lead"))), form, answer));
  let isStopped = false, abort = null, known = null;

  async function refresh() {
    if (!known) return;
    abort?.abort();
    abort = new AbortController();
    const item = Object.fromEntries(Object.entries(state.item).map(([k, v]) => [k, v.trim()]).filter(([, v]) => v).map(([k, v]) => [k, valueOf(k, v, known)]));
    if (!Object.keys(item).length) {
      answer.replaceChildren(h("p", { class: "empty" }, t("new_empty")));
      return;
    }
    const minds = state.minds.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, known.limits.max_texts);
    const role = roles(known);
    answer.setAttribute("aria-busy", "true");
    try {
      const path = state.withIds ? "v1/admin/items/audience" : "v1/items/audience";
      const found = await ask("POST", path, { body: { item, user_texts: minds, fields: role.fields }, signal: abort.signal });
      if (isStopped) return;
      answer.replaceChildren(...drawAudience(found, minds, role, known));
      announce(t("reach"));
      answer.setAttribute("aria-busy", "false");
    } catch (error) {
      if (error.name === "AbortError" || isStopped) return;
      answer.setAttribute("aria-busy", "false");
      answer.replaceChildren(problemBox(error));
    }
  }

  const later = debounce(refresh, DEBOUNCE);
  catalogue().then((told) => {
    if (isStopped) return;
    known = told;
    drawForm(form, known, later);
    refresh();
  }, (error) => answer.replaceChildren(problemBox(error)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    later.now();
  });
  return () => {
    isStopped = true;
    later.cancel();
    abort?.abort();
  };
}

// A column of lists takes what stands between commas.
function valueOf(name, text, known) {
  const type = known.columns.find((column) => column.name === name)?.type || "";
  return type.includes("list") ? text.split(/[,，、;；]/).map((part) => part.trim()).filter(Boolean) : text;
}

function drawForm(form, known, later) {
  const columns = known.columns.map((column) => column.name);
  const present = known.item_text.filter((name) => columns.includes(name));
  const names = present.length ? present : known.item_text.slice(0, 1);
  const field = (name) => {
    const id = `field-${name}`, isLong = name === "description";
    const hint = has(`new_hint_${name}`) ? t(`new_hint_${name}`) : "";
    const attributes = { id, placeholder: hint, autocomplete: "off", maxlength: known.limits.max_text_chars, oninput: (event) => { state.item[name] = event.target.value; later(); } };
    const element = isLong ? h("textarea", { ...attributes, rows: 4 }) : h("input", { ...attributes, type: "text" });
    element.value = state.item[name] || "";
    return [h("label", { for: id }, has(`f_${name}`) ? t(`f_${name}`) : t("f_other", { name })), element];
  };
  const minds = h("textarea", { id: "minds", rows: 3, placeholder: t("whom_hint"), "aria-describedby": "minds-note", oninput: (event) => { state.minds = event.target.value; later(); } });
  minds.value = state.minds;
  const ids = h("input", { type: "checkbox", id: "with-ids", onchange: (event) => { state.withIds = event.target.checked; later.now(); } });
  ids.checked = state.withIds;
  form.append(h("div", {}, names.map(field)),
    h("label", { for: "minds" }, t("whom")), minds, h("p", { class: "muted small", id: "minds-note" }, t("whom_note")),
    h("div", { class: "row one" }, ids, h("label", { for: "with-ids" }, t("with_ids"))),
    h("button", { type: "submit", class: "primary" }, t("find_out")));
}

function drawAudience(found, minds, role, known) {
  const far = known.limits.max_n, titles = new Map();
  const most = Math.max(...found.reach.map((one) => one.share), 0.01);
  const reach = h("section", { class: "surface" }, h("h2", {}, t("reach")),
    found.reach.length
      ? [h("p", { class: "muted" }, t("reach_text", { n: number(found.n_users) })),
        h("ul", { class: "parts" }, found.reach.map(({ n, share }) => h("li", {},
          h("span", { class: "part-name" }, t("reach_at", { n: number(n) })),
          h("span", { class: "part-track", "aria-hidden": "true" }, h("span", { class: "seg actions", style: { width: `${(100 * share) / most}%` } })),
          h("span", { class: "part-value" }, `${number(100 * share, share < 0.1 ? 1 : 0)} %`)))),
        h("p", {}, found.median_rank === null ? t("median_far", { n: number(far) }) : t("median", { n: number(found.median_rank) }))]
      : h("p", { class: "muted" }, t("reach_few")));
  const interests = h("section", { class: "surface" }, h("h2", {}, t("interests")),
    found.interests.length
      ? h("ul", { class: "plain" }, found.interests.map((one) => h("li", {}, h("strong", {}, one.value), h("br"),
        h("span", { class: "muted" }, t("interests_text", { share: number(100 * one.share), typical: number(100 * one.typical_share) })))))
      : h("p", { class: "muted" }, t("interests_none")));
  const people = minds.length > 0 && h("section", { class: "surface" }, h("h2", {}, t("minds")),
    h("ul", { class: "plain" }, minds.map((mind, place) => {
      const { rank } = found.user_texts[place];
      return h("li", { class: "row between" }, h("q", {}, mind), h("strong", { class: "nowrap" }, rank === null ? t("mind_far", { n: number(far) }) : t("mind_rank", { n: number(rank) })));
    })));
  const users = found.users && h("section", { class: "surface" }, h("h2", {}, t("reached_users")),
    found.users.length
      ? h("ul", { class: "plain" }, found.users.map((one) => h("li", { class: "row between" }, h("code", {}, one.user_id), h("span", {}, t("mind_rank", { n: number(one.rank) })))))
      : h("p", { class: "muted" }, t("no_users")));
  const nearest = h("section", { class: "surface" }, h("h2", {}, t("neighbours")),
    h("ul", { class: "plain" }, found.nearest.map((one) => h("li", { class: "row between" },
      h("div", {}, h("button", { type: "button", class: "link", onclick: () => openPanel(one, role, titles, null) }, titleOf(one, role)), h("p", { class: "muted line" }, lineOf(one, role))),
      h("span", { class: "muted nowrap" }, t("similarity", { share: number(100 * one.score) }))))));
  return [h("div", { class: "stack" }, reach, interests, users), h("div", { class: "stack" }, people, nearest)];
}
