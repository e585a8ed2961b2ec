// Words and likes in, a list out that follows them.

import { announce, debounce, find, h } from "./dom.js";
import { ask, catalogue } from "./api.js";
import { lineOf, roles, titleOf } from "./columns.js";
import { RankedList } from "./list.js";
import { openPanel } from "./panel.js";
import { problemBox } from "./problems.js";
import { reasonBar, temperature } from "./reasons.js";
import { number, t } from "./words.js";
import * as people from "./visitor.js";

const PAGE = 12, DEBOUNCE = 250, CHIPS = 7;
// outlives a change of page or language, not a reload
const state = { who: "", want: "", likes: [], categories: new Set(), n: PAGE, isRemembered: Boolean(people.visitor()), titles: new Map() };

export function showTry(main) {
  const view = new TryView(main);
  view.start();
  return () => view.stop();
}

class TryView {
  constructor(main) {
    this.number = 0;
    this.later = debounce(() => this.refresh(), DEBOUNCE);
    this.ol = h("ol", { class: "list", id: "results" });
    this.list = new RankedList(this.ol, (card, item, move) => this.draw(card, item, move));
    this.status = h("p", { class: "muted status" }, t("loading"));
    this.gauge = h("div", { class: "gauge" });
    this.chips = h("div", {});
    this.likes = h("div", { id: "likes" });
    this.memory = h("div", { class: "memory" });
    this.problem = h("div", {});
    this.heading = h("h2", {}, t("results"));
    this.more = h("button", { type: "button", class: "quiet wide", hidden: true, onclick: () => { state.n += PAGE; this.refresh(); } }, t("more"));
    main.append(this.layout());
    this.isFirst = true;
  }

