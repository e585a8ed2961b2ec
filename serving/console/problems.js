// What went wrong, where the reader is.

import { h } from "./dom.js";
import { t } from "./words.js";

export function problemText(error) {
  if (error.status === 0) return t("not_reached");
  if (error.status === 401) return t("wants_key");
  if (error.status === 403) return `${t("lacks_scope")} ${error.message}`;
  return error.message;
}

export const problemBox = (error) => h("p", { class: "problem", role: "alert" }, problemText(error));
