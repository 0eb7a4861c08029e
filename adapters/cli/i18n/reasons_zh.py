"""中文：常见的出错原因；其他程序以英文给出，认识的译成中文。"""

from __future__ import annotations

import re

_FILES = {
    r"(.+) does not exist; check its name": "找不到文件 {}",
    r"(.+) is a folder; name .*": "{} 是文件夹，请指定文件",
    r"(.+) is empty; .*": "文件 {} 是空的",
    r"(.+) cannot be read \((.+)\); .*": "无法读取文件 {}（{}）",
    r"(.+) has no ending that tells its kind; .*": "文件 {} 没有扩展名",
    r"the folder (.+) for the result does not exist; .*": "存放结果的文件夹 {} 不存在",
    r"the folder (.+) for the result is not writable; .*": "存放结果的文件夹 {} 无法写入",
    r"the result would replace (.+), which is .*": "结果会覆盖输入文件 {}，请用 -o 另取名字",
    r"(.+) was written to while it was read; .*": "文件 {} 在读取时被改动，请写完后重新提交",
}


def translated(reason: str) -> str | None:
    """The reason in Chinese, or None for one that is not in the list."""
    for english, chinese in _FILES.items():
        if found := re.fullmatch(english, reason, re.DOTALL):
            return chinese.format(*found.groups())
    return None
