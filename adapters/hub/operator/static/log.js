// The hub's latest log lines, by level and text.

import { by, h, put, say, show } from "./dom.js";
import { clock, t } from "./words.js";

const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR"];
const RANK = { TRACE: 0, DEBUG: 0, INFO: 1, SUCCESS: 1, WARNING: 2, ERROR: 3, CRITICAL: 4 };
const MOST = 500;
const LONG = 300;

export function log() {
  const list = by("log");
  const level = by("log-level");
  const filter = by("log-filter");
  const pause = by("log-pause");
  let lines = [];
  let paused = false;
  level.append(...LEVELS.map((name) => h("option", { value: name, text: t(`log.${name}`) })));
  level.value = "INFO";

  const wanted = (line) => (RANK[line.level] ?? 1) >= RANK[level.value] && searched(line).includes(filter.value.trim().toLowerCase());
  const searched = (line) => [line.level, line.stage, line.job, line.text].join(" ").toLowerCase();

  function row(line) {
    const of = [line.stage, line.job].filter(Boolean).join(" ");
    const long = line.text.length > LONG;
    const text = long ? h("details", {}, h("summary", { text: `${line.text.slice(0, LONG)}…` }), h("p", { text: line.text })) : h("span", { text: line.text });
    return h("li", { "data-level": line.level }, h("time", { text: clock(line.at, true) }), h("span", { class: "level", text: line.level }), h("span", { class: "of" }, h("bdi", { text: of })), text);
  }

  function draw() {
    if (paused) return;
    const found = lines.filter(wanted);
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 40;
    list.replaceChildren(...found.map(row));
    if (atEnd) list.scrollTop = list.scrollHeight;
    say(by("log-empty"), found.length ? "" : t("log.none"));
    show(list, found.length > 0);
    show(by("log-empty"), !found.length);
  }

  level.addEventListener("change", draw);
  filter.addEventListener("input", draw);
  pause.addEventListener("click", () => {
    paused = !paused;
    put(pause, "aria-pressed", paused ? "true" : "false");
    say(pause, t(paused ? "log.go" : "log.pause"));
    draw();
  });

  return {
    /** A new connection begins with all lines that the hub keeps. */
    begin() { lines = []; },
    add(more) {
      lines = [...lines, ...more].slice(-MOST);
      draw();
    },
    forget() {
      lines = [];
      list.replaceChildren();
    },
  };
}
