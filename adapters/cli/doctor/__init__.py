from wakestream.adapters.cli.doctor.result import CheckResult, Level
from wakestream.adapters.cli.doctor.run import examine

__all__ = ["CheckResult", "Level", "examine"]
