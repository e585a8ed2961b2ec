// The documented /v1 API and nothing else, with the key that was pasted, if one was.

const ROOT = new URL("../", import.meta.url);
const KEY = "kindling.key";

export class Problem extends Error {
  constructor(status, title, detail) {
    super(detail || title);
    this.status = status;
    this.title = title;
  }
}

export const getKey = () => sessionStorage.getItem(KEY) || "";

export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

let onRefused = () => {};
export const whenRefused = (action) => {
  onRefused = action;
};

async function send(method, path, { body, signal } = {}) {
  const headers = {};
  const key = getKey();
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method, headers, signal, credentials: "omit", body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "unreachable", "");
  }
  if (response.ok) return response;
  let problem = {};
  try {
    problem = await response.json();
  } catch {
    // what stands before the service answers in plain text
  }
  // what was asked before another key was given is no reason to ask for one again
  if (response.status === 401 && key === getKey()) onRefused(problem.detail || "");
  throw new Problem(response.status, problem.title || response.statusText, problem.detail || "");
}

export const ask = async (method, path, options) => (await send(method, path, options)).json();
export const read = async (path, options) => (await send("GET", path, options)).text();
export const download = async (path) => (await send("GET", path)).blob();
export const itemPath = (id, rest = "") => `v1/items/${encodeURIComponent(id)}${rest}`;
export const userPath = (id) => `v1/users/${encodeURIComponent(id)}`;

let known = null;
// What can be asked, once for each version.
export async function catalogue(again = false) {
  if (!known || again) known = ask("GET", "v1/catalogue").catch((error) => {
    known = null;
    throw error;
  });
  return known;
}
