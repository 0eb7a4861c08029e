// The event stream that keeps the page up to date. Each connection starts with the complete state.

import { bearer } from "/session.js";

const SILENCE = 25000;
const HIDDEN = 5000;
const SOON = 300;
const GONE = 5000; // a restart of the program takes less

// Browsers open at most six connections to one server, for all pages together. So two pages have a stream, the others poll.
const STREAMS = ["wakestream.live.1", "wakestream.live.2"];
const ASKING = 2500;
const WATCH = "wakestream.watch";

/** Runs `what(true)` while this page may have a stream, otherwise `what(false)`. */
async function inTurn(what, [name, ...others] = STREAMS) {
  if (!name) return what(false);
  if (!navigator.locks) return what(true);
  return navigator.locks.request(name, { ifAvailable: true }, (lock) => (lock ? what(true) : inTurn(what, others)));
}

/**
 * Follows the daemon until the page closes. Calls `hear(kind, plain)` and `linked("up" | "down" | "gone" | "locked")`, `gone` when the program does not answer; `rows()` is
 * the last known row, `watches()` whether the page must hear of jobs while it is hidden.
 */
export function follow({ hear, linked, rows, watches }) {
  let wait = SOON;
  let stop = null;
  let away = 0;
  let wake = null;

  async function once(stays) {
    stop = new AbortController();
    let timer = 0;
    let open = false;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENCE);
    };
    try {
      alive();
      const response = await fetch(`/console/live?rows=${encodeURIComponent(rows())}${stays ? "" : "&once"}`, {
        headers: bearer(), signal: stop.signal, cache: "no-store", credentials: "omit",
      });
      open = true;
      if (response.status === 401) return "locked";
      if (!response.ok) return "down";
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return stays ? "down" : "asked";
        alive();
        rest += value;
        const parts = rest.split("\n\n");
        rest = parts.pop();
        for (const part of parts) take(part);
      }
    } catch {
      return open ? "down" : "gone";
    } finally {
      clearTimeout(timer);
    }
  }

  function take(part) {
    const found = /^event: (\w+)\ndata: (.*)$/s.exec(part);
    if (!found) return; // a comment, which keeps the connection open
    if (found[1] === "state") {
      wait = SOON;
      linked("up");
    }
    try {
      hear(found[1], JSON.parse(found[2]));
    } catch (error) {
      reportError(error); // an error in the page must not close the connection
    }
  }

  const pause = (ms) => new Promise((go) => {
    wake = go;
    setTimeout(go, ms);
  });

  async function forever() {
    let since = 0;
    for (;;) {
      if (document.hidden && away === -1) {
        await new Promise((go) => { wake = go; });
        continue;
      }
      const how = await inTurn(once);
      since = how === "gone" ? since || Date.now() : 0;
      if (how === "locked") return linked("locked");
      if (how === "asked") {
        await pause(ASKING);
        continue;
      }
      if (away !== -1 && wait > SOON) linked(since && Date.now() - since > GONE ? "gone" : "down"); // a reconnect within a moment is not shown
      await pause(wait * (0.75 + Math.random() / 2));
      wait = Math.min(wait * 1.6, 4000);
    }
  }

  const leave = () => { away = -1; if (stop) stop.abort(); };
  let stay = () => {};

  /** Closes the connection, except of the one hidden page that may stay to notify. */
  function hide() {
    if (!watches() || !navigator.locks) return leave();
    return navigator.locks.request(WATCH, { ifAvailable: true }, (lock) => {
      if (!document.hidden) return null;
      return lock ? new Promise((go) => { stay = go; }) : leave();
    });
  }

  // A hidden page closes its connection after a while: browsers open at most six to one server.
  function look() {
    clearTimeout(away);
    if (document.hidden) {
      away = setTimeout(hide, HIDDEN);
    } else {
      away = 0;
      stay();
      wait = SOON;
      if (wake) wake();
    }
  }
  document.addEventListener("visibilitychange", look);
  look();
  window.addEventListener("online", () => { if (wake) wake(); });
  forever();
}
