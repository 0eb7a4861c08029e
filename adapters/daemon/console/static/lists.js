// The list Active and the first part of the history: a card for each job, and one line for many jobs that wait for the same thing.

import { makeCard } from "/cards.js";
import { doneIn } from "/costs.js";
import { by, h, icon, put, say, show } from "/dom.js";
import { etaOf, movable, waitOf, waits } from "/store.js";
import { number, t } from "/words.js";

const MANY = 6; // from here on waiting jobs are shown as rows
const LINES = 20; // from here on each takes one line
const ENDED = 12;
const SHOWN = 200;
const FIRST = 2; // jobs of a group that are always shown
const NEW = 1e9; // jobs that came since the daemon told the order
const FOLDED = 2; // least number of jobs behind a line

/** `known` has the jobs, the number of unfinished ones and the hub's status; `acts` are the actions of the cards. */
export function jobLists(known, acts) {
  const cards = new Map();
  const lines = new Map();
  const opened = new Set();
  const visible = new Set();
  const watch = new IntersectionObserver((found) => {
    for (const { target, isIntersecting } of found) {
      if (!isIntersecting) visible.delete(target.dataset.job);
      else visible.add(target.dataset.job);
    }
  });
  let drawing = 0;
  let started = ""; // the job that the page is to go to when it knows of it

  const place = (job) => known.order.get(job.id) ?? NEW;
  const shown = () => active([...known.jobs.values()]);

  /** The places that the hub gave the jobs, in the user's order, which the hub does not know; and the jobs ahead. */
  function takePlaces(open) {
    const queued = open.filter((job) => waitOf(job) === "gpu" && job.last?.position > 0);
    const places = queued.map((job) => job.last.position).sort((one, other) => one - other);
    queued.forEach((job, at) => { job.place = places[at]; });
    const ahead = {};
    for (const job of open) {
      const { waits: turn } = job.note?.data ?? {};
      if (turn) job.ahead = ahead[turn] ?? 0;
      if (turn) ahead[turn] = job.ahead + 1;
    }
  }

  /** The unfinished jobs that the page shows: those at work, then the waiting ones in turn. */
  function active(jobs) {
    const open = jobs.filter((job) => !job.outcome);
    const key = new Map(open.map((job) => [job.id, Number(waits(job))]));
    open.sort((one, other) => key.get(one.id) - key.get(other.id) || (key.get(one.id) && (other.priority - one.priority || place(one) - place(other))) || one.accepted_at - other.accepted_at);
    return open.slice(0, SHOWN);
  }

  /** What the list shows: jobs, and a line for the rest of each large group. `unseen` jobs are not on this page. */
  function folded(jobs, unseen) {
    const groups = new Map();
    for (const job of jobs) groups.set(waitOf(job), [...(groups.get(waitOf(job)) ?? []), job]);
    const shown = groups.get("") ?? [];
    groups.delete("");
    const last = waitOf(jobs.at(-1) ?? { outcome: {} });
    const found = [...shown];
    for (const [key, group] of groups) {
      const more = group.length - FIRST + (key === last ? unseen : 0);
      if (more < FOLDED) found.push(...group);
      else found.push(...group.slice(0, FIRST), { line: key, more }, ...group.slice(FIRST).filter((job) => opened.has(key) || cards.get(job.id)?.busy));
    }
    return found;
  }

  function line({ line: key, more }) {
    if (!lines.has(key)) {
      const text = h("span");
      const toggle = h("button", { class: "fold", type: "button", onclick: () => turn(key) }, icon("more"), text);
      lines.set(key, { root: h("li", {}, toggle), toggle, text });
    }
    const found = lines.get(key);
    say(found.text, t(`fold.${key}`, { count: number(more) }));
    put(found.toggle, "aria-expanded", String(opened.has(key)));
    return found.root;
  }

  function turn(key) {
    if (!opened.delete(key)) opened.add(key);
    draw();
  }

  function cardOf(job) {
    if (cards.has(job.id)) cards.get(job.id).update(job, known.gpu);
    else {
      cards.set(job.id, makeCard(job, known.gpu, acts));
      watch.observe(cards.get(job.id).root);
    }
    return cards.get(job.id).root;
  }

  function fill(list, roots) {
    const wanted = new Set(roots);
    for (const row of [...list.children]) if (!wanted.has(row) && !row.dataset.job) row.remove();
    roots.forEach((root, at) => {
      if (list.children[at] === root) return;
      const held = root.contains(document.activeElement) ? document.activeElement : null;
      // Between two lists `moveBefore` would leave the styles of the card as they were.
      if (root.parentNode === list && list.moveBefore) list.moveBefore(root, list.children[at] || null);
      else list.insertBefore(root, list.children[at] || null);
      if (held && document.activeElement !== held) held.focus({ preventScroll: true });
    });
  }

  function draw() {
    if (acts.order.dragging) return; // it is drawn at the end of that
    const jobs = [...known.jobs.values()];
    const open = active(jobs);
    takePlaces(open);
    acts.order.many = open.filter(movable).length > 1;
    const ended = jobs.filter((job) => job.outcome).sort((one, other) => other.ended_at - one.ended_at);
    const unseen = Math.max(0, known.open - open.length);
    const rows = folded(open, unseen);
    const shown = new Set([...rows, ...ended].map((job) => job.id));
    put(by("cards"), "data-many", rows.length > MANY || rows.some((each) => each.line));
    put(by("cards"), "data-lines", rows.length > LINES);
    for (const [id, card] of cards) {
      if (shown.has(id)) continue;
      watch.unobserve(card.root);
      card.root.remove();
      cards.delete(id);
      visible.delete(id);
    }
    fill(by("cards"), rows.map((each) => (each.line ? line(each) : cardOf(each))));
    fill(by("recent"), ended.map(cardOf));
    const isFolded = rows.some((each) => each.line && !opened.has(each.line));
    say(by("now-more"), unseen && !isFolded ? t(unseen === 1 ? "now.more.one" : "now.more", { shown: number(open.length), count: number(unseen) }) : "");
    say(by("now-count"), open.length ? number(open.length + unseen) : "");
    say(by("now-done"), open.length > 1 && etaOf(known.gpu, true) ? doneIn() : "");
    show(by("now-empty"), !open.length);
    reach();
  }

  /** Scrolls to the job that was just started, and moves the keyboard focus to it if its button is gone. */
  function reach() {
    if (!known.jobs.has(started)) return;
    const root = cards.get(started)?.root; // none behind a line
    started = "";
    root?.scrollIntoView({ block: "nearest" });
    const at = document.activeElement;
    if (at === document.body || at?.disabled) root?.querySelector("h3").focus({ preventScroll: true });
  }

  /** Draws after a short delay: thousands of jobs may arrive at once. */
  function soon() {
    drawing ||= setTimeout(() => {
      drawing = 0;
      draw();
    }, 20);
  }

  return {
    draw,
    soon,
    /** Goes to a job that was just started, as soon as the page knows of it. */
    goTo(id) {
      started = id;
      soon();
    },
    shown,
    has: (id) => cards.has(id),
    isBusy: (id) => Boolean(cards.get(id)?.busy),
    /** Updates one job, if it has a card. */
    update: (job) => cards.get(job.id)?.update(job, known.gpu),
    /** Updates the cards in view: their texts contain times. */
    tick() {
      for (const id of visible) {
        const job = known.jobs.get(id);
        if (job && (!job.outcome || acts.undo.of(id) || cards.get(id)?.root.hasAttribute("data-soon"))) cards.get(id)?.update(job, known.gpu);
      }
    },
    /** Older ended jobs move into the history, except those in use. */
    letGo() {
      const ended = [...known.jobs.values()].filter((job) => job.outcome).sort((one, other) => other.ended_at - one.ended_at);
      for (const job of ended.slice(ENDED)) if (!cards.get(job.id)?.busy) known.jobs.delete(job.id);
    },
  };
}
