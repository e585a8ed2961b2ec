// Which page is shown, in which language and colours, and with which key.

import { announce, find } from "./dom.js";
import { catalogue, getKey, setKey, whenRefused } from "./api.js";
import { getLanguage, number, setLanguage, t, translatePage } from "./words.js";
import { showTry } from "./try.js";
import { showNew } from "./newitem.js";
import { showVersions } from "./versions.js";
import { showHealth } from "./health.js";

const PAGES = { try: showTry, new: showNew, versions: showVersions, health: showHealth };
const THEME = "kindling.theme";
let leave = () => {};

function page() {
  const name = location.hash.slice(1);
  return name in PAGES ? name : "try";
}

function show() {
  leave();
  const name = page(), main = find("#main");
  main.replaceChildren();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${t(`nav_${name}`)} – Kindling`;
  leave = PAGES[name](main) || (() => {});
  footer();
}

async function footer() {
  try {
    const { model_version: version, n_items: items } = await catalogue(true);
    find("#served").textContent = t("served", { version, items: number(items) });
  } catch {
    find("#served").textContent = "";
  }
}

function translate() {
  translatePage();
  const button = find("#language");
  button.textContent = t("language");
  button.lang = t("language_code") === "zh" ? "zh-Hans" : "en";
  button.setAttribute("aria-label", `${t("language")} – ${t("language_label")}`);
}

const dark = matchMedia("(prefers-color-scheme: dark)");

function paint() {
  const chosen = localStorage.getItem(THEME);
  const isDark = chosen ? chosen === "dark" : dark.matches;
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  find("#theme").setAttribute("aria-pressed", String(isDark));
}

function askForKey(reason = "") {
  const dialog = find("#key-dialog");
  if (!dialog.open) find("#key-value").value = getKey(); // somebody may be typing
  find("#key-reason").hidden = !reason;
  find("#key-reason").textContent = reason;
  if (!dialog.open) dialog.showModal();
}

find("#language").addEventListener("click", () => {
  setLanguage(getLanguage() === "en" ? "zh" : "en");
  translate();
  show();
});
find("#theme").addEventListener("click", () => {
  localStorage.setItem(THEME, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  paint();
});
dark.addEventListener("change", paint);
find("#key").addEventListener("click", () => askForKey());
find("#key-cancel").addEventListener("click", () => find("#key-dialog").close());
find("#key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(find("#key-value").value.trim());
  find("#key-dialog").close();
  show();
});
find(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  find("#main").focus();
});
whenRefused((detail) => askForKey(`${t("wants_key")} ${detail}`));
addEventListener("hashchange", () => {
  show();
  find("#main").focus();
  announce(t(`nav_${page()}`));
});

paint();
translate();
show();
