from wakestream.adapters.cli.doctor.result import Finding, Level
from wakestream.adapters.cli.doctor.run import examine

__all__ = ["Finding", "Level", "examine"]
