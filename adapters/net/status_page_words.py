"""The texts of the status pages, in the language that the browser asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_PHASES: Final = {
    "online": "已就绪", "booted": "即将就绪", "starting": "正在唤醒", "draining": "即将休眠",
    "stopping": "正在休眠", "off": "休眠中", "lost": "失去联系", "no_capacity": "暂无资源", "failed": "启动失败",
    "unknown": "状态未知",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Words:
    """English texts; other languages override them."""

    lang: str = "en"
    hub: str = "Programs connect here. This page shows the current state."
    worker: str = "Clients send their files here. This page shows the current state."
    no_gpu: str = "none known yet"
    more: str = "further GPUs"
    no_boot: str = "none seen yet"
    waiting: str = "Waiting"
    boot: str = "Boot time"
    connected: str = "Connected"
    engine: str = "Engine"
    ready: str = "ready"
    at_work: str = "At work"

    def phase(self, word: str) -> str:
        """The state of a GPU."""
        return word.replace("_", " ")

    def jobs(self, count: int) -> str:
        """A number of jobs."""
        return _many(count, "job")

    def peers(self, clients: int, monitors: int) -> str:
        """The connected programs."""
        return f"{_many(clients, 'client')}, {_many(monitors, 'monitor')}"

    def usual(self, half: float, most: float) -> str:
        """A median and a 90th percentile, in seconds."""
        return f"{self.time(half)}, nine of ten within {self.time(most)}"

    def time(self, seconds: float) -> str:
        """A time with at most two units; a negative one, which differing clocks cause, is 0."""
        return _time(seconds, "h", "min", "s")


@dataclass(frozen=True, slots=True)
class Chinese(Words):
    """简体中文。"""

    lang: str = "zh-CN"
    hub: str = "程序连接到这里。此页面仅显示状态。"
    worker: str = "客户端把文件送到这里。此页面仅显示状态。"
    no_gpu: str = "尚无"
    more: str = "其他 GPU"
    no_boot: str = "尚无记录"
    waiting: str = "等待中"
    boot: str = "启动耗时"
    connected: str = "已连接"
    engine: str = "引擎"
    ready: str = "就绪"
    at_work: str = "进行中"

    def phase(self, word: str) -> str:
        """The state of a GPU."""
        return _PHASES.get(word, word)

    def jobs(self, count: int) -> str:
        """A number of jobs."""
        return f"{count} 个任务"

    def peers(self, clients: int, monitors: int) -> str:
        """The connected programs."""
        return f"{clients} 个客户端、{monitors} 个监控程序"

    def usual(self, half: float, most: float) -> str:
        """A median and a 90th percentile, in seconds."""
        return f"{self.time(half)} (九成不超过 {self.time(most)})"

    def time(self, seconds: float) -> str:
        """A time with at most two units."""
        return _time(seconds, "小时", "分", "秒")


_ENGLISH, _CHINESE = Words(), Chinese()


def words_for(languages: str) -> Words:
    """The texts for an `Accept-Language` header, by its first language."""
    return _CHINESE if languages.strip().lower().startswith("zh") else _ENGLISH


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _time(seconds: float, hour: str, minute: str, second: str) -> str:
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} {hour} {minutes:02} {minute}"
    return f"{minutes} {minute} {rest:02} {second}" if minutes else f"{rest} {second}"
