// The history: ended jobs, newest first. A search finds all jobs by file, kind, state and date.

import { costOf } from "/costs.js";
import { Details } from "/details.js";
import { button, by, h, put, say, show, titled } from "/dom.js";
import { kindLine, kindNames } from "/kinds.js";
import { picture, thumb } from "/previews.js";
import { made as results, showWord } from "/results.js";
import { chooser } from "/select.js";
import { todo, why } from "/sentences.js";
import { call } from "/session.js";
import { begin, canRemake, stateOf, STATES, title, titleText } from "/store.js";
import { bytes, duration, moment, number, t } from "/words.js";

const PAGE = 12;
const MOST = 1000;
// Ms.
const APART = 1000;

/** The list and its search. `acts` are the actions of its buttons; jobs of `known` are listed only in searches. */
export function past(acts, known) {
  let shown = PAGE;
  let turn = 0;
  let timer = 0;
  let pending = 0;
  let last = -Infinity;
  const search = by("past-search");

  async function ask() {
    const mine = ++turn;
    last = performance.now();
    const text = search.value.trim();
    const above = new Set(text ? [] : [...known.jobs.values()].filter((job) => job.outcome).map((job) => job.id));
    const query = new URLSearchParams({ text: asked(text), limit: String(Math.min(MOST, shown + above.size)), skip: "0" });
    try {
      const found = await call("GET", `/console/history?${query}`);
      const jobs = found.jobs.filter((job) => !above.has(job.id));
      const hidden = found.jobs.length - jobs.length;
      if (mine === turn) draw(jobs.slice(0, shown).map((card) => (card.outcome ? begin(card) : known.jobs.get(card.id) ?? begin(card))), found.matching - hidden, text, above.size);
    } catch { /* the next state asks again */ }
  }

  function draw(jobs, matching, text, above) {
    const list = by("past");
    // A search finds these jobs too.
    show(by("recent"), !text);
    const known = new Map([...list.children].map((row) => [row.dataset.job, row]));
    // Unchanged rows keep their elements, and with them the keyboard focus. A replaced row passes it on.
    const focus = document.activeElement;
    const held = focus?.closest("#past > li");
    const rows = jobs.map((job) => {
      const row = known.get(job.id);
      return row && row.dataset.mark === mark(job, acts) ? row : made(job, acts, row?.details);
    });
    for (const row of [...list.children]) if (!rows.includes(row)) row.remove();
    rows.forEach((row, at) => { if (list.children[at] !== row) list.insertBefore(row, list.children[at] ?? null); });
    if (held && focus !== document.activeElement) {
      // Of details that moved.
      if (focus.isConnected) focus.focus({ preventScroll: true });
      else reach(rows.find((row) => row.dataset.job === held.dataset.job));
    }
    say(by("past-empty"), text ? t(matching ? "past.found" : "past.nothing", { text, count: number(matching) }) : matching || above ? "" : t("past.empty"));
    const more = by("past-more");
    const next = more === document.activeElement ? rows[known.size] : null;
    show(more, matching > jobs.length && shown < MOST);
    if (more.hidden) reach(next);
  }

  /** Moves the keyboard focus to a row: to the first button of what can be done with it, or to the row itself. */
  function reach(row) {
    if (!row) return;
    row.tabIndex = -1;
    (row.querySelector(".past-tools button") ?? row).focus({ preventScroll: true });
  }

  search.addEventListener("input", () => {
    shown = PAGE;
    soon(150);
  });
  by("past-more").addEventListener("click", () => {
    shown = Math.min(MOST, shown * 3);
    ask();
  });

  function soon(delay) {
    clearTimeout(timer);
    timer = setTimeout(ask, delay);
  }

  return {
    /** Asks for the list after a change; at most once a second, since thousands of jobs may end one after the other. */
    refresh() {
      pending ||= setTimeout(() => {
        pending = 0;
        ask();
      }, Math.max(60, last + APART - performance.now()));
    },
  };
}