  layout() {
    const input = (key, id, rows) => {
      const change = (event) => { state[key] = event.target.value; state.n = PAGE; this.later(); };
      const enter = (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); this.later.now(); } };
      const attributes = { id, placeholder: t(`${key}_hint`), maxlength: 4000, autocomplete: "off", oninput: change, onkeydown: enter };
      const element = rows ? h("textarea", { ...attributes, rows }) : h("input", { ...attributes, type: "text" });
      element.value = state[key];
      return [h("label", { for: id }, t(key)), element];
    };
    return h("div", { class: "try" },
      h("div", { class: "lead" }, h("h1", {}, t("try_title")), h("p", {}, t("try_lead"))),
      h("form", { class: "asking surface", "aria-label": t("try_title"), onsubmit: (event) => event.preventDefault() },
        input("who", "who", 3), input("want", "want", 0),
        h("div", { class: "examples" }, h("span", { class: "muted" }, t("examples")),
          ["ex1", "ex2", "ex3"].map((key) => h("button", { type: "button", class: "chip", onclick: () => this.example(t(key)) }, t(key)))),
        this.chips, this.likes, this.memory),
      h("section", { class: "results", "aria-labelledby": "results-title" },
        this.gauge,
        h("div", { class: "row between" }, Object.assign(this.heading, { id: "results-title" }), this.status),
        this.problem, this.ol, this.more));
  }

  async start() {
    try {
      this.known = await catalogue();
      this.role = roles(this.known);
      this.like = "like" in this.known.events ? "like" : null;
      if (state.isRemembered) await this.recall();
    } catch (error) {
      this.fail(error);
      return;
    }
    if (this.isStopped) return;
    this.drawChips();
    this.drawLikes();
    this.refresh();
  }

  stop() {
    this.isStopped = true;
    this.later.cancel();
    this.abort?.abort();
  }

  example(text) {
    state.who = find("#who").value = text;
    state.n = PAGE;
    this.refresh();
  }

  request() {
    const body = { n: Math.min(state.n, this.known.limits.max_n), explain: true, fields: this.role.fields };
    if (state.who.trim()) body.user_text = state.who.trim();
    if (state.want.trim()) body.query = state.want.trim();
    if (state.categories.size) body.filter = { [this.role.category.name]: [...state.categories] };
    if (state.isRemembered) body.user_id = people.visitor();
    else if (state.likes.length) body.events = state.likes.slice(-this.known.limits.max_events).map((like) => ({ item_id: like.item_id, ...(this.like ? { event: this.like } : {}) }));
    return body;
  }

  // Only the answer to the latest question is shown, whichever comes last.
  async refresh(spoken = "") {
    if (!this.known) return;
    this.later.cancel();
    this.abort?.abort();
    this.abort = new AbortController();
    const number = ++this.number;
    this.ol.setAttribute("aria-busy", "true");
    try {
      const answer = await ask("POST", "v1/recommend", { body: this.request(), signal: this.abort.signal });
      if (number !== this.number || this.isStopped) return;
      this.problem.replaceChildren();
      this.showAnswer(answer, spoken);
    } catch (error) {
      if (error.name !== "AbortError" && number === this.number && !this.isStopped) this.fail(error);
    } finally {
      if (number === this.number) this.ol.setAttribute("aria-busy", "false");
    }
  }

  fail(error) {
    this.status.textContent = "";
    this.problem.replaceChildren(problemBox(error));
  }

  showAnswer({ items }, spoken) {
    for (const item of items) state.titles.set(item.item_id, titleOf(item, this.role));
    const moves = this.list.update(items, { isFirst: this.isFirst });
    const hasMoved = moves.entered + moves.rose + moves.fell > 0;
    const said = this.isFirst ? t("count", { n: number(items.length) }) : hasMoved ? t("changes", moves) : t("unchanged");
    this.isFirst = false;
    this.status.textContent = items.length ? said : "";
    announce(`${spoken} ${items.length ? said : t("empty")}`.trim());
    this.heading.textContent = t(items[0]?.source === "fallback" ? "results_popular" : "results");
    this.problem.replaceChildren(...(items.length ? [] : [h("p", { class: "empty" }, t("empty"))]));
    this.more.hidden = items.length < state.n || state.n >= this.known.limits.max_n;
    this.drawGauge(temperature(items));
  }

  draw(card, item, move) {
    const title = titleOf(item, this.role);
    card.replaceChildren(
      h("div", { class: "place" }, h("span", { class: "unseen" }, t("rank", { n: item.rank })), h("span", { class: "rank", "aria-hidden": "true" }, String(item.rank)),
        move && h("span", { class: `move ${move.kind}` }, h("span", { "aria-hidden": "true" }, move.sign), h("span", { class: "unseen" }, move.text))),
      h("div", { class: "body" },
        h("h3", {}, title), h("p", { class: "muted line" }, lineOf(item, this.role)),
        h("div", { class: "row" }, h("span", { class: `badge ${item.source}` }, t(`source_${item.source}`)), reasonBar(item.parts))),
      h("div", { class: "actions" },
        h("button", { type: "button", class: "heart", "data-role": "like", "aria-label": t("like", { title }), onclick: () => this.likeIt(item) }, "♥"),
        h("button", { type: "button", class: "quiet small", "data-role": "why", "aria-label": t("why_of", { title }), onclick: () => openPanel(item, this.role, state.titles, (one) => this.likeIt(one)) }, t("why"))));
  }

  async likeIt(item) {
    const like = { item_id: item.item_id, title: titleOf(item, this.role) };
    if (state.likes.some((one) => one.item_id === like.item_id)) return;
    try {
      if (state.isRemembered) await people.store(people.visitor(), [like], this.like);
    } catch (error) {
      this.fail(error);
      return;
    }
    state.likes.push(like);
    this.drawLikes();
    this.refresh(t("liked_one", { title: like.title }));
  }

  drawGauge(share) {
    const at = share === null ? 0 : Math.round(100 * share);
    const stage = ["stage_cold", "stage_warming", "stage_warm", "stage_hot"][share === null || at < 1 ? 0 : at < 50 ? 1 : at < 85 ? 2 : 3];
    const said = share === null ? t("temperature_none") : t("temperature_text", { words: 100 - at, actions: at });
    if (!this.gauge.firstChild) {
      this.needle = h("span", { class: "needle", style: { left: "0%" } });
      this.meter = h("div", { class: "scale", role: "meter", "aria-label": t("temperature"), "aria-valuemin": 0, "aria-valuemax": 100 }, this.needle);
      this.gaugeText = h("p", { class: "gauge-text" });
      this.gauge.append(h("div", { class: "gauge-line" }, h("span", { class: "cold" }, t("cold")), this.meter, h("span", { class: "hot" }, t("hot"))), this.gaugeText);
    }
    this.meter.setAttribute("aria-valuenow", at);
    this.meter.setAttribute("aria-valuetext", said);
    this.meter.classList.toggle("none", share === null);
    this.needle.style.left = `${at}%`;
    this.gaugeText.replaceChildren(h("strong", {}, share === null ? "" : t(stage)), " ", said);
  }

  drawChips() {
    if (!this.role.category) return;
    const name = this.role.category.name, values = Object.keys(this.role.category.values);
    const shown = [...new Set([...state.categories, ...values])].slice(0, Math.max(CHIPS, state.categories.size));
    const toggle = (value) => {
      if (state.categories.has(value)) state.categories.delete(value);
      else state.categories.add(value);
      state.n = PAGE;
      this.drawChips();
      [...this.chips.querySelectorAll(".chip")].find((chip) => chip.textContent === value)?.focus();
      this.refresh();
    };
    const rest = values.filter((value) => !shown.includes(value)).sort((a, b) => a.localeCompare(b));
    this.chips.replaceChildren(h("fieldset", { class: "filter" }, h("legend", {}, t("category")),
      shown.map((value) => h("button", { type: "button", class: "chip", "aria-pressed": String(state.categories.has(value)), onclick: () => toggle(value) }, value)),
      rest.length > 0 && h("select", { class: "chip", "aria-label": `${t("more_categories")} (${name})`, onchange: (event) => event.target.value && toggle(event.target.value) },
        h("option", { value: "" }, t("more_categories")), rest.map((value) => h("option", { value }, value)))));
  }

  drawLikes() {
    const remove = (like) => {
      state.likes = state.likes.filter((one) => one !== like);
      this.drawLikes();
      this.refresh();
      (this.likes.querySelector("button") || find("#who")).focus();
    };
    this.likes.replaceChildren(...(state.likes.length ? [h("fieldset", { class: "filter" }, h("legend", {}, t("liked")),
      state.likes.map((like) => h("span", { class: "chip liked" }, h("span", {}, like.title),
        !state.isRemembered && h("button", { type: "button", "aria-label": t("unlike", { title: like.title }), onclick: () => remove(like) }, "×"))),
      !state.isRemembered && h("button", { type: "button", class: "link", onclick: () => { state.likes = []; this.drawLikes(); this.refresh(); find("#who").focus(); } }, t("start_over")))] : []));
    this.drawMemory();
  }

  drawMemory() {
    const box = h("input", { type: "checkbox", id: "remember", disabled: state.isRemembered, "aria-describedby": "remember-hint", onchange: () => this.remember() });
    box.checked = state.isRemembered;
    this.memory.replaceChildren(
      h("div", { class: "row" }, box, h("label", { for: "remember" }, t("remember")),
        state.isRemembered && h("button", { type: "button", class: "link", id: "forget", onclick: () => this.forget() }, t("forget"))),
      h("p", { class: "muted small", id: "remember-hint" }, state.isRemembered ? t("remembered_as", { id: people.visitor() }) : t("remember_hint")));
  }

  async remember() {
    try {
      const id = people.makeName();
      if (state.likes.length) await people.store(id, state.likes, this.like);
      people.keepName(id);
      state.isRemembered = true;
    } catch (error) {
      this.fail(error);
    }
    this.drawLikes();
    find(state.isRemembered ? "#forget" : "#remember")?.focus();
  }

  async forget() {
    try {
      await people.forget(people.visitor());
    } catch (error) {
      this.fail(error);
      return;
    }
    state.isRemembered = false;
    state.likes = [];
    this.drawLikes();
    find("#remember").focus();
    this.refresh(t("forgotten"));
  }

  // What the store has of the visitor, after a reload.
  async recall() {
    const { events } = await people.stored(people.visitor());
    const ids = [...new Set(events.map((event) => event.item_id))];
    const unknown = ids.filter((id) => !state.titles.has(id)).slice(-20);
    if (unknown.length) {
      const { items } = await ask("POST", "v1/rank", { body: { item_ids: unknown, fields: this.role.fields } });
      for (const item of items) state.titles.set(item.item_id, titleOf(item, this.role));
    }
    state.likes = ids.map((id) => ({ item_id: id, title: state.titles.get(id) || id }));
  }
}
