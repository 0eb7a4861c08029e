// One card for each running job, created once and then updated.

import { canRepeat, copyingText, isStuck, missing } from "/copying.js";
import { costOf } from "/costs.js";
import { Details } from "/details.js";
import { button, h, icon, put, say, show, titled } from "/dom.js";
import { kindLine } from "/kinds.js";
import { picture, SoFar, thumb } from "/previews.js";
import { gallery, hush, made, showWord } from "/results.js";
import { chooser } from "/select.js";
import { todo, why } from "/sentences.js";
import { canRemake, movable, pauses, progress, STAGES, stateOf, title, titleText } from "/store.js";
import { bytes, duration, moment, number, percent, t } from "/words.js";

/** A card; `acts` are the actions of its buttons. `update(job, hub)` shows the new state. */
export function makeCard(job, hub, acts) {
  const card = new Card(job, acts);
  card.update(job, hub);
  return card;
}

class Card {
  constructor(job, acts) {
    this.job = job;
    this.acts = acts;
    this.player = null;
    this.title = h("h3", { class: "card-title", id: `job-${job.id}`, tabindex: "-1" });
    this.kind = h("span", { class: "card-kind-text", dir: "auto" });
    this.use = h("button", { class: "link-button", type: "button", text: t("card.use"), "aria-label": `${t("card.use")}: ${titleText(job)}`, onclick: () => acts.use(this.job) });
    this.kindLine = h("p", { class: "card-kind" }, this.kind, this.use);
    this.picture = thumb();
    this.pill = h("span", { class: "pill" });
    this.when = h("span", { class: "when" });
    this.why = h("span");
    this.todo = h("span", { class: "todo" });
    this.detail = new Details(acts.asked);
    this.steps = STAGES.map((stage) => h("li", { class: "step" },
      h("span", { class: "step-bar" }, h("span", { class: "step-fill" })), h("span", { class: "step-name", text: t(`stage.${stage}`) })));
    this.track = h("ol", { class: "track", "aria-label": t("card.stages") }, ...this.steps);
    this.percent = h("span", { class: "big" });
    this.meter = h("div", { class: "meter", role: "progressbar", "aria-valuemin": "0", "aria-valuemax": "100" }, this.percent);
    this.facts = h("p", { class: "facts" });
    this.soFar = new SoFar();
    this.numbers = h("div", { class: "numbers" }, this.meter, this.facts);
    this.cancel = button(t("card.cancel"), "close", () => (acts.undo.of(this.job.id) ? acts.undo.undo(this.job.id) : acts.cancel(this.job)));
    this.retry = button(t("card.retry"), "again", () => (this.job.copying ? acts.again(this.job, []) : canRemake(this.job) ? acts.another(this.job) : acts.retry(this.job)));
    this.play = button(t("card.play"), "play", () => this.toggle(), "main small");
    this.down = button(t("card.download"), "down", () => acts.download(this.job));
    this.bin = button(t("card.remove"), "bin", () => (acts.undo.of(this.job.id) ? acts.undo.undo(this.job.id) : acts.remove(this.job)));
    this.files = h("input", { type: "file", multiple: true, class: "hide", "aria-label": t("copy.choose"), onchange: () => {
      acts.again(this.job, [...this.files.files]);
      this.files.value = "";
    } });
    this.choose = h("label", { class: "button quiet pick", title: t("copy.choose") }, this.files, icon("file"), h("span", { text: t("copy.choose") }));
    this.grip = acts.order.grip(job);
    this.tools = h("div", { class: "card-tools" }, this.choose, this.play, this.down, this.cancel, this.retry, this.bin);
    this.stage = h("div", { class: "stage" });
    this.root = h("li", { class: "panel card", "data-job": job.id, "aria-labelledby": `job-${job.id}` }, this.picture,
      h("div", { class: "card-head" }, chooser(job.id, titleText(job)), this.title, this.pill), this.kindLine, h("p", { class: "card-why" }, this.why, " ", this.todo), this.detail.root, this.track, this.soFar.root,
      h("div", { class: "card-foot" }, this.numbers, this.when, this.tools), this.stage, this.grip);
  }

