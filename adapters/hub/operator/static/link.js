// The connection to the hub: login, the hub's news, and calls. The session stays in this tab.

const KEY = "wakestream.operator";
const SILENCE = 25000;
const SOON = 400;

let socket = null;
let asked = new Map();
let last = 0;

/** A call that the hub refused; `message` says why. */
export class Refusal extends Error {}

export const session = () => sessionStorage.getItem(KEY);

/**
 * Connects once. `first` is the first message, or null to learn only what `hello` says. Calls `hear(message)` for each
 * message; resolves when the connection has ended.
 */
function connect(first, hear) {
  return new Promise((done) => {
    const address = new URL("live", location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const mine = new WebSocket(address);
    let timer = 0;
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(() => end(), SILENCE); // a dead connection may take minutes to close
    };
    const end = () => {
      if (mine.ended) return;
      mine.ended = true;
      clearTimeout(timer);
      mine.close();
      if (socket === mine) socket = null;
      for (const { refuse } of asked.values()) refuse(new TypeError("no connection"));
      asked = new Map();
      done();
    };
    mine.onopen = alive;
    mine.onclose = end;
    mine.onmessage = (event) => {
      alive();
      const message = JSON.parse(event.data);
      if (message.type === "hello") {
        hear(message);
        if (!first || !message.secure) return end();
        socket = mine;
        return mine.send(JSON.stringify(first));
      }
      if (message.type === "answer") return answer(message);
      hear(message);
    };
    alive();
  });
}

function answer({ id, value, error }) {
  const call = asked.get(id);
  asked.delete(id);
  if (error === undefined) call?.done(value);
  else call?.refuse(new Refusal(error));
}

/** Asks the hub to do something. Throws `Refusal`, or `TypeError` without a connection. */
export function call(name, given = {}) {
  return new Promise((done, refuse) => {
    if (!socket || socket.readyState !== WebSocket.OPEN) return refuse(new TypeError("no connection"));
    last += 1;
    asked.set(last, { done, refuse });
    socket.send(JSON.stringify({ type: "call", id: last, name, with: given }));
  });
}

/** Ends the session. */
export function leave() {
  sessionStorage.removeItem(KEY);
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ type: "leave" }));
}

/** What `hello` says, or null if the hub does not answer. */
export async function knock() {
  let found = null;
  await connect(null, (message) => { found = message; });
  return found;
}

/**
 * Follows the hub, with a key or with the session of this tab, and reconnects until the session has ended. Calls
 * `hear(message)` and `linked("up" | "down")`; resolves with the refusal, or null after `leave`.
 */
export async function follow({ key, hear, linked }) {
  let first = key ? { type: "login", key } : { type: "enter", session: session() };
  let wait = SOON;
  for (;;) {
    let refused = null;
    let entered = false;
    await connect(first, (message) => {
      if (message.type === "refused") refused = message;
      if (message.type === "welcome") {
        sessionStorage.setItem(KEY, message.session);
        first = { type: "enter", session: message.session };
        wait = SOON;
        entered = true;
        linked("up");
      }
      hear(message);
    });
    if (refused && refused.code !== "too_many_pages") {
      sessionStorage.removeItem(KEY);
      return refused;
    }
    if (refused) return refused;
    if (first.type === "enter" && !session()) return null;
    if (first.type === "login" && !entered) return { code: "no_hub" };
    if (wait > SOON) linked("down"); // a reconnect within a moment is not shown
    await new Promise((go) => setTimeout(go, wait * (0.75 + Math.random() / 2)));
    wait = Math.min(wait * 1.6, 4000);
  }
}
