// Who the visitor is to the store: nobody, or a random name that they chose to be remembered by.

import { ask, userPath } from "./api.js";

const STORED = "kindling.visitor";

export const visitor = () => localStorage.getItem(STORED);

// getRandomValues works where the page is not served by HTTPS too.
export function makeName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `visitor-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

export const keepName = (id) => localStorage.setItem(STORED, id);

// The same like sent twice is one event; of an id too long to be part of a name it is two.
const named = (id, like) => (id.length + 1 + like.item_id.length <= 512 ? { event_id: `${id}:${like.item_id}` } : {});

export const store = (id, likes, kind) =>
  ask("POST", "v1/events", {
    body: { events: likes.map((like) => ({ ...named(id, like), user_id: id, item_id: like.item_id, event: kind })) },
  });

export const stored = (id) => ask("GET", userPath(id));

// The name is dropped only once the service says that nothing is left under it.
export async function forget(id) {
  await ask("DELETE", userPath(id));
  localStorage.removeItem(STORED);
}
