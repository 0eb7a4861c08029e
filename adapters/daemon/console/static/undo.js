// Actions that can be taken back for some seconds; no dialog asks before them.

import { call } from "/session.js";

export const DELAY = 10;
const AT_ONCE = 400; // ids in a call; the calls of a page that closes may have 64 kB

/** Cancels jobs, or removes their results; the refusals. A page that closes waits for none. */
export async function actOn(act, ids, closing = false) {
  const refused = [];
  for (let at = 0; at < ids.length; at += AT_ONCE) {
    const sent = call("POST", "/console/act", { act, jobs: ids.slice(at, at + AT_ONCE) }, closing);
    if (!closing) refused.push(...(await sent).refused);
  }
  return refused;
}

/**
 * The actions that wait. `shown(text, undo)` shows a message with a button and returns a function that removes it,
 * `changed()` is called when an action begins or ends to wait, and `failed(error)` when it is refused.
 */
export class Undo {
  constructor({ shown, changed, failed }) {
    Object.assign(this, { shown, changed, failed });
    this.waiting = new Map(); // by job
    addEventListener("pagehide", () => { for (const one of new Set(this.waiting.values())) this.run(one, true); });
  }

  /** What will happen to a job, and in how many seconds; null for nothing. */
  of(id) {
    const one = this.waiting.get(id);
    return one ? { act: one.act, left: Math.max(1, Math.ceil((one.until - Date.now()) / 1000)) } : null;
  }

  /** Does `act` (`cancel` or `remove`) to the jobs `ids` after the delay; `done(ids)` is called then. */
  later(act, ids, text, done = () => {}) {
    const fresh = ids.filter((id) => !this.waiting.has(id));
    if (!fresh.length) return;
    const one = { act, ids: fresh, until: Date.now() + 1000 * DELAY, done };
    for (const id of fresh) this.waiting.set(id, one);
    one.hide = this.shown(text, () => this.drop(one));
    one.timer = setTimeout(() => this.run(one), 1000 * DELAY);
    this.changed();
  }

  /** Takes back what waits for a job, with the other jobs of that action. */
  undo(id) {
    if (this.waiting.has(id)) this.drop(this.waiting.get(id));
  }

  drop(one) {
    clearTimeout(one.timer);
    for (const id of one.ids) this.waiting.delete(id);
    one.hide();
    this.changed();
  }

  async run(one, closing = false) {
    this.drop(one);
    try {
      const refused = await actOn(one.act, one.ids, closing);
      if (refused.length) this.failed(refused[0]);
      one.done(one.ids);
    } catch (error) {
      this.failed(error);
    }
  }
}
