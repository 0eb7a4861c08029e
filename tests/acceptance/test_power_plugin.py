"""examples/power_shelly is a provider that is installed from a wheel of its own, and passes the shipped cases there."""

import shutil
from pathlib import Path

import pytest

from tests.support.programs.wheels import (
    ROOT,
    command,
    environment_with_plugin,
)

EXAMPLE = ROOT / "examples" / "power_shelly"

pytestmark = pytest.mark.timeout(240)  # two wheels are built


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment_with_plugin(EXAMPLE, tmp_path_factory)


def test_the_installed_provider_is_found_by_its_name(python: Path, tmp_path: Path) -> None:
    code = (
        "from wakestream.adapters.power import config; import wakestream_shelly;"
        "made = config.make_power('shelly', config.PowerConfig('0'));"
        "print(type(made).__module__, wakestream_shelly.__file__, *config.installed())"
    )
    module, file, *names = command(python, "-c", code, cwd=tmp_path).split()
    assert module == "wakestream_shelly"
    assert Path(file).is_relative_to(python.parents[1])
    assert {"shelly", "runpod", "compshare", "vast", "autodl", "command", "process"} <= set(names)


def test_its_own_test_runs_the_shipped_cases(python: Path, tmp_path: Path) -> None:
    for name in ("test_shelly.py", "pyproject.toml"):
        shutil.copy(EXAMPLE / name, tmp_path)
    said = command(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shelly.py", cwd=tmp_path)
    passed = int(said.rpartition(" passed")[0].split()[-1])
    assert passed >= 35, said