/** The search text, with the daemon's words for states, kinds and days. */
function asked(text) {
  const day = (ago) => {
    const date = new Date();
    date.setDate(date.getDate() - ago);
    return [date.getFullYear(), date.getMonth() + 1, date.getDate()].map((part) => String(part).padStart(2, "0")).join("-");
  };
  const words = new Map([[t("day.today"), day(0)], [t("day.yesterday"), day(1)], ["today", day(0)], ["yesterday", day(1)], ...STATES.map((state) => [t(`state.${state}`), state === "open" ? "running" : state]), ...kindNames()]);
  const longest = [...words].sort(([one], [other]) => other.length - one.length);
  return longest.reduce((said, [word, ours]) => said.replaceAll(` ${word.toLowerCase()} `, ` ${ours} `), ` ${text.toLowerCase()} `).trim();
}

/** The parts of a row that may change: its time gets a date at midnight. */
const mark = (job, acts) => `${stateOf(job)} ${job.result ? job.result.here : ""} ${costOf(job.id)} ${moment(job.ended_at ?? job.accepted_at)} ${acts.undo.of(job.id) ? "soon" : ""}`;

/** A row; `more` are the details of the row that it replaces, which stay open. */
function made(job, acts, more = new Details(acts.asked)) {
  const state = stateOf(job);
  const here = job.result && job.result.here;
  const tools = h("span", { class: "past-tools" });
  const word = here && showWord(job);
  if (word) tools.append(labelled(button("", word === "card.play" ? "play" : "eye", () => acts.open(job), "quiet icon"), word, job));
  if (here && results(job).length === 1) tools.append(labelled(button("", "down", () => acts.download(job), "quiet icon"), "card.download", job));
  const soon = acts.undo.of(job.id);
  if (soon) tools.append(labelled(button(t("undo"), "", () => acts.undo.undo(job.id)), "undo", job));
  else if (here && job.result.ours) tools.append(labelled(button("", "bin", () => acts.remove(job), "quiet icon"), "card.remove", job));
  if (!job.outcome && !soon) tools.append(labelled(button("", "close", () => acts.cancel(job), "quiet icon"), "card.cancel", job));
  else if (job.outcome && state !== "done") tools.append(labelled(button("", "again", () => acts.retry(job), "quiet icon"), "card.retry", job));
  else if (canRemake(job) && !soon) tools.append(labelled(button("", "again", () => acts.another(job), "quiet icon"), "card.another", job));
  const name = h("span", { class: "past-title" }, ...titled(...title(job)));
  const said = soon ? t(`undo.soon.${soon.act}`, { time: duration(soon.left) }) : state === "done" ? (here ? [...(kindLine(job) ? [kindLine(job)] : []), bytes(job.result.size), ...(job.outcome.reused ? [t("past.reused")] : [])].join("  ·  ") : t("card.gone")) : job.outcome || job.last ? why(job) : kindLine(job);
  const note = [said, costOf(job.id)].filter(Boolean).join("  ·  ");
  more.update(job);
  const text = h("div", { class: "past-text" }, name, h("span", { class: "past-note", title: note }, h("span", { text: note }), " ", h("span", { class: "todo", text: todo(job) })), more.root);
  const place = thumb();
  show(place, picture(place, job));
  const row = h("li", { class: "past-row", "data-state": state, "data-job": job.id }, chooser(job.id, titleText(job)), h("span", { class: "pill small", text: t(`state.${state}`) }), place, text, h("time", { class: "when", text: moment(job.ended_at ?? job.accepted_at) }), tools);
  put(row, "data-mark", mark(job, acts));
  return Object.assign(row, { details: more });
}

function labelled(element, key, job) {
  put(element, "aria-label", `${t(key)}: ${titleText(job)}`);
  put(element, "title", t(key));
  return element;
}
