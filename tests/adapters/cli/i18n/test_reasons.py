"""Frequent reasons of failures have a Chinese sentence; the messages here are those of the programs."""

from __future__ import annotations

import time

import pytest

from wakestream.adapters.cli.i18n.catalog import in_chinese, translated
from wakestream.adapters.engines.ffmpeg_kinds import wrong_input
from wakestream.adapters.engines.openai_answers import fault_of
from wakestream.streams.protocol import param_schema


def of_ffmpeg(said: str) -> str:
    return str(wrong_input(said, "media", "audio"))


@pytest.mark.parametrize(
    ("why", "sentence"),
    [
        ("the engine succeeded but wrote no output 'image'", "引擎正常结束，但没有写出结果 image"),
        ("the hub saw its worker come online", "工作程序已连接服务器"),
        ("the provider says stopped", "供应商报告：已关机"),
        ("it ended with its monitor", "随监控程序一起结束"),
        (
            "operating system error: /x: Permission denied; -v shows where it came from",
            "操作系统报错：/x: Permission denied；-v 显示出处",
        ),
        ("still in use (2 jobs)", "还有 2 个任务在使用"),
        ("a person turns it off, and no job holds it", "已手动关闭，没有任务在使用"),
        ("the engine succeeded but its output 'image' is empty", "引擎正常结束，但结果 image 是空文件"),
        ("run.py ended with code 3: CUDA | out of memory", "程序 run.py 以代码 3 结束：CUDA | out of memory"),
        (
            "run.py was killed (code -9), for example because this machine ran out of memory: loading",
            "程序 run.py 被系统终止，可能是内存不足：loading",
        ),
        ("stopped: it ran longer than the limit of 60 s", "已停止：运行时间超过上限 60 秒"),
        (of_ffmpeg("Stream map '0:a:0' matches no streams."), "文件 media 里没有声音"),
        (of_ffmpeg("moov atom not found"), "文件 media 不完整，结尾缺失"),
        (of_ffmpeg("Invalid data found"), "文件 media 已损坏，或不是 ffmpeg 能读的格式"),
        (
            "parameter word: '-x' begins with '-', so the program would read it as an option; begin it with another "
            "character",
            "参数 word 的值 '-x' 不能以 '-' 开头",
        ),
        (
            "the GPU plug takes no jobs at present: ComfyUI is not ready: node X is missing; install the custom nodes "
            "of the workflow",
            "GPU plug 目前不接收任务：ComfyUI 未就绪：缺少节点 X；请安装工作流所需的自定义节点",
        ),
        (
            "GPU plug: Cog is not ready: the set-up of its model failed (SETUP_FAILED): no weights here",
            "GPU plug：Cog 未就绪：模型初始化失败。no weights here",
        ),
        (
            "the engine cannot work: the model server is not ready: Loading model",
            "引擎无法工作：模型服务器未就绪：Loading model",
        ),
        (
            str(fault_of(404, {"error": "model 'x' not found"}, "/v1", None)),
            "模型服务器没有此模型（HTTP 404: model 'x' not found）；请在那里加载，或改用别的模型",
        ),
        ("Gradio at http://127.0.0.1:9 does not answer: refused", "Gradio 没有响应（http://127.0.0.1:9）：refused"),
        (
            "ComfyUI at http://127.0.0.1:9 does not answer: nothing listens there (connection refused)",
            "ComfyUI 没有响应（http://127.0.0.1:9）：该地址上没有程序在监听（连接被拒绝）",
        ),
        (
            "the depot at s3.example: no connection: nothing listens there (connection refused)",
            "文件仓库 s3.example：无法连接：该地址上没有程序在监听（连接被拒绝）",
        ),
        (
            "the depot at s3.example answered HTTP 503 SlowDown: it is overloaded or has a fault",
            "文件仓库 s3.example 暂时不能应答（HTTP 503）",
        ),
        (
            "the bucket films answered HeadObject with AccessDenied; run `wakestream depot check`",
            "存储桶 films 对 HeadObject 的应答是 AccessDenied；请在服务器上运行 `wakestream depot check`",
        ),
        (
            "rows.csv, line 1: it has 2000 columns; a table has at most 1000",
            "rows.csv，第 1 行：有 2000 列；表格最多 1000 列",
        ),
        ("job job-1 is at the GPU already; only a job that waits can be moved", "任务 job-1 已在 GPU 上，不能移动"),
        ("job job-1 has ended (done); only a job that waits can be moved", "任务 job-1 已结束，不能移动"),
        (
            "parameter time: the video has no picture at 7 s; it is 2 s long; give less",
            "视频在第 7 秒没有画面，请改小 time",
        ),
    ],
)
@pytest.mark.usefixtures("chinese")
def test_a_reason_of_an_engine_has_a_chinese_sentence(why: str, sentence: str) -> None:
    assert translated(why) == sentence


@pytest.mark.parametrize("word", [word for word in param_schema._WORDS if param_schema._WORDS[word].remedy])
def test_what_each_rule_of_a_parameter_asks_for_has_a_chinese_sentence(word: str) -> None:
    assert in_chinese(f"parameter sizes.1: 5 {param_schema._WORDS[word].remedy.format(3)}")


def test_in_english_nothing_is_translated() -> None:
    assert translated("the engine succeeded but wrote no output 'image'") is None


PARTS = [
    "x, line 1: ", "x, a, column b: ", "GPU a: ", "argument a: ", "a; its log: ", "no connection: ", "the depot at a: ",
    "at work: a; ", "a is empty; ", "parameter a: b is too small; give ", "there is no kind 'a'; there are b. ", ", ",
    "(", "there is no kind 'a'; there are b. Did you mean ",
]  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_a_long_text_of_others_is_looked_at_in_linear_time(part: str) -> None:
    def seconds(length: int) -> float:
        text = (part * length)[:length]
        began = time.process_time()
        in_chinese(text)
        return time.process_time() - began

    short = min(seconds(4_000 + extra) for extra in range(3))
    assert min(seconds(64_000 + extra) for extra in range(3)) < 48 * short + 0.1


@pytest.mark.parametrize(
    ("why", "sentence"),
    [
        ("run.py ended with code 3: nobody holds it", "程序 run.py 以代码 3 结束：nobody holds it"),
        ("operating system error: running; -v shows where", "操作系统报错：running；-v 显示出处"),
        ("the model server failed (stopped)", "模型服务器出错（stopped）"),
        ("parameter word: running has the wrong type; give a text", "参数 word：running 的类型不对"),
        ("the provider says stopped; its log: stopped", "供应商报告：已关机；它的日志：stopped"),
    ],
)
def test_a_text_of_others_within_a_reason_stays_as_it_is(why: str, sentence: str) -> None:
    assert in_chinese(why) == sentence


def test_a_reason_in_a_reason_in_a_reason_is_translated_and_no_more_than_a_few() -> None:
    why = "GPU a: the engine cannot work: ComfyUI at b does not answer: nothing listens there (connection refused)"
    assert in_chinese(why) == "GPU a：引擎无法工作：ComfyUI 没有响应（b）：该地址上没有程序在监听（连接被拒绝）"
    assert in_chinese("GPU a: " * 9_000 + "stopped")
