// The service's own figures while the page is open.

import { h } from "./dom.js";
import { ask, read } from "./api.js";
import { chart } from "./chart.js";
import { parse, quantile, rate, total } from "./prometheus.js";
import { number, t } from "./words.js";
import { problemText } from "./problems.js";

const EVERY = 2000, KEPT = 150;
// Names of docs/monitoring.md.
const SECONDS = "kindling_request_seconds";
const LISTS = "kindling_lists_total";
const TEXTS = "kindling_encode_texts";
const EVENTS = "kindling_events_total";
const LAG = "kindling_event_lag_seconds";
const BUILT = "kindling_model_built_timestamp_seconds";

const perSecond = (value) => `${number(value, value < 10 ? 1 : 0)}/s`;
const duration = (value) => (value < 1 ? `${number(1000 * value, value < 0.01 ? 1 : 0)} ms` : `${number(value, 1)} s`);
const age = (value) => (value < 3600 ? `${number(value / 60)} min` : value < 172_800 ? `${number(value / 3600, 1)} h` : `${number(value / 86_400, 1)} d`);

// Each chart: its title, how to write a value, and its lines: name, and a value from two readings.
const CHARTS = [
  ["c_requests", perSecond, [["", (a, b, seconds) => rate(a, b, seconds, `${SECONDS}_count`, isAsked)]]],
  ["c_latency", duration, [["half", (a, b) => quantile(a, b, SECONDS, 0.5, isAsked)], ["most", (a, b) => quantile(a, b, SECONDS, 0.95, isAsked)]]],
  ["c_fallback", (value) => `${number(100 * value)} %`, [["", (a, b) => share(rate(a, b, 1, LISTS, isFallback), rate(a, b, 1, LISTS))]]],
  ["c_batch", (value) => number(value, 1), [["", (a, b) => mean(a, b, TEXTS)]]],
  ["c_events", perSecond, [["", (a, b, seconds) => rate(a, b, seconds, EVENTS)]]],
  ["c_lag", duration, [["", (a, b) => mean(a, b, LAG)]]],
  ["c_age", age, [["", (_, b) => since(total(b, BUILT))]]],
];

// this page's own looking does not count
const isAsked = (labels) => !/metrics|health|console/.test(labels.route || "");
const isFallback = (labels) => labels.source === "fallback";
const share = (part, whole) => (part === null || !whole ? null : part / whole);
const mean = (a, b, name) => share(rate(a, b, 1, `${name}_sum`), rate(a, b, 1, `${name}_count`));
const since = (built) => (built ? Math.max(Date.now() / 1000 - built, 0) : null);

// Each replica counts for itself, and any of them may answer: readings are compared with earlier ones of the same.
function replicaOf(samples) {
  for (const found of samples.values()) if (found[0].labels.replica) return found[0].labels.replica;
  return "";
}

function spanOf(readings) {
  const seconds = (Math.max(readings - 1, 0) * EVERY) / 1000;
  return seconds < 120 ? t("seconds", { n: number(seconds) }) : t("minutes", { n: number(seconds / 60) });
}

export function showHealth(main) {
  const series = CHARTS.map(([, , lines]) => lines.map(() => []));
  const charts = h("div", { class: "charts" }), state = h("p", { class: "status", role: "status" });
  const last = new Map();
  let timer = 0, isStopped = false, isPaused = false;
  const pause = h("button", { type: "button", class: "quiet", onclick: () => {
    isPaused = !isPaused;
    pause.textContent = t(isPaused ? "resume" : "pause");
    if (!isPaused) tick();
  } }, t("pause"));
  main.append(h("div", { class: "wide-page" }, h("div", { class: "lead" }, h("h1", {}, t("health_title")), h("p", {}, t("health_lead"))), h("div", { class: "row between" }, state, pause), charts));

  function add(samples, at) {
    const replica = replicaOf(samples), before = last.get(replica);
    CHARTS.forEach(([, , lines], c) => lines.forEach(([, value], l) => {
      const kept = series[c][l];
      kept.push(before ? value(before.samples, samples, (at - before.at) / 1000) : null);
      if (kept.length > KEPT) kept.shift();
    }));
    last.set(replica, { samples, at });
  }

  function draw() {
    charts.replaceChildren(...CHARTS.map(([title, format, lines], c) =>
      chart(t(title), lines.map(([name], l) => ({ name: name && t(name), values: series[c][l] })), format, spanOf(series[c][0].length))));
  }

  async function tick() {
    clearTimeout(timer);
    let said = "", wait = EVERY;
    try {
      const { model_version: version } = await ask("GET", "health/ready");
      said = `${t("health_ready")} · ${version}`;
    } catch (error) {
      said = `${t("health_not")}: ${problemText(error)}`;
    }
    try {
      add(parse(await read("metrics")), performance.now());
    } catch (error) {
      said += ` · ${error.status === 404 ? t("metrics_off") : problemText(error)}`;
      wait = 5 * EVERY;
    }
    if (isStopped) return;
    if (state.textContent !== said) state.textContent = said;
    draw();
    if (!isPaused) timer = setTimeout(tick, wait);
  }

  draw();
  tick();
  return () => {
    isStopped = true;
    clearTimeout(timer);
  };
}
