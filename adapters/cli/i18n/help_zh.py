"""命令行帮助的简体中文：以英文原句为键，所以两者不会走样。"""

from __future__ import annotations

import argparse
import re

SENTENCES = {
    "Make a GPU that is usually switched off feel always on.": "让平时关机的 GPU 用起来像一直开着。",
    "positional arguments": "参数",
    "options": "选项",
    "commands": "命令",
    "everywhere": "通用",
    "the daemon": "后台程序",
    "the hub": "服务器",
    "the program": "程序",
    "the engine": "引擎",
    "waits": "等待时间",
    "power": "电源",
    "chaos": "扰动",
    "examples:": "示例：",
    # Every command
    "show this help message and exit": "显示此帮助后退出",
    "show the version and exit": "显示版本后退出",
    "show only results and errors": "只显示结果和错误",
    "log everything (--log-level DEBUG)": "记录一切（--log-level DEBUG）",
    "the language (WAKESTREAM_LANG; default: the system's)": "语言（WAKESTREAM_LANG；默认随系统）",
    "DEBUG, INFO (default), WARNING or ERROR (WAKESTREAM_LOG_LEVEL)":
        "DEBUG、INFO（默认）、WARNING 或 ERROR（WAKESTREAM_LOG_LEVEL）",
    "log one JSON object per line (WAKESTREAM_LOG_FORMAT=json)": "日志每行一个 JSON 对象（WAKESTREAM_LOG_FORMAT=json）",
    "exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 timed out, 4 unreachable, 130 interrupted":
        "退出码：0 完成，1 失败，2 用法或设置有误，3 超时，4 无法连接，130 被中断",
    "`wakestream help COMMAND` shows the flags and examples of a command; `wakestream demo` is a good start.":
        "`wakestream help COMMAND` 显示命令的选项和示例；可以从 `wakestream demo` 开始。",
    # What each is for
    "try the whole system on this machine, with a simulated GPU":
        "在本机试用整个系统（模拟 GPU）",
    "submit a video and an audio file, and wait for the result":
        "提交一个视频和一个音频文件，等待结果",
    "run jobs in the background; they survive restarts and lost connections":
        "在后台运行任务；重启或断线后自动继续",
    "print a link that opens the web console": "给出打开网页控制台的链接",
    "list the daemon's jobs": "列出任务",
    "follow one job of the daemon, or all of them": "跟踪一个或全部任务",
    "cancel jobs":
        "取消任务",
    "retry jobs that are paused or have failed":
        "重试已暂停或失败的任务",
    "run the hub: the always-on server that queues jobs and wakes the GPU":
        "运行服务器：一直开着，让任务排队并唤醒 GPU",
    "run the monitor: starts a GPU when a job needs it and stops it when idle":
        "运行监控程序：任务需要时启动 GPU，空闲时关机",
    "run the worker on the GPU machine: receives files and renders":
        "在 GPU 主机上运行：接收文件并合成",
    "issue, import, list, rotate and revoke license keys":
        "签发、导入、列出、更换、吊销许可密钥",
    "list all licenses with their GPUs, last use and permissions":
        "列出全部许可：GPU、最近使用和权限",
    "show the GPUs: state, users and cost": "显示各 GPU 的状态、使用者和费用",
    "explain why a job waits, or why the GPU is on": "说明任务为何等待，或 GPU 为何开着",
    "show how long the GPUs ran, what it cost and what was saved":
        "显示各 GPU 运行多久、费用和节省",
    "check settings, license, hub, monitor, worker, disk and clock":
        "检查设置、许可、服务器、监控程序、GPU 主机、磁盘和时钟",
    "show or follow a log file, by job and level": "按任务和级别显示或跟踪日志文件",
    "replay recorded logs in virtual time, also with other settings or another order":
        "在虚拟时间中重放记录，也可换设置或次序",
    "reduce a failing log to the smallest one that still fails":
        "缩减出错的记录，直到仍会出错的最小部分",
    "copy a log without keys, tokens and passwords": "复制记录，去掉密钥、令牌和密码",
    "print a completion script for your shell":
        "输出让 shell 补全 wakestream 命令和选项的脚本",
    "show the help of a command": "显示某个命令的帮助",
    # demo
    "a video file (default: one is made)": "视频文件（默认自动制作）",
    "an audio file (default: one is made)": "音频文件（默认自动制作）",
    "the first result (default %(default)s)": "第一个结果（默认 %(default)s）",
    "warm-up time of the GPU (default 6)": "GPU 预热多久（默认 6）",
    "record every program's messages into this folder": "把每个程序的消息记录到此文件夹",
    # submit
    "the video file": "视频文件",
    "the audio file to speak": "要说的音频文件",
    "the result file (default VIDEO's name + .synced.mp4)": "结果存放处（默认 VIDEO 的名字 + .synced.mp4）",
    "the worker's address if the hub gives none (HEYGEM_SERVER_URL)":
        "服务器没有指明时的 GPU 主机（HEYGEM_SERVER_URL）",
    "the job's idempotency key (default: a new one)": "任务的幂等键（默认新建）",
    "events as JSON lines on standard output": "在标准输出上以 JSON 行给出事件",
    "plain lines even on a terminal": "在终端上也用普通行",
    "run the job here even if a daemon runs": "在此处运行，即使有后台程序",
    "submit to the daemon, print the job's id and return (needs `wakestream daemon`)":
        "交给后台程序，输出编号后返回（需要 `wakestream daemon`）",
    "priority in the daemon, -100 to 100; higher runs first (default 0)":
        "在后台程序中：-100 到 100，越大越先（默认 0）",
    "do not check that video and audio can be decoded (WAKESTREAM_PROBE=false)":
        "不在本机检查视频和音频能否解码（WAKESTREAM_PROBE=false）",
    "send OpenTelemetry traces; set the OTEL_* variables (WAKESTREAM_TRACE; needs wakestream[otel])":
        "按 OTEL_* 变量发送 OpenTelemetry 跟踪（WAKESTREAM_TRACE；需要 wakestream[otel]）",
    # The hub, the daemon, the program
    "the hub's address (API_SERVER_URL)": "服务器的地址（API_SERVER_URL）",
    "a file with this program's key (or WAKESTREAM_KEY)": "存有本程序密钥的文件（或 WAKESTREAM_KEY）",
    "a certificate authority to trust for hub and worker (PEM)":
        "用来信任服务器和 GPU 主机的自有证书颁发机构（PEM）",
    "record every message and outcome into this folder": "把每条消息和结果记录到此文件夹",
    "the daemon's folder (WAKESTREAM_DAEMON; default: the user's data folder)":
        "后台程序的文件夹（WAKESTREAM_DAEMON；默认在用户数据文件夹中）",
    "also log into this file; rotated at 10 MB, five are kept (WAKESTREAM_LOG_FILE)":
        "日志也写入此文件，每 10 MB 一份，保留五份（WAKESTREAM_LOG_FILE）",
    "serve Prometheus metrics at /metrics of this address (WAKESTREAM_METRICS)":
        "在此地址的 /metrics 提供 Prometheus 指标（WAKESTREAM_METRICS）",
    "stop when standard input closes (when the parent ends)": "标准输入关闭（父进程结束）时停止",
    "serve TLS with this certificate (chain, PEM)": "用此证书提供 TLS（证书链，PEM）",
    "its key (PEM, not encrypted)": "证书的密钥（PEM，未加密）",
    "exit with code 2 when the hub rejects this program's key (default: retry with backoff)":
        "服务器不接受本程序的密钥时以退出码 2 结束（默认重试，间隔逐次加长）",
    # Waits
    "in seconds, or with a unit: 90, 30min, 2h": "以秒计，或带单位：90、30min、2h",
    "how long to try to reach the hub at the start (default 30; daemon: no limit)":
        "开始时尝试连接服务器多久（默认 30；后台程序不限）",
    "the hub's answer to a submit (default 30)": "服务器答复提交最多多久（默认 30）",
    "the whole wait for the GPU (default 30min; daemon: 30 days)":
        "等待 GPU 的总时间（默认 30min；后台程序：30 天）",
    "interval of progress lines while waiting (default 10)": "多久报告一次仍在等待（默认 10）",
    "interval of health checks until the worker is ready (default 1)": "多久询问一次未就绪的 GPU 主机（默认 1）",
    "the worker's start, once it is online (default 10min)": "已上线的 GPU 主机最多多久未就绪（默认 10min）",
    "how long a worker may be unreachable before the job requests a GPU again (default 30)":
        "GPU 主机多久连不上后任务重新申请 GPU（默认 30）",
    "longest pause without data in an upload or download (default 60)": "上传或下载中最长的静默（默认 60）",
    "interval of progress requests (default 2)": "两次询问进度的间隔（默认 2）",
    "rendering (default 4h)": "整个合成（默认 4h）",
    "the whole job (default 12h; daemon: 30 days)": "整个任务（默认 12h；后台程序：30 天）",
    # daemon, console, jobs, watch, cancel, retry
    "where to listen (WAKESTREAM_LISTEN; default 127.0.0.1:0)": "监听地址（WAKESTREAM_LISTEN；默认 127.0.0.1:0）",
    "open the web console in a browser": "在浏览器中打开网页控制台",
    "disk limit for files of the web console (default 10GB)": "网页控制台文件的磁盘上限（默认 10GB）",
    "jobs that run at once (default 200); others wait in the outbox":
        "同时运行的任务数（默认 200）；其余排队等待",
    "jobs that upload at once (default 2)": "同时上传的任务数（默认 2）",
    "jobs at the worker at once, including its queue (default 8)": "同时在 GPU 主机上的任务数，含排队（默认 8）",
    "jobs that download at once (default 2)": "同时下载的任务数（默认 2）",
    "notify this address when a job is done or failed (WAKESTREAM_WEBHOOK_URL, WAKESTREAM_WEBHOOK_SECRET)":
        "任务完成或失败时通知此地址（WAKESTREAM_WEBHOOK_URL、WAKESTREAM_WEBHOOK_SECRET）",
    "open it in a browser instead of showing the link": "在浏览器中打开，而不是显示链接",
    "all paused jobs": "所有等待下次尝试的任务",
    "include finished jobs": "包括已结束的",
    "one JSON object for each job": "每个任务一个 JSON 对象",
    "a job's id (default: all jobs, from now on)": "任务编号（默认：从现在起的全部任务）",
    "a job's id, as `wakestream jobs` lists it": "任务编号，如 `wakestream jobs` 所列",
    # hub, license
    "where to listen (WAKESTREAM_LISTEN; default 127.0.0.1:8765)": "监听地址（WAKESTREAM_LISTEN；默认 127.0.0.1:8765）",
    "the hub's folder (default: the user's data folder)": "服务器的文件夹（默认在用户数据文件夹中）",
    "worker, monitor or worker,monitor: accept these without a token, for old programs (unsafe)":
        "worker、monitor 或 worker,monitor：不要令牌就接受，旧程序需要（不安全）",
    "connections of one license (default 200)": "一个许可的连接数（默认 200）",
    "connections from one address (default 500); behind a proxy see --behind-proxy":
        "来自一个地址的连接数（默认 500）；经代理时见 --behind-proxy",
    "trust X-Forwarded-For from this proxy, such as 10.0.0.2 or 172.18.0.0/16; may be repeated. No other "
    "address is trusted, not even this machine":
        "信任此代理的 X-Forwarded-For，例如 10.0.0.2 或 172.18.0.0/16；可重复。其他地址（包括本机）一概不信任",
    "price of a GPU per hour, in any currency: 1.20 for each GPU, studio=2.50 for one; may be repeated":
        "GPU 每小时的价格，货币不限：1.20 用于全部，studio=2.50 用于一个；可重复",
    "create a license and print its key (only once)": "签发许可并输出密钥，仅此一次",
    "accept keys that users already have": "接受用户已有的密钥",
    "role of the keys": "密钥的用途",
    "a note, such as a person's name": "备注，例如使用者姓名",
    "a .license file, or one key a line (default: standard input)": ".license 文件，或每行一个密钥（默认：标准输入）",
    "show all licenses, without their keys": "显示全部许可，不含密钥",
    "revoke a license; open connections are closed at once": "吊销许可；已有连接立即关闭",
    "role of the key": "密钥可用作什么",
    "reserve this GPU for the key of a worker or monitor; may be repeated":
        "GPU 主机或监控程序的密钥所属的 GPU，别的密钥不能用它；可重复",
    "give a license a new key and print it (only once)": "为许可换新密钥并输出，仅此一次",
    "how long the old key stays valid (default 24h); 0: not at all":
        "旧密钥还有效多久（默认 24h）；0 表示立即失效",
    "release the GPU names that a license reserved by using them": "释放一个许可因使用而占用的 GPU 名字",
    "one JSON object for each license": "每个许可一个 JSON 对象",
    "as a JSON array": "以 JSON 数组给出",
    "the license's id, or its first 4 characters or more": "许可的编号，或其开头（至少 4 个字符）",
    # monitor
    "this GPU's name at the hub (WAKESTREAM_GPU; default gpu)": "此 GPU 在服务器的名字（WAKESTREAM_GPU；默认 gpu）",
    "process: a program on this machine; command: three commands that start, stop and inspect":
        "process：本机上的一个程序；command：三条开关机器的命令行",
    "the program that --power process starts and stops": "--power process 启动和停止的程序",
    "starts the machine; exit code 75: no capacity": "开机；退出码 75 表示没有资源",
    "stops the machine": "关机",
    "prints running, stopped, starting, stopping, no_capacity or failed":
        "输出 running、stopped、starting、stopping、no_capacity 或 failed",
    "time limit of each command (default 60)": "每条命令最长的时间（默认 60）",
    "the worker's address (HEYGEM_SERVER_URL)": "GPU 主机的地址（HEYGEM_SERVER_URL）",
    "stop after this idle time (WAKESTREAM_IDLE_AFTER; default 30min)":
        "空闲多久后关机（WAKESTREAM_IDLE_AFTER；默认 30min）",
    "longest boot (default 10min)": "最长启动时间（默认 10min）",
    "always stop after this time (default: never)": "运行这么久后一定关机（默认从不）",
    "a machine that runs without a request: adopt it (default), stop it, or only report it":
        "没有请求却在运行的机器：接管（默认）、关机，或只报告",
    "folder of the journal for --power command (default: the user's data folder)":
        "--power command 的记录文件夹（默认在用户数据文件夹中）",
    # worker
    "where to listen (WAKESTREAM_LISTEN; default 127.0.0.1:8383)": "监听地址（WAKESTREAM_LISTEN；默认 127.0.0.1:8383）",
    "folder for files, tasks and results": "存放文件、任务和结果的文件夹",
    "WAKESTREAM_ENGINE; default ffmpeg": "WAKESTREAM_ENGINE；默认 ffmpeg",
    'the engine\'s command line, e.g. "python run.py {video} {audio} {output}"':
        '引擎的命令行，例如 "python run.py {video} {audio} {output}"',
    "time limit of the engine (default 4h)": "引擎最长运行时间（默认 4h）",
    "let the engine use the network (default: no)": "允许引擎访问网络（默认不允许）",
    "memory limit of the engine (default: 3/4 of the memory for ffmpeg, no limit for a command)": (
        "引擎可用的地址空间（默认：ffmpeg 为内存的 3/4，自定义命令不限）"
    ),
    "the address at which clients reach this worker (WAKESTREAM_PUBLIC_URL)":
        "客户端访问此 GPU 主机的地址（WAKESTREAM_PUBLIC_URL）",
    "report 'not initialized' for this long after the start, for tests": "启动后这么久声称未就绪，模拟慢机器",
    "accept requests without a secret, from anyone who can reach the port; only in a closed network":
        "不要求密钥，能连到端口的人都可使用（客户端没有密钥时用）；仅限封闭网络",
    "remove files and results that were not used for this long (default 168h)":
        "删除这么久未用的文件和结果（默认 168h）",
    "remove files unused for over an hour, oldest first, while less than this is free (default 2)":
        "剩余空间少于此数时，删除闲置最久且超过一小时的（默认 2）",
    # status, why, cost, doctor, logs
    "the hub's answer as one JSON object": "以一个 JSON 对象给出服务器的答复",
    "a job of the daemon, gpu for all GPUs, gpu:NAME for one": "后台程序的任务；gpu 指全部 GPU，gpu:NAME 指一个",
    "one JSON object for each sentence": "每句话一个 JSON 对象",
    "from this day (UTC): 2026-01-31, or 30d for thirty days ago (default: today, this month and total)":
        "从这天（UTC）起：2026-01-31，或 30d 表示三十天前；不写则是今天、本月和总计",
    "also wake the GPU briefly, without a job": "不带任务，真的唤醒一下 GPU",
    "time limit for that (default 15min)": "最多多久（默认 15min）",
    "one JSON object for each finding": "每个检查结果一个 JSON 对象",
    "a log file, or - for standard input (default: WAKESTREAM_LOG_FILE, or daemon.log in the daemon's folder)":
        "日志文件，- 为标准输入（默认 WAKESTREAM_LOG_FILE，或后台程序文件夹中的 daemon.log）",
    "only lines of this job": "只要此任务的行",
    "only lines of this level and above": "只要此级别及以上的行",
    "only the last N lines": "只要其中最后 N 行",
    "follow new lines until Ctrl-C": "持续显示新内容，直到 Ctrl-C",
    "one JSON object for each line": "每行一个 JSON 对象",
    # replay, shrink, redact
    "a .jsonl or .jsonl.gz, or a folder of them": "一个 .jsonl 或 .jsonl.gz，或存有它们的文件夹",
    "every field must be as recorded (default)": "每个字段都须与记录一致（默认）",
    "ignore fields that were added after the recording": "容许记录之后新增的字段",
    "what if: replay under another setting, such as online_timeout=60, poll_every=5s or again.max_retries=2":
        "假如：换个设置重放，例如 online_timeout=60、poll_every=5s 或 again.max_retries=2",
    "show events at the recorded speed (1), ten times as fast (10), or at once (0, default)":
        "按发生的节奏显示：1 为记录时的速度，10 为十倍（默认 0：立即）",
    "the results as JSON lines": "以 JSON 行给出结果",
    "replay the logs of one run against each other": "让同一次运行的各份记录互相重放",
    "draw each log as a marble diagram": "把每份记录画成弹珠图",
    "draw one log as a marble diagram into an SVG file": "把一份记录画成弹珠图，存为 SVG 文件",
    "your own pipeline instead of the standard one, or a call that makes it; this folder is searched too":
        "任务所走的流水线，代替标准流水线：你自己的，或构造它的调用；也在当前文件夹中寻找",
    "your own pipeline if the jobs used one, or a call that makes it, such as batch:batched(5, 60.0); this "
    "folder is searched too":
        "任务的流水线（若用了自己的），或构造它的调用，例如 batch:batched(5, 60.0)；也在当前文件夹中寻找",
    "replay in other valid orders and look for a worse outcome": "以同样合法的其他次序重放，寻找更坏的结果",
    "the first order to try (default 0)": "从第几种次序试起（默认 0）",
    "how many orders to try (default 1)": "试多少种（默认 1）",
    "how far a message may move (default 2)": "消息最多移动多远（默认 2）",
    "file for the failing log (default: next to LOG)": "出错的记录（默认在 LOG 旁边）",
    "exit codes: 0 the same as recorded, 1 something differs, 2 a log that cannot be used or wrong usage":
        "退出码：0 与记录一致，1 有不同，2 记录无法使用或用法有误",
    "a .jsonl or .jsonl.gz": "一个 .jsonl 或 .jsonl.gz",
    "what counts as failing; see below": "什么算出错；见下文",
    "the smaller log (default LOG.shrunk.jsonl)": "缩减后的记录（默认 LOG.shrunk.jsonl）",
    "limit of replays (default 5000)": "最多重放多少次（默认 5000）",
    "the result as a JSON object": "以 JSON 对象给出结果",
    "exit codes: 0 the smaller log is written, 1 the log does not fail so, 2 it cannot be used or wrong usage":
        "退出码：0 已写出缩减的记录，1 记录并不这样出错，2 记录无法使用或用法有误",
    "the clean log (default LOG.redacted.jsonl)": "干净的记录（默认 LOG.redacted.jsonl）",
    "EXPR is one condition, or several joined by commas, which must then all hold. Those about a job must hold for one "
    "and":
        "EXPR 是一个条件，或以逗号相连、须同时成立的几个条件。关于任务的条件须对",
    "the same job.": "同一个任务成立。",
    "a job ends so: done, failed, timed_out, cancelled or unfinished":
        "任务这样结束：done、failed、timed_out、cancelled 或 unfinished",
    "(in a monitor's log: its machine's last state, such as off or failed)":
        "（在监控程序的记录中：机器最后的状态，例如 off 或 failed）",
    "with this code (failed:gpu_lost) or in this stage (timed_out:online)":
        "带此代码（failed:gpu_lost）或在此阶段（timed_out:online）",
    "a job fails with this code, such as boot_failed": "任务以此代码失败，例如 boot_failed",
    "a job has an event of this kind, such as retrying": "任务有此类事件，例如 retrying",
    "a job has more events than that; or < or =, as in the next two": "任务的事件多于此数；也可用 < 或 =，下面两项相同",
    "a job takes longer than that": "任务耗时长于此数",
    "a stage of a job does: submit, wake, ready, check, upload, render, download":
        "任务的某个阶段耗时长于此数：submit、wake、ready、check、upload、render、download",
    "it is this job": "就是此任务",
    "the replay does something else than the log says, just as it does now": "重放与记录不同，正如现在这样",
    "the program itself raises an error": "程序本身抛出错误",
    "no event is left, but a job still waits": "没有事件了，却仍有任务在等待",
    # completion, help
    "your shell": "您的 shell",
    "a command (default: list all)": "一个命令（默认：全部，每个一行）",
}  # fmt: skip

_OPTIONS = ("[options]", "[选项]")


def translate(parser: argparse.ArgumentParser) -> None:
    """Put Chinese in the place of all that the parser's help says."""
    if parser.usage:
        parser.usage = parser.usage.replace(*_OPTIONS)
    parser.description = _chinese(parser.description)
    parser.epilog = "\n".join(map(_line, (parser.epilog or "").split("\n")))
    for group in parser._action_groups:  # argparse has no other way to look at a parser
        group.title, group.description = _chinese(group.title), _chinese(group.description)
    for action in parser._actions:
        action.help = _chinese(action.help)
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                choice.help = _chinese(choice.help)


def _chinese(text: str | None) -> str | None:
    return None if text is None else SENTENCES.get(text, text)


def _line(text: str) -> str:
    """A line of the end of a help; in tables the second column is a sentence."""
    found = re.fullmatch(r"(\s*(?:\S+\s{2,})?)(.*)", text)
    assert found is not None  # noqa: S101 - it matches any line
    return found[1] + SENTENCES.get(found[2], found[2])