  /** Shows the state of the job; called every second, since the texts contain times. */
  update(job, hub) {
    this.job = job;
    const held = this.root.contains(document.activeElement) ? document.activeElement : null;
    const ended = Boolean(job.outcome);
    const state = job.copying && isStuck(job) ? "stuck" : stateOf(job);
    put(this.root, "data-state", state);
    put(this.root, "data-row", ended);
    put(this.root, "data-pictured", picture(this.picture, job));
    say(this.pill, t(`state.${state}`));
    const named = [titleText(job), ...job.inputs.map((file) => file.seconds)].join(); // title and lengths may come later
    if (this.titled !== named) this.title.replaceChildren(...titled(...title(job), (at) => lasts(job.inputs[at])).filter(Boolean));
    this.titled = named;
    say(this.kind, kindLine(job));
    put(this.kind, "title", this.kind.textContent);
    show(this.use, Object.keys(job.params).length > 0);
    show(this.kindLine, this.kind.textContent !== "");
    const soon = this.acts.undo.of(job.id);
    put(this.root, "data-soon", Boolean(soon));
    say(this.cancel.lastChild, t(soon ? "undo" : "card.cancel"));
    say(this.bin.lastChild, t(soon ? "undo" : "card.remove"));
    say(this.why, soon ? t(`undo.soon.${soon.act}`, { time: duration(soon.left) }) : job.copying ? copyingText(job) : why(job, hub));
    show(this.choose, Boolean(job.copying) && missing(job).length > 0);
    say(this.todo, soon ? "" : todo(job));
    this.detail.update(job);
    show(this.detail.root, !job.copying);
    const part = ended ? null : progress(job, undefined, hub);
    show(this.track, !ended && !job.copying);
    this.showSteps(job, ended, part);
    this.showNumbers(job, part);
    this.soFar.update(job, this.root);
    say(this.when, when(job));
    const here = Boolean(job.result && job.result.here);
    show(this.cancel, !ended && job.state !== "cancelling");
    show(this.grip, this.acts.order.many && movable(job));
    show(this.retry, ended ? state !== "done" || canRemake(job) : pauses(job) || canRepeat(job));
    say(this.retry.lastChild, t(canRemake(job) ? "card.another" : ended ? "card.retry" : "card.now"));
    show(this.play, here && showWord(job) !== "");
    if (here && !this.player) this.word(t(showWord(job)));
    show(this.down, here && made(job).length === 1);
    show(this.bin, here && job.result.ours);
    if (!here) this.close();
    if (held && held.hidden) this.title.focus({ preventScroll: true }); // keep the keyboard focus at this job
  }

  showSteps(job, ended, part) {
    this.steps.forEach((step, at) => {
      const done = at < job.stage;
      const now = at === job.stage && !ended;
      const state = done ? "done" : now ? "now" : ended && at === job.stage ? "broken" : "later";
      put(step, "data-step", state);
      put(step, "aria-current", now ? "step" : null);
      const fill = step.firstChild.firstChild;
      const known = part && part.part !== null && part.part !== undefined;
      put(step, "data-unknown", now && !known && job.state !== "cancelling");
      fill.style.width = now && known ? `${Math.max(3, 100 * part.part)}%` : "";
    });
  }

  showNumbers(job, part) {
    const known = part && part.value !== null && part.value !== undefined && part.part !== null;
    const told = part ? [...facts(job, part)].join("  ·  ") : "";
    show(this.numbers, Boolean(known) || told !== "");
    show(this.meter, Boolean(known));
    if (known) {
      const text = percent(part.part);
      say(this.percent, text);
      put(this.meter, "aria-valuenow", Math.floor(100 * part.part));
      put(this.meter, "aria-label", t("card.progress", { stage: t(`stage.${STAGES[job.stage]}`), percent: text }));
    }
    say(this.facts, told);
  }

  /** Whether its result is playing, or the keyboard focus is there. */
  get busy() {
    return this.player !== null || this.root.contains(document.activeElement);
  }

  async toggle() {
    if (this.player) return this.close();
    const url = await this.acts.address(this.job);
    if (!url || this.player) return;
    this.player = gallery(this.job, url, (one) => this.acts.download(this.job, one));
    this.stage.append(this.player);
    (this.player.querySelector("video, audio") ?? this.player).focus();
    this.word(t("card.hide"));
  }

  close() {
    if (!this.player) return;
    hush(this.player);
    this.player.remove();
    this.player = null;
    this.word(t(showWord(this.job) || "card.show"));
  }

  word(text) {
    if (this.play.textContent !== text) this.play.replaceChildren(icon(this.player ? "close" : text === t("card.play") ? "play" : "eye"), h("span", { text }));
  }
}

/** The length of a file, if it is known. */
function lasts(file) {
  return file?.seconds ? h("span", { class: "lasts", text: ` ${duration(file.seconds)}` }) : null;
}

function* facts(job, part) {
  if (part.unit === "bytes") {
    yield part.all ? t("card.of", { part: bytes(part.value), all: bytes(part.all) }) : bytes(part.value);
    if (part.rate) yield t("card.rate", { rate: bytes(part.rate) });
  }
  if (part.frames) yield t("card.frame", { frame: number(part.frame || 0), frames: number(part.frames) });
  if (part.waited !== undefined) yield t("card.waited", { time: duration(part.waited) });
  if (job.last.position > 0 && job.stage === 0 && !job.note?.data?.waits) yield t("card.place", { place: number(job.place ?? job.last.position) });
  if (part.left > 0.5 && part.waited === undefined) yield t("card.eta", { left: duration(part.left) });
}

function when(job) {
  const parts = [moment(job.ended_at || job.accepted_at)];
  if (job.ended_at && job.outcome.event === "done") parts.push(t("card.took", { time: duration(job.ended_at - job.accepted_at) }));
  if (job.outcome && costOf(job.id)) parts.push(costOf(job.id));
  if (job.retry_of) parts.push(t("card.retried"));
  return parts.join("  ·  ");
}
