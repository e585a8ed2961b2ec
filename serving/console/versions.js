// The published versions, how good each is, and which one is in service.

import { announce, find, h } from "./dom.js";
import { ask, catalogue, download } from "./api.js";
import { problemBox } from "./problems.js";
import { number, t } from "./words.js";

const SLICES = ["cold", "all", "text_only", "revealed_3"];
const TRIES = 40, EVERY = 1000;

export function showVersions(main) {
  let isStopped = false;
  const note = h("p", { class: "status", role: "status" }), place = h("div", { class: "versions" });
  const back = h("button", { type: "button", class: "quiet", id: "rollback", hidden: true, onclick: () => confirm(t("rollback_ask"), () => change("v1/admin/versions/rollback")) }, t("rollback"));
  main.append(h("div", { class: "wide-page" }, h("div", { class: "lead" }, h("h1", {}, t("versions_title")), h("p", {}, t("versions_lead"))),
    h("div", { class: "row between" }, note, back), place));

  async function refresh() {
    try {
      const { versions } = await ask("GET", "v1/admin/versions");
      if (isStopped) return;
      back.hidden = versions.length < 2;
      place.replaceChildren(...(versions.length ? versions.map((one) => drawVersion(one, promote)) : [h("p", { class: "empty" }, t("versions_none"))]));
    } catch (error) {
      if (!isStopped) place.replaceChildren(error.status === 404 ? h("p", { class: "empty" }, t("versions_off")) : problemBox(error));
    }
  }

  const promote = (version) => confirm(t("promote_ask", { version }), () => change(`v1/admin/versions/${encodeURIComponent(version)}/promote`), t("promote_text"));

  async function change(path) {
    try {
      const { version } = await ask("POST", path);
      note.textContent = t("waiting", { version });
      await refresh();
      note.textContent = (await follows(version, () => isStopped)) ? t("now_serving", { version }) : t("refused", { version });
      const served = await catalogue(true);
      if (!isStopped) find("#served").textContent = t("served", { version: served.model_version, items: number(served.n_items) });
    } catch (error) {
      note.textContent = "";
      place.prepend(problemBox(error));
    }
  }

  refresh();
  return () => {
    isStopped = true;
  };
}

// Whether the replica that answers has loaded this version.
async function follows(version, isStopped) {
  for (let attempt = 0; attempt < TRIES && !isStopped(); attempt += 1) {
    const ready = await ask("GET", "health/ready").catch(() => ({}));
    if (ready.model_version === version) return true;
    await new Promise((resolve) => setTimeout(resolve, EVERY));
  }
  return false;
}

function confirm(question, act, text = "") {
  const dialog = find("#panel");
  dialog.replaceChildren(h("h2", { id: "panel-title" }, question), text && h("p", {}, text),
    h("div", { class: "row end" },
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, t("cancel")),
      h("button", { type: "button", class: "primary", onclick: () => { dialog.close(); act(); } }, t("yes"))));
  dialog.showModal();
}

function drawVersion(one, promote) {
  const cell = (name, value, small) => h("div", { class: "figure" }, h("span", { class: "figure-value" }, value), h("span", { class: "muted small" }, name), small && h("span", { class: "muted small" }, small));
  const figures = figuresOf(one.metrics).map(({ slice, k, value, baseline }) =>
    cell(t("figures", { k, slice: sliceName(slice) }), number(value, 3), baseline === null ? "" : t("baseline", { value: number(baseline, 3) })));
  const made = one.created_at ? new Date(one.created_at).toLocaleString(document.documentElement.lang) : "";
  return h("article", { class: "surface version", "aria-label": one.version },
    h("div", { class: "row between" },
      h("div", {}, h("h2", { class: "mono" }, one.version), h("p", { class: "muted" }, [made, one.encoder].filter(Boolean).join(" · "))),
      h("div", { class: "row" },
        one.is_current && h("span", { class: "badge hot" }, t("in_service")),
        one.problem && h("span", { class: "badge damaged", title: one.problem }, t("damaged")),
        one.has_report ? h("button", { type: "button", class: "quiet", "aria-label": `${t("report")} ${one.version}`, onclick: () => save(one.version) }, t("report")) : h("span", { class: "muted" }, t("no_report")),
        !one.is_current && !one.problem && h("button", { type: "button", class: "primary", "aria-label": `${t("promote")}: ${one.version}`, onclick: () => promote(one.version) }, t("promote")))),
    one.problem && h("p", { class: "problem" }, one.problem),
    h("div", { class: "figures" }, figures));
}

// The model's NDCG on the slices that say most, beside the best baseline's.
function figuresOf(metrics) {
  const models = metrics.models || {};
  const ours = models.kindling || {};
  const metric = ["ndcg@20", "ndcg@10", ...Object.keys(Object.values(ours)[0] || {}).filter((name) => name.startsWith("ndcg@"))].find((name) => Object.values(ours)[0]?.[name] !== undefined);
  if (!metric) return [];
  return SLICES.filter((slice) => typeof ours[slice]?.[metric] === "number").map((slice) => {
    const others = Object.entries(models).filter(([name]) => name !== "kindling").map(([, slices]) => slices[slice]?.[metric]).filter((value) => typeof value === "number");
    return { slice, k: metric.split("@")[1], value: ours[slice][metric], baseline: others.length ? Math.max(...others) : null };
  });
}

function sliceName(slice) {
  const revealed = /^revealed_(\d+)$/.exec(slice);
  return revealed ? t("slice_revealed", { n: revealed[1] }) : t(`slice_${slice}`);
}

async function save(version) {
  try {
    const blob = await download(`v1/admin/versions/${encodeURIComponent(version)}/report`);
    const url = URL.createObjectURL(blob);
    h("a", { href: url, download: `kindling-${version}.html` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
    announce(t("report"));
  } catch (error) {
    find(".versions").prepend(problemBox(error));
  }
}
