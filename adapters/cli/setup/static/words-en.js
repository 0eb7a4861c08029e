// The texts of the set-up page in English.

export const EN = {
  "title": "wakestream is not set up on this machine yet",
  "join.title": "Join a hub",
  "join.text": "The owner of the hub gives you its address and a code, with wakestream invite client.",
  "join.label": "Paste the address and the code",
  "join.go": "Join",
  "join.going": "Joining…",
  "demo.title": "Try the demo",
  "demo.text": "Everything runs on this machine, with a simulated GPU. Run this in a terminal:",
  "read.title": "How it is set up",
  "read.how": "on a small server\n  wakestream init hub --public https://hub.example:8765\n  wakestream init monitor --gpu studio --power NAME --machine ID\n  wakestream up\non the GPU machine\n  wakestream join hub.example:8765 CODE --gpu studio\non this PC\n  wakestream join hub.example:8765 CODE\nall on one machine\n  wakestream up\nmore\n  wakestream help COMMAND\n  wakestream doctor",
  "done.title": "This machine has joined the hub",
  "done.text": "The console opens in a new tab, and you can close this one. If it does not open, run this in a terminal:",
  "wrong.unauthorized": "This page is of an earlier start. Close it, and run wakestream daemon --open again.",
  "wrong.gone": "The program does not answer. Run wakestream daemon --open again in a terminal.",
};
