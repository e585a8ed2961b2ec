// A ranked list that is seen to change: what entered, rose and fell, unless the reader wants no motion.

import { h, isStill } from "./dom.js";
import { t } from "./words.js";

const MOVE = { duration: 420, easing: "cubic-bezier(.2,.8,.2,1)" };

export class RankedList {
  constructor(element, draw) {
    this.element = element;
    this.draw = draw;
    this.cards = new Map();
    this.ranks = new Map();
  }

  // Puts the items in place of those there were; says how many entered, rose and fell.
  update(items, { isFirst = false } = {}) {
    const before = new Map([...this.cards].map(([id, card]) => [id, card.getBoundingClientRect()]));
    const place = this.placeOfFocus();
    const moves = { entered: 0, rose: 0, fell: 0 };
    const cards = new Map();
    for (const item of items) {
      const card = this.cards.get(item.item_id) || h("li", { class: "card", "data-id": item.item_id });
      const move = isFirst ? null : this.moved(item, moves);
      this.draw(card, item, move);
      cards.set(item.item_id, card);
    }
    this.element.replaceChildren(...cards.values());
    this.cards = cards;
    this.ranks = new Map(items.map((item) => [item.item_id, item.rank]));
    this.restoreFocus(place);
    if (!isStill()) this.animate(before);
    return moves;
  }

  moved(item, moves) {
    const was = this.ranks.get(item.item_id);
    if (was === undefined) moves.entered += 1;
    else if (item.rank < was) moves.rose += 1;
    else if (item.rank > was) moves.fell += 1;
    else return null;
    if (was === undefined) return { kind: "new", text: t("moved_new"), sign: "✦" };
    const n = Math.abs(item.rank - was);
    return item.rank < was
      ? { kind: "up", text: t("moved_up", { n }), sign: `▲ ${n}` }
      : { kind: "down", text: t("moved_down", { n }), sign: `▼ ${n}` };
  }

  // The card and the button that have the focus, for cards are drawn anew.
  placeOfFocus() {
    const focused = document.activeElement;
    if (!this.element.contains(focused)) return null;
    const card = focused.closest(".card");
    return { id: card.dataset.id, index: [...this.element.children].indexOf(card), role: focused.dataset.role };
  }

  restoreFocus(place) {
    if (!place) return;
    const card = this.cards.get(place.id) || this.element.children[Math.min(place.index, this.element.children.length - 1)];
    card?.querySelector(`[data-role="${place.role}"]`)?.focus({ preventScroll: true });
  }

  animate(before) {
    for (const [id, card] of this.cards) {
      const old = before.get(id);
      if (!old) {
        card.animate([{ opacity: 0, transform: "translateY(14px)" }, { opacity: 1, transform: "none" }], MOVE);
        continue;
      }
      const now = card.getBoundingClientRect();
      const x = old.left - now.left, y = old.top - now.top;
      if (x || y) card.animate([{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }], MOVE);
    }
  }
}
