// The texts of the set-up page in Chinese.

export const ZH = {
  "title": "本机还没有设置 wakestream",
  "join.title": "加入服务器",
  "join.text": "服务器的所有者用 wakestream invite client 给出地址和配对码。",
  "join.label": "粘贴地址和配对码",
  "join.go": "加入",
  "join.going": "正在加入…",
  "demo.title": "试用演示",
  "demo.text": "全部在本机运行，GPU 是模拟的。在终端运行：",
  "read.title": "如何设置",
  "read.how": "在小服务器上\n  wakestream init hub --public https://hub.example:8765\n  wakestream init monitor --gpu studio --power NAME --machine ID\n  wakestream up\n在 GPU 主机上\n  wakestream join hub.example:8765 CODE --gpu studio\n在这台电脑上\n  wakestream join hub.example:8765 CODE\n全部在一台机器上\n  wakestream up\n更多\n  wakestream help COMMAND\n  wakestream doctor",
  "done.title": "本机已加入服务器",
  "done.text": "控制台会在新标签页打开，此页可以关闭。如果没有打开，在终端运行：",
  "wrong.unauthorized": "此页面属于上一次启动。请关闭，再次运行 wakestream daemon --open。",
  "wrong.gone": "程序没有回应。请在终端再次运行 wakestream daemon --open。",
};
