// The order of the jobs that wait: a handle on each card, to drag it or to move it with the keys.

import { by, h, icon, put } from "/dom.js";
import { call } from "/session.js";
import { movable, titleText } from "/store.js";
import { number, t } from "/words.js";

const DRAG = 4; // pixels after which a press is a drag
const EDGE = 90; // pixels from the edge of the window in which the page scrolls
const STEP = 40; // pixels that it scrolls in a frame, at most

/**
 * `known` has the jobs and their `order`, `lists()` draws them. `asked` runs a call and shows its refusal, `toast(text)`
 * shows a message.
 */
export class Order {
  constructor({ known, lists, asked, toast }) {
    Object.assign(this, { known, lists, asked, toast });
    this.dragging = null;
    this.last = Promise.resolve();
  }

  /** The jobs that can be moved, in order. */
  get ids() {
    return this.lists().shown().filter(movable).map((job) => job.id);
  }

  /** The number of jobs that wait behind those of this page. */
  get unseen() {
    return Math.max(0, this.known.open - this.lists().shown().length);
  }

  /** The handle of a job's card. */
  grip(job) {
    const grip = h("button", { class: "grip", type: "button", title: t("move.how"), "aria-label": t("move.grip", { name: titleText(job) }), "aria-describedby": "move-how" }, icon("grip"));
    grip.addEventListener("pointerdown", (event) => this.press(event, job.id));
    grip.addEventListener("keydown", (event) => this.key(event, job.id));
    grip.addEventListener("click", () => {
      if (!this.dragged) this.toast(t("move.how"));
      this.dragged = false;
    });
    return grip;
  }

  /** Moves a job with the keys, one press after the other. */
  key(event, id) {
    const how = { ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity }[event.key];
    if (!how || event.ctrlKey || event.metaKey || this.dragging) return;
    event.preventDefault();
    this.last = this.last.then(() => {
      const { ids } = this;
      const at = ids.indexOf(id);
      const end = how === Infinity && this.unseen;
      if (at < 0 || !(ids[at + Math.sign(how)] || end)) return null;
      if (how === -Infinity) return this.move(id, { first: true });
      if (how === Infinity) return this.move(id, { before: null });
      return this.move(id, how < 0 ? { before: ids[at - 1] } : { after: ids[at + 1] });
    });
  }

  /** Moves a job; what the daemon answers is shown. */
  async move(id, where) {
    const answer = await this.asked(() => call("POST", `/console/jobs/${encodeURIComponent(id)}/move`, where));
    const job = this.known.jobs.get(id);
    if (answer && job) {
      job.priority = answer.priority;
      const before = where.first ? this.ids.find((one) => one !== id) : where.before;
      const all = this.lists().shown().map((one) => one.id).filter((one) => one !== id);
      const at = before === null ? all.length : where.after ? all.indexOf(where.after) + 1 || -1 : all.indexOf(before);
      if (at >= 0) { // otherwise the daemon tells the order
        all.splice(at, 0, id);
        this.known.order = new Map(all.map((one, place) => [one, place]));
      }
      this.tell(job, before === null);
    }
    this.lists().draw();
  }

  tell(job, last) {
    const { ids, unseen } = this;
    const count = ids.length + unseen;
    const place = last ? count : ids.indexOf(job.id) + 1;
    const said = t("move.place", { name: titleText(job, ", "), place: number(place), count: number(count) });
    by("told").replaceChildren(h("span", { text: said }));
  }

  // Dragging

  press(event, id) {
    this.dragged = false;
    if (event.button || this.dragging) return;
    const grip = event.currentTarget;
    const card = grip.closest("[data-job]");
    grip.setPointerCapture(event.pointerId);
    const ending = new AbortController();
    const on = (target, kind, what) => target.addEventListener(kind, what, { signal: ending.signal });
    this.dragging = { id, card, grip, ending, from: event.clientY + scrollY, y: event.clientY, to: null, frame: 0 };
    on(grip, "pointermove", (moved) => this.drag(moved.clientY));
    on(grip, "pointerup", () => this.drop(true));
    on(grip, "pointercancel", () => this.drop(false));
    on(window, "keydown", (pressed) => { if (pressed.key === "Escape") this.drop(false); });
    on(window, "scroll", () => this.drag(this.dragging.y));
  }

  drag(y) {
    const now = this.dragging;
    now.y = y;
    const moved = y + scrollY - now.from;
    if (!this.dragged && Math.abs(moved) < DRAG) return;
    this.dragged = true;
    put(now.card, "data-drag", true);
    now.card.style.transform = `translateY(${moved}px)`;
    this.mark();
    now.frame ||= requestAnimationFrame(() => this.scroll());
  }

  /** Scrolls while the pointer is near the edge of the window, the faster the nearer. */
  scroll() {
    const now = this.dragging;
    if (!now) return;
    now.frame = 0;
    const past = Math.min(0, now.y - EDGE) || Math.max(0, now.y - innerHeight + EDGE);
    if (!past) return;
    scrollBy(0, STEP * Math.max(-1, Math.min(1, past / EDGE)));
    now.frame = requestAnimationFrame(() => this.scroll());
  }

  /** Shows where the card would go. */
  mark() {
    const now = this.dragging;
    const roots = [...by("cards").querySelectorAll("[data-job]")];
    const others = roots.filter((root) => root !== now.card && movable(this.known.jobs.get(root.dataset.job) ?? {}));
    const mine = now.card.getBoundingClientRect();
    const edge = now.y + scrollY < now.from ? mine.top : mine.bottom;
    const below = others.find((root) => {
      const box = root.getBoundingClientRect();
      return edge < box.top + box.height / 2;
    });
    now.to = below ? { root: below, edge: "before" } : others.length ? { root: others.at(-1), edge: "after" } : null;
    for (const root of roots) put(root, "data-drop", now.to?.root === root ? now.to.edge : null);
  }

  async drop(done) {
    const now = this.dragging;
    const { id, card, grip, ending, frame } = now;
    ending.abort();
    cancelAnimationFrame(frame);
    if (done && this.dragged) this.mark(); // the job there may have begun since the last movement
    put(now.to?.root ?? card, "data-drop", null);
    try {
      if (done && this.dragged && now.to) await this.place(id, now.to.root.dataset.job, now.to.edge);
    } finally {
      put(card, "data-drag", null);
      card.style.transform = "";
      this.dragging = null;
      this.lists().draw();
      grip.focus({ preventScroll: true });
    }
  }

  /** Moves a job `before` or `after` another one, unless it is there. */
  async place(id, other, edge) {
    const { ids } = this;
    const next = ids[ids.indexOf(other) + (edge === "after" ? 1 : -1)];
    if (next !== id) await this.move(id, { [edge]: other });
  }
}
